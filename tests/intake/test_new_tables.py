"""`ae new` on tables: dialects, types, what is left out, and that its recipe reads the very rows that it looked at."""

import datetime
import gzip
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.feather as pf
import pyarrow.parquet as pq
import pytest
from intake_project import NewProject
from table_files import export_rows, write_export

from aeops.errors import DataError
from aeops.intake.text_dialect import find_dialect, find_encoding


def frame(count: int = 300) -> pd.DataFrame:
    draw = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "part_id": [f"p{number:04d}" for number in range(count)],
            "length": draw.normal(50, 2, count),
            "holes": draw.integers(0, 9, count),
            "colour": draw.choice(["red", "green", "blue"], count),
            "made": pd.Timestamp("2026-01-01") + pd.to_timedelta(draw.integers(0, 9000, count), unit="h"),
            "class": np.where(np.arange(count) % 10 == 0, "bad", "good"),
        }
    )


def check_parts(project: NewProject, name: str, count: int = 300) -> None:
    """The recipe reads every row, by its types, ids and labels."""
    recipe, samples = project.recipe(name), project.samples(name)
    assert [(column.name, column.type) for column in recipe.fit.input.columns] == [
        ("length", "number"),
        ("holes", "integer"),
        ("colour", "category"),
        ("made", "date"),
    ]
    assert recipe.label_names == ("bad", "good")
    assert recipe.data.novelty == (0,)
    assert samples.ids is not None
    assert list(samples.ids) == frame(count)["part_id"].tolist()
    assert samples.labels is not None
    assert (samples.labels == 0).sum() == count / 10
    np.testing.assert_allclose(samples.array[:count]["length"], frame(count)["length"], rtol=1e-6)
    assert not any(row["(mistyped)"] for row in samples.array[:count])


def write_parts(kind: str, folder: Path) -> Path:
    """Write the parts as a file or folder of this kind."""
    parts, path = frame(), folder / f"parts.{kind}"
    if kind == "csv":
        parts.to_csv(path, index=False)
    elif kind == "tsv.gz":
        path.write_bytes(gzip.compress(parts.to_csv(index=False, sep="\t").encode("utf-16")))
    elif kind == "csv.zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("inner/parts.csv", parts.to_csv(index=False, sep=";", decimal=","))
    elif kind == "parquet":
        table = pa.Table.from_pandas(parts, preserve_index=False)
        table = table.set_column(3, "colour", table["colour"].dictionary_encode())
        pq.write_table(table.set_column(4, "made", table["made"].cast(pa.timestamp("us", tz="Europe/Berlin"))), path)
    elif kind == "feather":
        pf.write_feather(parts, path)
    elif kind == "arrow":
        table = pa.Table.from_pandas(parts, preserve_index=False)
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
    elif kind == "xlsx":
        parts.to_excel(path, index=False)
    elif kind == "sqlite":
        with closing(sqlite3.connect(path)) as connection:
            parts.to_sql("parts", connection, index=False)
    else:
        path = folder / "parts"
        path.mkdir()
        for number in range(3):
            parts[number * 100 : number * 100 + 100].to_csv(path / f"{number}.csv", index=False)
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv.gz", "csv.zip", "parquet", "feather", "arrow", "xlsx", "sqlite", "folder"])
def test_the_same_rows_are_understood_in_every_kind_of_file(project: NewProject, tmp_path: Path, kind: str) -> None:
    code, printed, errors = project.new("parts", write_parts(kind, tmp_path), "--yes")
    assert (code, errors) == (0, "")
    assert "300 rows of 6 columns" in printed
    check_parts(project, "parts")


