"""A file to be scored is read as the recipe's own files are: dialect, marks of missing values, dates, sheet, keys."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from intake_project import NewProject
from table_files import write_export

from aeops.data.client_files import ReadsClientFiles, ReadsClientTexts
from aeops.data.sources.catalogue import load_source
from aeops.errors import DataError
from aeops.kinds.series_readings import read_columns
from aeops.kinds.table_rows import dataset_rows


def client_rows(project: NewProject, name: str, path: Path) -> np.ndarray:
    """The rows of a file as the recipe `name` reads it; with the types of its columns."""
    recipe = project.recipe(name)
    source = load_source(recipe.data.source.kind)
    assert isinstance(source, ReadsClientFiles)
    found = source.client_columns(recipe, path)
    assert found is not None
    return dataset_rows(found.columns, recipe.fit.input.columns, found.from_text)


@pytest.fixture
def export(project: NewProject, tmp_path: Path) -> Path:
    """An export in another dialect with lines before the header and behind the rows, of which the recipe `export` was made."""
    file = write_export(tmp_path / "export.csv")
    assert project.new("export", file, "--yes")[0] == 0
    return file


def test_the_raw_export_and_an_excerpt_of_it_are_the_rows_of_the_dataset(
    project: NewProject, export: Path, tmp_path: Path
) -> None:
    expected = project.samples("export").array[:]
    assert client_rows(project, "export", export).tobytes() == expected.tobytes()
    lines = export.read_bytes().splitlines(keepends=True)
    header = next(place for place, line in enumerate(lines) if line.count(b";") > 3)
    excerpt = tmp_path / "excerpt.csv"
    excerpt.write_bytes(b"".join(lines[header : header + 4]))  # nothing before the header, nothing behind the rows
    assert client_rows(project, "export", excerpt).tobytes() == expected[:3].tobytes()


def test_a_row_of_another_length_is_refused_by_its_number(project: NewProject, export: Path) -> None:
    lines = export.read_bytes().splitlines(keepends=True)
    header = next(place for place, line in enumerate(lines) if line.count(b";") > 3)
    lines[header + 5] = b"a;b\r\n"
    export.write_bytes(b"".join(lines))
    with pytest.raises(DataError, match=r"export.csv: row 5: 2 cells, expected"):
        client_rows(project, "export", export)


def plain_rows(count: int = 200) -> pd.DataFrame:
    draw = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "key": [f"k{number}" for number in range(count)],
            "length": draw.normal(50, 2, count).round(2),
            "width": np.where(np.arange(count) % 20 == 3, -999.0, draw.normal(9, 1, count)),
        }
    )


@pytest.mark.parametrize("form", ["csv", "parquet", "xlsx"])
def test_marks_of_missing_values_count_in_every_form(project: NewProject, tmp_path: Path, form: str) -> None:
    rows, file = plain_rows(), tmp_path / f"rows.{form}"
    plain_rows().to_csv(tmp_path / "training.csv", index=False)
    assert project.new("rows", tmp_path / "training.csv", "--yes")[0] == 0
    writers: dict[str, Any] = {"csv": rows.to_csv, "parquet": rows.to_parquet, "xlsx": rows.to_excel}
    writers[form](file, index=False)
    found = client_rows(project, "rows", file)
    assert np.isnan(found["width"]).sum() == 10
    np.testing.assert_allclose(found["length"], rows["length"])


def test_marks_of_missing_values_go_into_the_columns_and_so_into_the_bundle(project: NewProject, tmp_path: Path) -> None:
    plain_rows().to_csv(tmp_path / "rows.csv", index=False)
    assert project.new("rows", tmp_path / "rows.csv", "--yes")[0] == 0
    assert {column.name: column.nulls for column in project.recipe("rows").fit.input.columns} == {
        "length": (),
        "width": ("-999",),
    }
    file = project.project.recipe_file("rows")
    file.write_text(file.read_text().replace("{width: ['-999']}", "{width: ['-999'], '*': ['?']}"))
    assert [column.nulls for column in project.recipe("rows").fit.input.columns] == [("?",), ("-999", "?")]


def test_numbers_with_points_are_read_beside_a_recipe_of_commas(project: NewProject, tmp_path: Path) -> None:
    rows = plain_rows()
    rows.to_csv(tmp_path / "german.csv", sep=";", decimal=",", index=False)
    assert project.new("german", tmp_path / "german.csv", "--yes")[0] == 0
    rows.to_csv(tmp_path / "standard.csv", index=False)
    for name in ("german.csv", "standard.csv"):
        np.testing.assert_allclose(client_rows(project, "german", tmp_path / name)["length"], rows["length"])


def test_lines_of_json_are_texts_by_their_ids(project: NewProject, tmp_path: Path) -> None:
    lines = []
    for number in range(200):
        lines.append(json.dumps({"id": f"n{number}", "body": f"request {number} was served in {number % 17} ms", "level": "ok"}))
    file = tmp_path / "log.jsonl"
    file.write_text("\n".join(lines))
    assert project.new("log", file, "--yes", "--labels", "none")[0] == 0
    recipe = project.recipe("log")
    source = load_source(recipe.data.source.kind)
    assert isinstance(source, ReadsClientTexts)
    file.write_text("\n".join([lines[3], "{", '{"id": "n9", "body": ""}', lines[4].replace('"level": "ok"', '"more": 1')]))
    found = source.client_texts(recipe, file)
    assert found is not None
    assert list(found.names) == ["n3", "n4"]
    assert found.values.tolist()[0] == "request 3 was served in 3 ms"
    assert found.refused == {"line 2": "no JSON: {", "line 3 (n9)": "no text: it is empty"}


def test_a_workbook_that_is_cut_is_refused_by_name(project: NewProject, tmp_path: Path) -> None:
    file = tmp_path / "rows.xlsx"
    plain_rows().to_excel(file, index=False)
    assert project.new("rows", file, "--yes")[0] == 0
    file.write_bytes(file.read_bytes()[:900])
    with pytest.raises(DataError, match=r"rows\.xlsx: no readable workbook"):
        client_rows(project, "rows", file)


@pytest.mark.parametrize("clock", ["epoch", "two columns"])
def test_readings_to_be_scored_have_the_times_of_the_recipe(project: NewProject, tmp_path: Path, clock: str) -> None:
    times = pd.Timestamp("2026-01-20") + pd.to_timedelta(np.arange(400) * 60, unit="s")
    rows = pd.DataFrame({"level": np.sin(np.arange(400) / 9)})
    if clock == "epoch":
        rows["ts"] = (times - pd.Timestamp(0)) // pd.Timedelta("1ms")
    else:
        rows["day"], rows["clock"] = times.strftime("%d.%m.%Y"), times.strftime("%H:%M")
    rows.to_csv(tmp_path / "tank.csv", index=False, sep=";", decimal=",")
    assert project.new("tank", tmp_path / "tank.csv", "--yes")[0] == 0
    recipe = project.recipe("tank")
    source, steps = load_source("series"), recipe.fit.input.steps
    assert isinstance(source, ReadsClientFiles)
    assert steps is not None
    rows.to_parquet(tmp_path / "tank.parquet")
    for name in ("tank.csv", "tank.parquet"):
        found = source.client_columns(recipe, tmp_path / name)
        assert found is not None
        read = read_columns(found.columns, recipe.fit.input.channels, steps, found.from_text)
        assert read.times.tolist() == [time.timestamp() for time in times]
    if clock == "two columns":  # the standard form, which the inbox and the service take
        standard = {"day": times.strftime("%Y-%m-%d"), "clock": times.strftime("%H:%M:%S"), "level": rows["level"]}
        read = read_columns(standard, recipe.fit.input.channels, steps, from_text=False)
        assert read.times.tolist() == [time.timestamp() for time in times]
