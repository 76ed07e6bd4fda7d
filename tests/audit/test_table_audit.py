"""`ae audit` of tables: near and equal rows, rows that are alike by chance, wrong labels, and what is shown of a row."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from chromium import axe_faults, needs_chromium, run_chromium
from data_project import Room, make_room
from sklearn.datasets import load_wine
from wine_table import SECTIONS, wine_dataset, wine_input

from ae_models.spec import ColumnSpec
from aeops.audit.features import AuditSamples
from aeops.audit.label_errors import estimate_probabilities
from aeops.audit.near_rows import count_by_chance, equal_rows_are_ordinary, near_rows
from aeops.audit.row_cells import LabelColumns, pair_cells
from aeops.cli.main import main
from aeops.kinds.named_rows import NamedRows
from aeops.kinds.table import KIND
from aeops.kinds.table_vectors import learn_columns

CULTIVARS = np.array(["barolo", "grignolino", "barbera"])
FLIPPED = {3: "barbera", 80: "barolo", 150: "grignolino"}  # rows of the wines -> a wrong label
LIMIT = 0.999


def named(rows: np.ndarray, *specs: ColumnSpec) -> NamedRows:
    values = np.asarray(rows, np.float64)
    return NamedRows(values, learn_columns(values, specs), one_hot=32)


def numbers(count: int) -> list[ColumnSpec]:
    return [ColumnSpec(f"c{number}") for number in range(count)]


def one_split(rows: NamedRows) -> pd.Series:
    return pd.Series(["train"] * len(rows))


def pair_set(pairs: Any) -> set[tuple[int, int]]:
    return set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))


# ---------------------------------------------------------------- near and equal rows


def test_near_rows_equal_a_slow_search() -> None:
    random = np.random.default_rng(0)
    rows = np.repeat(random.normal(size=(40, 4)), 2, axis=0) + random.normal(0, 0.04, (80, 4))
    rows[random.random((80, 4)) < 0.1] = np.nan
    table = named(
        np.column_stack([rows, np.arange(80) // 2 % 3]), *numbers(4), ColumnSpec("k", type="category", categories=("a", "b", "c"))
    )
    found = near_rows(table, one_split(table), 0.99)
    expected = set()
    for first in range(80):
        for second in range(first + 1, 80):
            same = (np.isnan(rows[first]) == np.isnan(rows[second])).all() and first // 2 % 3 == second // 2 % 3
            difference = ((table.numbers[first] - table.numbers[second]) ** 2).mean()
            if same and 1 - difference / 2 >= 0.99:
                expected.add((first, second))
    assert len(expected) > 10
    assert pair_set(found) == expected


def test_nulls_equal_nulls_alone_and_categories_have_to_be_the_same() -> None:
    specs = [*numbers(2), ColumnSpec("k", type="category", categories=("a", "b")), ColumnSpec("yes", type="boolean")]
    base, nan = np.random.default_rng(0).normal(size=(30, 2)), np.nan
    filler = np.column_stack([base * 5, np.zeros(30), np.ones(30)])
    close = [[1, nan, 0, 1], [1.001, nan, 0, 1], [1.001, 0, 0, 1], [1.001, nan, 1, 1], [1.001, nan, 0, 0], [1.001, nan, nan, 1]]
    table = named(np.concatenate([close, filler]), *specs)
    assert pair_set(near_rows(table, one_split(table), LIMIT)) & {(0, row) for row in range(6)} == {(0, 1)}


def test_categories_that_are_not_known_are_no_copies_of_each_other() -> None:
    rows = np.column_stack([np.linspace(0, 1, 12), np.r_[np.zeros(10), 2, 2]])
    rows[11, 0] = rows[10, 0] + 1e-6
    table = named(rows, ColumnSpec("x"), ColumnSpec("k", type="category", categories=("a", "b")))
    assert (10, 11) not in pair_set(near_rows(table, one_split(table), LIMIT))


def test_a_leak_is_found_behind_many_near_rows_of_its_own_split() -> None:
    rows = np.random.default_rng(0).normal(size=(60, 5))
    rows[40:] = rows[7] + np.random.default_rng(1).normal(0, 0.001, (20, 5))
    rows[7] += 0.02
    table = named(rows, *numbers(5))
    found = pair_set(near_rows(table, pd.Series(["train"] * 40 + ["test"] * 20), LIMIT))
    assert {(7, row) for row in range(40, 60)} <= found


def test_many_equal_rows_cost_no_more_pairs_than_rows_and_chance_explains_them() -> None:
    random = np.random.default_rng(0)
    specs = [ColumnSpec(f"k{number}", type="category", categories=("a", "b", "c")) for number in range(3)]
    table = named(np.column_stack([random.integers(0, 3, (20_000, 3)), random.integers(0, 2, 20_000)]), *specs, ColumnSpec("x"))
    splits = pd.Series(np.where(np.arange(20_000) % 4, "train", "test"))
    found = near_rows(table, splits, 0.5)
    assert len(found.first) <= 20_000 * 6
    chance = count_by_chance(table, LIMIT)
    assert chance["exact"] == 20_000
    assert equal_rows_are_ordinary(20_000, chance["exact"])


def test_copies_of_rows_of_numbers_are_not_explained_by_chance() -> None:
    rows = np.random.default_rng(0).normal(size=(200, 6))
    table = named(np.concatenate([rows, rows[:20]]), *numbers(6))
    assert count_by_chance(table, LIMIT) == {"exact": 0, "near": 0}
    assert not equal_rows_are_ordinary(40, 0)


def test_a_constant_column_and_one_without_values_change_nothing() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 3))
    rows[1] = rows[0] + 1e-4
    wide = np.column_stack([rows, np.full(50, 7.0), np.full(50, np.nan)])
    table = named(wide, *numbers(5))
    assert np.isfinite(table.vectors).all()
    assert pair_set(near_rows(table, one_split(table), LIMIT)) == {(0, 1)}
    assert table.cells(0)[3:] == ["7", "missing"]
    assert table.usual()[3:] == ["7 to 7", "no value"]
    five = named(wide[:5], *numbers(5))
    assert pair_set(near_rows(five, one_split(five), LIMIT)) == {(0, 1)}


def test_infinite_values_of_a_source_that_is_not_validated_are_read() -> None:
    rows = np.random.default_rng(0).normal(0, 1e-12, size=(50, 3))
    rows[3, 0], rows[4, 1], rows[5] = np.inf, -np.inf, rows[6]
    table = named(rows, *numbers(3))
    assert np.isfinite(table.vectors).all()
    assert np.isfinite(table.ranked_vectors).all()
    assert not pair_set(near_rows(table, one_split(table), LIMIT))
    assert [cell.first for cell in pair_cells(table, 3, 4)[:2]] == ["inf", table.cells(3)[1]]


def test_a_rank_is_the_middle_one_of_equal_values_and_of_missing_ones() -> None:
    table = named(np.array([[1.0], [2.0], [2.0], [100.0], [np.nan]]), *numbers(1))
    expected = np.sqrt(12) * (np.array([0.125, 0.5, 0.5, 0.875, 0.5]) - 0.5)
    np.testing.assert_allclose(table.ranked_vectors[:, 0], expected, rtol=1e-6)
    assert table.ranked_vectors[:, 1].tolist() == [0, 0, 0, 0, 1]


def test_ten_thousand_categories_are_no_wider_than_a_vector_of_the_frequent_ones() -> None:
    names = tuple(f"client {number}" for number in range(10_000))
    rows = np.column_stack([np.arange(10_000), np.random.default_rng(0).normal(size=10_000)])
    table = named(rows, ColumnSpec("client", type="category", categories=names), ColumnSpec("x"))
    assert table.vectors.shape == (10_000, 34)
    assert len(near_rows(table, one_split(table), LIMIT).first) == 0


# ---------------------------------------------------------------- what is shown of a row


def test_a_row_is_shown_by_the_columns_that_are_most_unlike_its_label() -> None:
    random = np.random.default_rng(0)
    labels = np.arange(100) % 2
    rows = random.normal(size=(100, 4))
    rows[:, 2] += labels * 20
    rows[0, 1], rows[2, 2], rows[4, 3] = 9.0, 20.0, np.nan
    table = named(rows, *numbers(4))
    columns = LabelColumns(table, labels)
    assert columns.suspect_cells(0, 0, 1)[0].column == "c1"
    worst = columns.suspect_cells(2, 0, 1)[0]
    assert (worst.column, worst.value) == ("c2", "20")
    assert float(worst.usual.split(" to ")[0]) < 0 < 15 < float(worst.usual_of_suggested.split(" to ")[0])
    assert columns.suspect_cells(4, 0, 1)[0].column == "c3"


def test_a_pair_is_shown_by_the_columns_that_differ() -> None:
    table = NamedRows(KIND.prepared_form(wine_dataset(), wine_input()), (), 32)
    rows = table.rows.copy()
    rows[1] = rows[0]
    rows[1, [0, 4]] = rows[0, 0] + 1e-5, (rows[0, 4] + 1) % 3
    table = named(rows, *wine_input().columns)
    cells = pair_cells(table, 0, 1)
    assert [cell.column for cell in cells[:2]] == ["cultivar", "alcohol"]
    assert [cell.differs for cell in cells] == [True, True, False, False, False, False]
    assert cells[1].first != cells[1].second


def test_labels_that_one_fold_lacks_are_estimated_all_the_same() -> None:
    random = np.random.default_rng(0)
    labels = np.r_[np.zeros(60, int), np.ones(30, int), np.full(12, 2)]
    vectors = (random.normal(size=(102, 3)) + labels[:, None] * 3).astype(np.float32)
    groups = np.r_[np.arange(90) % 9, np.full(12, 99)]  # all of the last label in one group, so in one fold
    probabilities = estimate_probabilities(AuditSamples(vectors, None, (3,)), labels, groups).probabilities
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert probabilities[90:, 2].max() == 0
    groups = np.r_[np.arange(60) % 9, np.full(30, 98), np.full(12, 98)]
    estimate_probabilities(AuditSamples(vectors[:90], None, (3,)), labels[:90], groups[:90])


# ---------------------------------------------------------------- as a person types it


def wine_frame() -> pd.DataFrame:
    """178 wines and two copies, with a column of each type, one constant and one empty, and three wrong labels."""
    frame = load_wine(as_frame=True).data
    frame["hue"] = frame["hue"].where(np.arange(len(frame)) % 9 != 4)
    frame["cellar"] = np.array(["north", "south"])[np.arange(len(frame)) % 2]
    frame["bottled"] = pd.Timestamp("1988-01-01") + pd.to_timedelta(np.arange(len(frame)) % 60, unit="D")
    frame["constant"], frame["empty"] = 1, np.nan
    frame["cultivar"] = CULTIVARS[load_wine().target]
    for row, label in FLIPPED.items():
        frame.loc[row, "cultivar"] = label
    return pd.concat([frame, frame.iloc[[10]], frame.iloc[[100]].assign(alcohol=12.085)], ignore_index=True)


def columns_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    types = {"cellar": "category", "bottled": "date", "constant": "integer"}
    columns: list[dict[str, Any]] = []
    for name in frame.columns.drop("cultivar"):
        column = {"name": name, "type": types.get(name, "number")}
        columns.append(column | ({"missing": True} if name in ("hue", "empty") else {}))
    return columns


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    """A project whose recipe takes the wines with labels."""
    monkeypatch.delenv("AE_HOME", raising=False)
    made = make_room(tmp_path / "project", np.zeros((1, 1)), np.zeros(1))
    write(made, wine_frame())
    monkeypatch.chdir(made.root)
    return made


def write(room: Room, frame: pd.DataFrame, labels: list[str] | None = None) -> None:
    frame.to_csv(room.root / "wine.csv", index=False)
    names = sorted(set(frame["cultivar"])) if labels is None else labels
    room.replace(
        data={
            "dataset": "mine",
            "source": {"kind": "table", "path": "wine.csv"} | ({"labels": "cultivar"} if names else {}),
            "split": {"validation": 0.1, "calibration": 0.2, "test": 0.2},
            "on_duplicate": "accept",
        }
        | ({"labels": names} if names else {}),
        validate={"rows": {"min": 1, "max": 100000}, "mean_drift": 0.5, "quarantine_budget": 0.1, "duplicates": "accept"},
        input={"kind": "table", "columns": columns_of(frame)},
        evaluate={},
        gate={"served": {"check": "served"}},
        purpose="reconstruct",
        **{name: SECTIONS[name] for name in ("model", "score", "threshold", "train")},
    )


def audited(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert main(["audit", "mine", "--json", *options]) == 0
    return dict(json.loads(capsys.readouterr().out))


@pytest.mark.slow
def test_wrong_labels_and_copies_of_a_table_are_found_and_shown_by_column(room: Room, capsys: pytest.CaptureFixture[str]) -> None:
    report = audited(capsys, "--rows", "12")
    suspects = report["labels"]["suspects"]
    assert {f"mine-{row:06}" for row in FLIPPED} == {one["id"] for one in suspects[:3]}
    assert report["columns"][:2] == ["alcohol", "malic_acid"]
    assert set(suspects[0]["cells"][0]) == {"column", "value", "usual", "usual_of_suggested"}
    assert not {"constant", "empty"} & {cell["column"] for cell in suspects[0]["cells"]}
    assert report["copies"]["pairs"] == {"exact": 1, "near": 1}
    assert report["copies"]["by_chance"] == {"exact": 0, "near": 0}
    near = next(pair for pair in report["copies"]["examples"] if pair["relation"] == "near")
    assert near["cells"][0] == {
        "column": "alcohol",
        "first": "12.08",
        "second": "12.085",
        "usual": near["cells"][0]["usual"],
        "differs": True,
    }
    html = Path(report["page"]).read_text(encoding="utf-8")
    assert html.count('<td class="column">') >= 12 * 8
    assert "and 9 more columns" in html
    assert "data:image" not in html


@pytest.mark.slow
def test_the_terminal_shows_columns_within_eighty_characters(
    room: Room, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    room.accept_unjudged()
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["audit", "mine"]) == 0
    printed = capsys.readouterr().out
    for words in (
        "most unlike their label",
        "usual of its label",
        "2 exact (1 pair; 0 by chance)",
        "alcohol 12.08, 12.085; usual: ",
    ):
        assert words in printed, words
    assert max(len(line) for line in printed.splitlines() if line.startswith(("│", "┃"))) <= 80


@pytest.mark.slow
@pytest.mark.parametrize("case", ["unlabelled", "one label", "a label a row", "five rows"])
def test_a_table_whose_labels_cannot_be_checked_says_why(room: Room, capsys: pytest.CaptureFixture[str], case: str) -> None:
    frame = wine_frame()
    expected = "expected two labels or more"
    if case == "unlabelled":
        write(room, frame, labels=[])
        expected = "its samples have no labels"
    elif case == "one label":
        write(room, frame.assign(cultivar="barolo"))
    elif case == "a label a row":
        write(room, frame.assign(cultivar=[f"wine {number}" for number in range(len(frame))]))
        expected = "and 170 more"
    else:
        write(room, frame.iloc[[0, 1, 60, 61, 140]])
    room.accept_unjudged()
    report = audited(capsys)
    assert expected in report["labels"]["skipped"]
    assert report["labels"]["suspects"] == []
    assert report["copies"]["pairs"]["exact"] == (0 if case == "five rows" else 1)


@pytest.mark.long
@needs_chromium
def test_a_phone_shows_the_columns_of_rows_without_scrolling_sideways(room: Room, capsys: pytest.CaptureFixture[str]) -> None:
    write(room, wine_frame().rename(columns={"alcohol": "alcohol" * 12, "proline": "pro line " * 8}))
    address = Path(audited(capsys, "--rows", "12")["page"]).as_uri()
    with run_chromium() as browser:
        page = browser.new_page(viewport={"width": 400, "height": 800})
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") == 400
        assert page.locator("#labels tbody tr").count() == 12 * 8
        assert axe_faults(browser, address, "light") == []