def test_an_export_with_every_oddity_is_read_and_each_is_named(project: NewProject, tmp_path: Path) -> None:
    rows = export_rows()
    rows.insert(100, ["K9", "verschoben", "1"])
    rows.append(["K00003", *rows[0][1:]])
    path = write_export(tmp_path / "anlage.csv", rows)
    code, printed, errors = project.new("anlage", path, "--labels", "Zustand", "--anomalies", "defekt")
    assert (code, errors) == (0, "")
    for text in (
        "Windows-1252; look whether 'Köln' is right",
        "2 lines before the header",
        "1 line behind the last row",
        "decimal mark ','",
        "grouped by '.'",
        "Version is left out: it is constant",
        "Bemerkung is left out: it holds texts",
        "Fehlerart is left out: each of its values stands with one Zustand alone",
        "Druck: -999 read as missing",
        "Menge: ? read as missing",
        "row 101: 3 cells, expected 9: K9;verschoben;1",
    ):
        assert text in printed, text
    samples = project.samples("anlage")
    assert samples.ids is not None
    assert len(samples.ids) == 400
    assert samples.set_aside == {
        "row 101": "3 cells, expected 9: K9;verschoben;1",
        "row 4 (K00003)": "its id stands again in a later row, which replaces it",
    }
    values = samples.array[:400]
    assert np.isnan(values["Druck"][0])
    assert 1000 < np.nanmin(values["Druck"]) < np.nanmax(values["Druck"]) < 1500
    assert np.isnan(values["Menge"][::31]).all()
    date = datetime.datetime.fromtimestamp(values["Zeit"][0], datetime.UTC)
    assert (date.day, date.month, date.year, date.hour) == (1, 1, 2026, 8)
    assert not any(values["(mistyped)"])
    assert values["Ort"][0].decode() == "Köln"


def test_dirty_rows_are_set_aside_by_name_and_by_reason(project: NewProject, tmp_path: Path) -> None:
    parts = frame().astype(object)
    parts.loc[5, "length"] = "fifty"
    parts.loc[6, "holes"] = 3.5
    parts.loc[7, "made"] = "yesterday"
    parts.loc[8, "class"] = "unheard of"
    parts.loc[9, "class"] = ""
    parts.loc[11, "part_id"] = "p0012"
    parts.loc[13, "part_id"] = ""
    parts.loc[14, "length"] = "1e999"
    text = parts.to_csv(index=False) + "p9999,1,2\n" + "p9998,1,2,red,2026-01-01,good,more,cells\n"
    (tmp_path / "dirty.csv").write_text(text)
    assert project.new("dirty", write_parts("csv", tmp_path), "--yes")[0] == 0
    file = project.project.recipe_file("dirty")
    file.write_text(file.read_text().replace("parts.csv", "dirty.csv"))
    samples = project.samples("dirty")
    assert {name: reason.partition(":")[0] for name, reason in samples.set_aside.items()} == {
        "row 9 (p0008)": "unknown label 'unheard of'",
        "row 10 (p0009)": "no label",
        "row 12 (p0012)": "its id stands again in a later row, which replaces it",
        "row 14": "no id",
        "row 301": "3 cells, expected 6",
        "row 302": "8 cells, expected 6",
    }
    assert samples.ids is not None
    mistyped = {samples.ids[row]: cell.decode() for row, cell in enumerate(samples.array[:]["(mistyped)"]) if cell}
    assert mistyped == {"p0005": "length: 'fifty'", "p0006": "holes: 3.5", "p0007": "made: 'yesterday'"}
    assert np.isinf(samples.array[:]["length"]).sum() == 1


@pytest.mark.parametrize(
    ("lines", "decimal", "thousands"),
    [
        (["a;b", "1,5;2", "2,25;3"], ",", ""),
        (["a,b", "1.5,2", "2.25,3"], ".", ""),
        (["a;b", "1.234,5;2", "17,2;3"], ",", "."),
        (["a;b", "1,234.5;2", "17.2;3"], ".", ","),
        (["a\tb", "1'234.5\t2", "17.2\t3"], ".", "'"),
        (["a;b", "1 234,5;2", "17,2;3"], ",", " "),
        (["a,b", "0.123,2", "10.500,3", "812.250,1"], ".", ""),  # three decimals each, and no groups
        (["a;b;c", "0.123;1.50;2", "10.500;17.25;3"], ".", ""),
        (["a;b", "14,230;1.065,000", "13,200;780,000"], ",", "."),
        (["a;b", "14,230;12,345.67", "13,200;1.5"], ".", ","),
        (["a;b", "1,5;n.a.", "2,25;1.234,5", "k.A.;17,5", "3,5;1"], ",", "."),
        (["a,b", '"14,230",2', '"1,200",3'], ".", ","),
    ],
)
def test_marks_of_numbers_are_found(lines: list[str], decimal: str, thousands: str) -> None:
    dialect, _ = find_dialect("\n".join([lines[0], *lines[1:] * 20]).encode())
    assert (dialect.decimal, dialect.thousands) == (decimal, thousands)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_encodings_are_found(encoding: str) -> None:
    text = "name;wert\nKöln;1\n" * 20
    assert text.encode(encoding).decode(find_encoding(text.encode(encoding))[0]).removeprefix("\ufeff") == text
    with pytest.raises(DataError, match="no text"):
        find_encoding(bytes(range(256)) * 10)


