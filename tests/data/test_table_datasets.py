"""Tables on their way into a dataset: read by name, judged by column, set aside with reasons, prepared with their codes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from data_project import Room, make_room
from wine_table import COLUMNS, SECTIONS, wines

from aeops.data.dataset import read_index, read_shards
from aeops.data.fit_samples import open_fit_samples
from aeops.errors import DataError, UsageError
from aeops.stages.prepare import prepare

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def room(tmp_path: Path) -> Room:
    """A project whose recipe takes wines."""
    made = make_room(tmp_path, np.zeros((1, 1)), np.zeros(1))
    made.replace(
        data={
            "dataset": "mine",
            "source": {"kind": "table", "path": "wine.csv"},
            "split": {"validation": 0.1, "calibration": 0.3, "test": 0.3},
        },
        validate={"rows": {"min": 1, "max": 100000}, "mean_drift": 0.5, "quarantine_budget": 0.1, "completeness": 0.7},
        input={"kind": "table", "columns": COLUMNS},
        evaluate={},
        gate={"served": {"check": "served"}},
        purpose="reconstruct",
        **{name: SECTIONS[name] for name in ("model", "score", "threshold", "train")},
    )
    return made


def write(room: Room, frame: pd.DataFrame) -> None:
    frame.to_csv(room.root / "wine.csv", index=False)


def quarantined(room: Room) -> list[str]:
    """The reasons, one sample after the other."""
    return ["; ".join(entry["reasons"]) for entry in room.validation()["quarantined"]]


@pytest.mark.slow
def test_shards_hold_the_columns_in_their_own_types_and_prepared_rows_their_codes(room: Room) -> None:
    write(room, wines())
    room.accept()
    [shard] = sorted((room.data / "shards").iterdir())
    schema = pq.read_schema(shard)
    assert {field.name: str(field.type) for field in schema} == {
        "alcohol": "double",
        "proline": "int64",
        "hue": "double",
        "is strong": "bool",
        "cultivar": "large_string",
        "bottled": "timestamp[us]",
    }
    prepare(room.recipe, room.data, room.root / "prepared")
    document = json.loads((room.root / "prepared" / "prepared.json").read_text())
    train = np.load(room.root / "prepared" / "train.npy")
    assert train.dtype == np.float64
    assert train.shape[1] == 6
    counts = np.bincount(train[:, 4].astype(int))
    assert (np.diff(counts) <= 0).all(), "the most frequent category of the training rows has the first code"
    assert set(document["categories"]["cultivar"]) == {"barolo", "grignolino", "barbera"}
    fit = open_fit_samples(room.root / "prepared", room.recipe, room.project).fit
    assert fit.input.columns[4].categories == tuple(document["categories"]["cultivar"])


@pytest.mark.slow
def test_bad_rows_are_set_aside_and_each_reason_names_its_column(room: Room) -> None:
    frame = wines().astype({"alcohol": object, "proline": object, "cultivar": object})
    frame.loc[0, "alcohol"] = 99
    frame.loc[1, "alcohol"] = "strong"
    frame.loc[2, "proline"] = 3.5
    frame.loc[3, "cultivar"] = None
    frame.loc[4, "alcohol"] = np.inf
    frame.loc[5] = frame.loc[6]
    write(room, frame)
    room.accept()
    reasons = quarantined(room)
    expected = [
        "alcohol: range: expected 5 to 20, got alcohol: 99",
        "type: expected cells of their columns' types, got alcohol: 'strong'",
        "got proline: 3.5",
        "cultivar: present: expected a value, got cultivar: no value",
        "alcohol: finite",
        "duplicate",
    ]
    assert len(reasons) == len(expected)
    for reason, part in zip(reasons, expected, strict=True):
        assert part in reason
    folder = next((room.project.home / "quarantine").glob("*/*"))
    samples, rows = pd.read_parquet(folder / "samples.parquet"), pd.read_parquet(folder / "rows.parquet")
    assert len(samples) == len(rows) == 6
    assert samples["(mistyped)"].tolist()[1] == "alcohol: 'strong'"
    assert "(mistyped)" not in pd.read_parquet(room.data / "shards" / "00000.parquet")


@pytest.mark.slow
def test_duplicates_are_accepted_where_the_recipe_says_so(room: Room) -> None:
    frame = wines()
    frame.loc[5] = frame.loc[6]
    write(room, frame)
    room.edit(validate={"duplicates": "accept"})
    room.accept()
    assert quarantined(room) == []


@pytest.mark.slow
def test_a_column_that_loses_its_values_or_moves_refuses_the_set(room: Room) -> None:
    write(room, wines())
    room.accept()
    frame = wines()
    frame.loc[frame.index[::2], "hue"] = np.nan
    frame["proline"] += 2000
    frame["cultivar"] = "merlot"
    write(room, frame)
    with pytest.raises(DataError, match="does not meet") as caught:
        room.accept()
    for part in ("hue: completeness", "proline: drift", "cultivar: drift"):
        assert part in str(caught.value)
    assert "alcohol: drift" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.drop(columns="hue"), "wine.csv: expected a source with the column hue, got the columns alcohol"),
        (lambda frame: frame.rename(columns={"hue": "hues"}), "did you mean hues"),
        (lambda frame: frame[:0], "expected 1 or more samples"),
    ],
)
def test_a_source_without_a_column_or_rows_is_refused(room: Room, change: Any, message: str) -> None:
    write(room, change(wines()))
    with pytest.raises(DataError) as caught:
        room.ingest()
    assert message in str(caught.value)


def test_further_and_reordered_columns_give_the_same_dataset(room: Room) -> None:
    write(room, wines())
    room.ingest()
    before = [block for _, block in read_shards(room.incoming, read_index(room.incoming))]
    write(room, wines().assign(note="x")[["note", *reversed(wines().columns)]])
    room.ingest()
    after = [block for _, block in read_shards(room.incoming, read_index(room.incoming))]
    assert [block.tobytes() for block in after] == [block.tobytes() for block in before]


def test_parquet_and_npz_are_read_with_labels_and_groups(room: Room) -> None:
    frame = wines()
    labelled = frame.assign(bad=[0, 1] * 89, cellar=[f"c{row // 4}" for row in range(178)])
    labelled.to_parquet(room.root / "wine.parquet")
    data = {"labels": [0, 1], "source": {"kind": "table", "path": "wine.parquet", "labels": "bad", "group": "cellar"}}
    room.edit(data=data)
    room.ingest()
    index = read_index(room.incoming)
    assert index["label"].tolist() == [0, 1] * 89
    assert (index.groupby("group")["split"].nunique() == 1).all()
    numbers = frame[["alcohol", "proline"]].to_numpy()
    np.savez(room.root / "wine.npz", X=np.asfortranarray(numbers), y=np.zeros(178, np.int64))
    room.edit(data={"source": {"kind": "table", "path": "wine.npz", "labels": "y"}})
    room.edit(input={"kind": "table", "columns": COLUMNS[:2]})
    room.ingest()
    [(_, block)] = read_shards(room.incoming, read_index(room.incoming))
    assert block["proline"].tolist() == frame["proline"].tolist()
    np.savez(room.root / "wine.npz", X=numbers[:, :1], y=np.zeros(178, np.int64))
    with pytest.raises(DataError, match=r"expected numbers \(n, 2\), a column for each of input.columns"):
        room.ingest()


def test_mistakes_in_a_recipe_of_a_table_are_found_before_anything_runs(room: Room) -> None:
    room.edit(
        data={"source": {"kind": "table", "path": "wine.xls", "group": "cultivar"}},
        score={"kind": "knn", "blur": 1.0},
        validate={"unknown": "guess"},
    )
    with pytest.raises(UsageError) as caught:
        room.recipe  # noqa: B018
    for part in ("path: expected a .csv", "validate.unknown: expected flag, refuse or impute"):
        assert part in str(caught.value)
