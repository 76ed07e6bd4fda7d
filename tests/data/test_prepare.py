"""What training and evaluation get, and that data nobody validated is refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data_project import Room, tree

from aeops.data.dataset import read_index
from aeops.errors import DataError
from aeops.machine.stored_json import read_json
from aeops.stages.prepare import prepare

pytestmark = pytest.mark.xdist_group("great expectations")  # it takes seconds to import
NOVELTY = 4


@pytest.fixture
def out(accepted: Room) -> Path:
    """The folder that `prepare` wrote for the accepted digits, 4 being the novelty."""
    accepted.edit(data={"novelty": [NOVELTY]})
    place = accepted.project.artifacts("mine") / "prepared"
    prepare(accepted.recipe, accepted.data, place)
    return place


def test_training_parts_hold_the_normals_of_their_split_in_the_index_order(accepted: Room, out: Path) -> None:
    index = read_index(accepted.data)
    for part in ("train", "validation", "calibration"):
        chosen = np.flatnonzero((index["split"] == part) & (index["label"] != NOVELTY))
        np.testing.assert_array_equal(np.load(out / f"{part}.npy")[:, 0], accepted.images[chosen])


def test_the_test_set_holds_its_normals_and_every_novelty(accepted: Room, out: Path) -> None:
    index = read_index(accepted.data)
    chosen = np.flatnonzero((index["split"] == "test") | (index["label"] == NOVELTY))
    np.testing.assert_array_equal(np.load(out / "test.npy")[:, 0], accepted.images[chosen])
    table = pd.read_parquet(out / "test.parquet")
    assert table["id"].tolist() == index["id"][chosen].tolist()
    np.testing.assert_array_equal(table["novelty"], accepted.labels[chosen] == NOVELTY)
    assert table["novelty"].sum() == 60
    assert (table["group"] == table["id"]).all()


def test_the_labels_to_train_on_lie_beside_the_samples(accepted: Room, out: Path) -> None:
    index = read_index(accepted.data)
    chosen = (index["split"] == "train") & (index["label"] != NOVELTY)
    np.testing.assert_array_equal(np.load(out / "train_labels.npy"), index["label"][chosen].to_numpy(int))


def test_prepared_json_counts_what_was_written(accepted: Room, out: Path) -> None:
    facts = read_json(out / "prepared.json")
    for part in ("train", "validation", "calibration", "test"):
        assert facts["rows"][part] == len(np.load(out / f"{part}.npy"))
    assert facts["rows"]["test_novelty"] == 60
    assert facts["novelty"] == [NOVELTY]
    assert facts["content_sha256"] == read_json(accepted.data / "receipt.json")["content_sha256"]


def test_preparing_again_gives_the_same_bytes(accepted: Room, out: Path) -> None:
    before = tree(out)
    prepare(accepted.recipe, accepted.data, out)
    assert tree(out) == before


def alter_a_pixel(data: Path) -> None:
    shard = data / "shards" / "00000.npy"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")


ALTERED = {
    "a pixel": (alter_a_pixel, "does not match its receipt"),
    "a file added": (lambda data: (data / "shards" / "00001.npy").write_bytes(b""), "does not match its receipt"),
    "the index": (lambda data: (data / "index.parquet").unlink(), "does not match its receipt"),
    "the receipt": (lambda data: (data / "receipt.json").unlink(), "has no receipt.json"),
    "a receipt of garbage": (lambda data: (data / "receipt.json").write_text("{"), "receipt.json is damaged"),
}


@pytest.mark.parametrize("what", ALTERED)
def test_data_altered_after_validation_is_refused(accepted: Room, out: Path, what: str) -> None:
    alter, fact = ALTERED[what]
    before = tree(out)
    alter(accepted.data)
    with pytest.raises(DataError) as caught:
        prepare(accepted.recipe, accepted.data, out)
    assert fact in str(caught.value)
    assert "type ae run mine" in str(caught.value)
    assert tree(out) == before


def test_a_dataset_that_is_not_there_is_refused_with_what_to_type(room: Room) -> None:
    with pytest.raises(DataError, match=r"no dataset in .*data/mine: type ae run mine"):
        prepare(room.recipe, room.data, room.root / "prepared")


def test_samples_of_another_shape_than_the_recipe_are_refused(accepted: Room) -> None:
    accepted.edit(input={"shape": [1, 32, 32]})
    with pytest.raises(DataError, match=r"\[1, 28, 28\].*\[1, 32, 32\].*type ae run mine"):
        prepare(accepted.recipe, accepted.data, accepted.root / "prepared")


def test_a_recipe_without_novelty_tests_on_normals_alone(accepted: Room) -> None:
    accepted.edit(data={"novelty": []})
    prepare(accepted.recipe, accepted.data, accepted.root / "prepared")
    assert not pd.read_parquet(accepted.root / "prepared" / "test.parquet")["novelty"].any()


def test_a_novelty_that_no_sample_has_is_refused(room: Room) -> None:
    room.save(images=room.images[room.labels != NOVELTY], labels=room.labels[room.labels != NOVELTY])
    room.edit(data={"novelty": [NOVELTY]}, validate={"class_share": {"min": 0, "max": 0.2}})
    room.accept_unjudged()
    with pytest.raises(DataError, match=r"no sample with a novelty label, 4"):
        prepare(room.recipe, room.data, room.root / "prepared")


def test_novelty_that_chooses_the_threshold_lies_beside_the_validation_samples_and_is_not_tested_on(
    accepted: Room, out: Path
) -> None:
    without = set(pd.read_parquet(out / "test.parquet")["id"])
    accepted.edit(data={"novelty": [NOVELTY], "novelty_in_validation": True})
    accepted.replace(threshold={"kind": "best-f1"})
    prepare(accepted.recipe, accepted.data, out)
    index = read_index(accepted.data)
    chosen = index[(index["split"] == "validation") & (index["label"] == NOVELTY)]
    assert len(chosen) > 0
    assert without - set(pd.read_parquet(out / "test.parquet")["id"]) == set(chosen["id"])
    np.testing.assert_array_equal(np.load(out / "validation_novelty.npy")[:, 0], accepted.images[chosen.index])
    facts = read_json(out / "prepared.json")["rows"]
    assert facts["validation_novelty"] == len(chosen)
    assert facts["test_novelty"] == 60 - len(chosen)