def test_a_file_without_a_header_gets_names(project: NewProject, tmp_path: Path) -> None:
    np.savetxt(tmp_path / "plain.txt", np.random.default_rng(0).normal(size=(200, 3)), delimiter=",")
    code, printed, _ = project.new("plain", tmp_path / "plain.txt", "--yes")
    assert code == 0
    assert "no line names the columns" in printed
    assert [column.name for column in project.recipe("plain").fit.input.columns] == ["c0", "c1", "c2"]
    assert len(project.samples("plain").array) == 200


def test_partitions_are_columns_and_lists_are_refused_by_name(project: NewProject, tmp_path: Path) -> None:
    for year, place in ((2025, "s%C3%BCd"), (2026, "n%20ord")):  # as Spark and Arrow write them
        folder = tmp_path / "years" / f"year={year}" / f"place={place}"
        folder.mkdir(parents=True)
        pq.write_table(pa.Table.from_pandas(frame(150), preserve_index=False), folder / "a.parquet")
    assert project.new("years", tmp_path / "years", "--yes", "--ignore", "part_id")[0] == 0
    assert "year" in [column.name for column in project.recipe("years").fit.input.columns]
    rows = project.samples("years").array[:]
    assert {bytes(place).decode() for place in rows["place"]} == {"süd", "n ord"}
    assert len(rows) == 300
    struct = pa.array([{"x": float(number % 7), "y": 2.0 * number} for number in range(200)])
    lists = pa.array([[number] for number in range(200)])
    pq.write_table(pa.table({"point": struct}), tmp_path / "struct.parquet")
    assert project.new("struct", tmp_path / "struct.parquet", "--yes")[0] == 0
    assert [column.name for column in project.recipe("struct").fit.input.columns] == ["point.x", "point.y"]
    pq.write_table(pa.table({"readings": lists, "point": struct}), tmp_path / "lists.parquet")
    code, _, errors = project.new("lists", tmp_path / "lists.parquet", "--yes")
    assert code == 3
    assert "the columns readings hold lists: leave them out by --ignore readings" in errors
    assert project.new("lists", tmp_path / "lists.parquet", "--yes", "--ignore", "readings")[0] == 0
    assert project.samples("lists").array[:]["point.y"].tolist() == [2.0 * number for number in range(200)]


def test_decimals_and_times_with_zones_are_numbers_and_dates_in_utc(project: NewProject, tmp_path: Path) -> None:
    from decimal import Decimal

    times = pa.array([datetime.datetime(2026, 7, 1, 12, tzinfo=datetime.UTC)] * 199 + [None], pa.timestamp("us", tz="Asia/Tokyo"))
    odd = times.to_pylist()
    odd[::2] = [datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)] * 100
    prices = pa.array([Decimal(number).scaleb(-2) for number in range(200)][::-1])
    pq.write_table(pa.table({"price": prices, "sold": pa.array(odd, times.type)}), tmp_path / "prices.parquet")
    assert project.new("prices", tmp_path / "prices.parquet", "--yes")[0] == 0
    values = project.samples("prices").array[:]
    assert values["price"][0] == 1.99
    assert values["sold"][1] == datetime.datetime(2026, 7, 1, 12, tzinfo=datetime.UTC).timestamp()
    assert np.isnan(values["sold"][-1])


@pytest.mark.parametrize("name", ["runs.parquet", "runs.xlsx"])
def test_lengths_of_time_and_times_of_a_day_are_seconds(project: NewProject, tmp_path: Path, name: str) -> None:
    started = [datetime.time(number % 24, 30) for number in range(200)]
    lasted = [datetime.timedelta(minutes=number) for number in range(200)]
    runs = pd.DataFrame({"started": started, "lasted": lasted})
    if name.endswith(".xlsx"):
        book = openpyxl.Workbook()
        sheet = book.active
        for row in [("started", "lasted"), *zip(started, lasted, strict=True)]:
            sheet.append(row)
        book.save(tmp_path / name)
    else:
        runs.to_parquet(tmp_path / name)
    assert project.new("runs", tmp_path / name, "--yes")[0] == 0
    rows = project.samples("runs").array[:]
    assert rows["started"][:2].tolist() == [1800.0, 5400.0]
    assert rows["lasted"][:3].tolist() == [0.0, 60.0, 120.0]


@pytest.mark.slow
def test_several_sheets_and_tables_are_named_and_one_is_chosen(project: NewProject, tmp_path: Path) -> None:
    book, base = tmp_path / "book.xlsx", tmp_path / "base.db"
    with pd.ExcelWriter(book) as writer:
        for name in ("one", "two"):
            frame().to_excel(writer, sheet_name=name, index=False)
    with closing(sqlite3.connect(base)) as connection:
        for name in ("one", "two"):
            frame().to_sql(name, connection, index=False)
    for path in (book, base):
        code, _, errors = project.new("parts", path, "--yes", "--force")
        assert code == 2
        assert "holds one, two: say which by --table NAME" in errors
        assert project.new("parts", path, "--yes", "--force", "--table", "two")[0] == 0
        check_parts(project, "parts")
        assert project.new("parts", path, "--yes", "--force", "--table", "three")[0] == 3
    assert project.new("parts", base, "--yes", "--force", "--query", "select * from one")[0] == 0
    check_parts(project, "parts")
    code, _, errors = project.new("parts", base, "--yes", "--force", "--query", "delete from one")
    assert code == 3
    assert "readonly" in errors


def test_rows_in_the_order_of_time_are_said_to_be_a_series(project: NewProject, tmp_path: Path) -> None:
    parts = frame()
    parts["made"] = pd.date_range("2026-01-01", periods=len(parts), freq="min")
    parts.loc[100, "made"] = parts.loc[50, "made"]
    parts.to_csv(tmp_path / "log.csv", index=False)
    _, printed, _ = project.new("log", tmp_path / "log.csv", "--yes")
    assert "made orders the rows in time (1 step back, 1 repeated): they may be a series" in printed
    assert "made" not in [column.name for column in project.recipe("log").fit.input.columns]


BAD_FILES: dict[str, tuple[bytes, str]] = {
    "empty.csv": (b"", "the file is empty"),
    "blank.csv": (b"\n\n\n", "the file is empty"),
    "binary.csv": (bytes(range(256)) * 50, "no text"),
    "cut.parquet": (b"PAR1 and then nothing", "not readable as arrow"),
    "cut.csv.gz": (gzip.compress(b"a,b\n1,2\n" * 500)[:40], "cannot be unpacked"),
    "no.xlsx": (b"PK\x03\x04 but no workbook", "no readable workbook"),
    "no.sqlite": (b"not a database at all, but a text" * 100, "SQLite"),
    "same.csv": (b"a,a\n1,2\n" * 1, "expected columns of different names"),
    "old.xls": (b"\xd0\xcf\x11\xe0", "libreoffice --headless --convert-to xlsx old.xls"),
    "data.h5": (b"\x89HDF", "convert it to its arrays as .npy"),
    "data.mat": (b"MATLAB 5.0", "scipy.io.loadmat"),
    "data.avro": (b"Obj\x01", "pip install fastavro"),
    "data.pkl": (b"\x80\x04", "A pickle runs code as it is opened"),
    "what.xyz": (b"?", "nothing is known of this kind of file"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_cannot_be_read_is_refused_by_name_with_what_to_do(project: NewProject, tmp_path: Path, name: str) -> None:
    content, message = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    code, _, errors = project.new("x", tmp_path / name, "--yes")
    assert code == 3, errors
    assert message in errors
    assert name in errors
    assert not list((project.root / "recipes").iterdir())


def test_an_archive_that_leads_out_or_holds_several_files_is_refused(project: NewProject, tmp_path: Path) -> None:
    for names, message in ((["../out.csv"], "leads out of it"), (["a.csv", "b.csv"], "expected one text file in the archive")):
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
            for name in names:
                archive.writestr(name, "a,b\n1,2\n")
        code, _, errors = project.new("x", tmp_path / "x.zip", "--yes")
        assert code == 3
        assert message in errors


def test_values_that_would_break_a_line_of_yaml_and_labels_that_cannot_be_stay_out_of_the_recipe(
    project: NewProject, tmp_path: Path
) -> None:
    parts = frame()
    parts["colour"] = parts["colour"].replace("red", "r\x85e\u2028d\x07# x: [")
    parts.to_parquet(tmp_path / "odd.parquet")
    assert project.new("odd", tmp_path / "odd.parquet", "--yes")[0] == 0
    assert len(project.samples("odd").array) == 300
    parts["class"] = parts["class"].replace("bad", "x" * 61)
    parts.to_parquet(tmp_path / "long.parquet")
    code, _, errors = project.new("long", tmp_path / "long.parquet", "--yes")
    assert code == 3
    assert "expected printable names of up to 60 characters" in errors


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"text": {"decimal": ",", "thousands": ","}}, "they must differ"),
        ({"text": {"encoding": "utf-99"}}, "expected a name that Python knows"),
        ({"text": {"delimiter": ";;"}}, "expected one character"),
        ({"table": "x"}, "table is of workbooks and databases"),
        ({"id": "length"}, "expected no column length"),
        ({"nulls": {"nowhere": ["-"]}}, "expected columns of input.columns, got nowhere"),
        ({"path": "a.pdf"}, "or a folder of such files, got 'a.pdf'"),
    ],
)
def test_settings_that_cannot_be_are_mistakes_of_the_recipe(
    project: NewProject, tmp_path: Path, source: dict[str, Any], message: str
) -> None:
    import yaml

    from aeops.errors import UsageError

    assert project.new("parts", write_parts("csv", tmp_path), "--yes")[0] == 0
    keys = project.keys("parts")
    keys["data"]["source"] |= source
    project.project.recipe_file("parts").write_text(yaml.safe_dump(keys))
    with pytest.raises(UsageError, match=message):
        project.recipe("parts")


def test_the_code_is_half_of_what_is_rebuilt_and_not_of_what_is_missing(project: NewProject, tmp_path: Path) -> None:
    """Eight columns that may lack values are eight numbers: a code of as many would teach nothing, and PCA would be perfect."""
    draw = np.random.default_rng(0)
    values = pd.DataFrame(draw.normal(size=(300, 8))).add_prefix("m")
    values.mask(draw.random(values.shape) < 0.1).to_parquet(tmp_path / "gaps.parquet")
    assert project.new("gaps", tmp_path / "gaps.parquet", "--yes")[0] == 0
    keys = project.keys("gaps")
    assert keys["model"]["bottleneck"]["size"] == 4
    assert keys["evaluate"]["pca_components"] == 4


def test_normal_and_one_other_value_are_labels_and_among_several_it_is_said(project: NewProject, tmp_path: Path) -> None:
    parts = frame().drop(columns="class")
    parts["state"] = np.where(np.arange(len(parts)) % 10, "Normal", "pathologic")
    parts["load"] = np.array(["low", "normal", "high"])[np.arange(len(parts)) % 3]
    parts.to_parquet(tmp_path / "states.parquet")
    assert project.new("states", tmp_path / "states.parquet", "--yes")[0] == 0
    recipe = project.recipe("states")
    assert (recipe.label_names, recipe.data.novelty) == (("Normal", "pathologic"), (1,))
    assert "load" in [column.name for column in recipe.fit.input.columns]
    parts.drop(columns="state").to_parquet(tmp_path / "loads.parquet")
    _, printed, _ = project.new("loads", tmp_path / "loads.parquet", "--yes")
    assert "load has the value normal among others: if it says what is normal, --labels load" in printed


def test_numbers_that_a_tool_wrote_as_texts_are_numbers_and_codes_stay_texts(project: NewProject, tmp_path: Path) -> None:
    parts = frame()
    parts["length"] = parts["length"].astype(str)
    parts["zip"] = [f"0{number % 7}123" for number in range(len(parts))]
    parts.to_parquet(tmp_path / "texts.parquet")
    code, _, errors = project.new("texts", tmp_path / "texts.parquet", "--yes")
    assert (code, errors) == (0, "")
    types = {column.name: column.type for column in project.recipe("texts").fit.input.columns}
    assert (types["length"], types["zip"]) == ("number", "category")
    np.testing.assert_allclose(project.samples("texts").array[:]["length"], frame()["length"])


@pytest.mark.parametrize(("every", "is_few"), [(10, False), (25, True)])
def test_few_anomalies_do_not_compare_models(project: NewProject, tmp_path: Path, every: int, is_few: bool) -> None:
    """A run refuses a comparison by fewer than 20 anomalies before it trains, so that a proposal must not ask for one."""
    parts = frame()
    parts["class"] = np.where(np.arange(len(parts)) % every == 0, "bad", "good")
    parts.to_parquet(tmp_path / "parts.parquet")
    assert project.new("parts", tmp_path / "parts.parquet", "--yes")[0] == 0
    gate = project.keys("parts")["gate"]
    assert ("switched_off" in gate.get("not_worse_than_champion", {})) == is_few
    assert ("keeps_the_champions_power" in gate) == is_few


def test_few_rows_leave_enough_to_test_by(project: NewProject, tmp_path: Path) -> None:
    frame(120).drop(columns="class").to_parquet(tmp_path / "parts.parquet")
    assert project.new("parts", tmp_path / "parts.parquet", "--yes")[0] == 0
    assert project.keys("parts")["data"]["split"] == {"validation": 0.1, "calibration": 0.2, "test": 0.3}


def test_of_a_wide_table_the_first_columns_are_printed_and_all_stand_in_the_recipe(project: NewProject, tmp_path: Path) -> None:
    draw = np.random.default_rng(0).normal(size=(120, 60))
    table = pd.DataFrame(draw, columns=[f"sensor_{number:02d}" for number in range(60)])
    table.to_csv(tmp_path / "wide.csv", index=False)
    _, printed, _ = project.new("wide", tmp_path / "wide.csv", "--yes")
    assert printed.count("\ncolumn     sensor_") == 30
    assert "\ncolumns    30 more, each with its values in the recipe\n" in printed
    assert [column.name for column in project.recipe("wide").fit.input.columns] == list(table.columns)


def test_a_value_far_beyond_a_column_sets_its_row_aside_by_name(project: NewProject, tmp_path: Path) -> None:
    rows = frame(200)
    rows.to_csv(tmp_path / "parts.csv", index=False)
    assert project.new("parts", tmp_path / "parts.csv", "--yes")[0] == 0
    length = next(column for column in project.recipe("parts").fit.input.columns if column.name == "length")
    assert length.min is not None
    assert length.max is not None
    span = rows["length"].max() - rows["length"].min()
    assert length.max == pytest.approx(rows["length"].max() + 10 * span, rel=0.01)
    assert length.min == pytest.approx(rows["length"].min() - 10 * span, rel=0.01)


def test_numbers_with_units_are_named_and_no_ids(project: NewProject, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    prices, shares = draw.uniform(1, 900, 300), draw.uniform(0, 100, 300)
    units = pd.DataFrame({"price": [f"€ {price:.2f}" for price in prices], "size": draw.normal(5, 1, 300)})
    units["share"] = [f"{share:.1f}%" for share in shares]
    units.to_csv(tmp_path / "units.csv", index=False)
    code, printed, _ = project.new("units", tmp_path / "units.csv", "--yes")
    assert code == 0
    assert "price is left out: its cells are numbers with the unit €: write the numbers alone to use it" in printed
    assert "share is left out: its cells are numbers with the unit %" in printed
    assert project.recipe("units").data.source.id is None


def test_rows_of_one_id_are_counted(project: NewProject, tmp_path: Path) -> None:
    rows = frame(300).rename(columns={"part_id": "part"})
    rows.loc[9, "part"] = "p0003"
    rows.to_csv(tmp_path / "parts.csv", index=False)
    code, printed, _ = project.new("parts", tmp_path / "parts.csv", "--yes")
    assert code == 0
    assert "part: 1 row with the id of another: a later row replaces an earlier one. If it is no id, --ignore part" in printed
    assert project.new("parts", tmp_path / "parts.csv", "--yes", "--force", "--ignore", "part")[0] == 0
    assert len(project.samples("parts").array) == 300


def test_a_table_of_texts_alone_is_refused_with_the_option_that_learns_from_them(project: NewProject, tmp_path: Path) -> None:
    words = ["the pump leaks", "the motor is hot and was not cleaned", "nothing was found", "a bearing of shaft three is loud"]
    notes = [f"{words[number % 4]} after {number} hours, says the shift of the night" for number in range(300)]
    pd.DataFrame({"day": range(300), "note of": notes}).to_csv(tmp_path / "notes.csv", index=False)
    code, _, refused = project.new("notes", tmp_path / "notes.csv", "--yes")
    assert code != 0
    assert refused.rstrip().endswith("to learn from these texts: --text 'note of'")
    assert project.new("notes", tmp_path / "notes.csv", "--yes", "--text", "note of")[0] == 0
