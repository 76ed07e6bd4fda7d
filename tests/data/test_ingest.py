"""What an incoming dataset holds, and that equal samples give equal bytes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data_project import Room, make_room, tree

from aeops.data.array_files import write_npy_file, write_parquet
from aeops.data.dataset import content_sha256, read_index, read_shards
from aeops.data.splits import draw_split
from aeops.errors import InfrastructureError, as_ae_error
from aeops.files import atomic_folder, file_sha256
from aeops.kinds.interface import load_kind
from aeops.machine.stored_json import read_json
from aeops.recipe.sections import SplitSpec
from aeops.stages.ingest import write_shards


def test_the_index_and_the_shards_hold_the_source_in_its_order(room: Room) -> None:
    room.save()
    room.ingest()
    index = read_index(room.incoming)
    assert list(index.columns) == list(load_kind("image").INDEX_COLUMNS)
    np.testing.assert_array_equal(index["label"].to_numpy(dtype=int), room.labels)
    blocks = [block for _, block in read_shards(room.incoming, index)]
    np.testing.assert_array_equal(np.concatenate(blocks)[:, 0], room.images)


def test_dataset_json_states_the_sums_of_the_shards(room: Room) -> None:
    room.save()
    room.ingest()
    facts = read_json(room.incoming / "dataset.json")
    assert {key: facts[key] for key in ("dataset", "dtype", "shape", "rows")} == {
        "dataset": "mine",
        "dtype": "uint8",
        "shape": [1, 28, 28],
        "rows": 600,
    }
    (shard,) = facts["shards"]
    assert shard == {"file": "shards/00000.npy", "rows": 600, "sha256": file_sha256(room.incoming / "shards" / "00000.npy")}


def test_ingesting_twice_and_in_another_folder_gives_the_same_bytes(room: Room) -> None:
    other = make_room(room.root.with_name("elsewhere"), room.images, room.labels)
    for each in (room, other):
        each.save()
        each.ingest()
    first = tree(room.incoming)
    room.ingest()
    assert first == tree(room.incoming) == tree(other.incoming)
    assert content_sha256(room.incoming) == content_sha256(other.incoming)


def test_one_changed_pixel_changes_the_content_hash(room: Room) -> None:
    room.save()
    room.ingest()
    before = content_sha256(room.incoming)
    room.images[3, 14, 14] ^= 1
    room.save()
    room.ingest()
    assert content_sha256(room.incoming) != before


def test_a_set_larger_than_a_shard_is_cut_into_several(room: Room) -> None:
    room.save()
    (room.root / "out" / "shards").mkdir(parents=True)
    index = write_shards(room.samples(), room.recipe, room.root / "out", shard_bytes=250 * 784)
    assert index["shard"].value_counts(sort=False).tolist() == [250, 250, 100]
    blocks = [block for _, block in read_shards(room.root / "out", index)]
    np.testing.assert_array_equal(np.concatenate(blocks)[:, 0], room.images)


def test_samples_keep_their_split_when_others_are_added_removed_or_reordered(room: Room) -> None:
    room.save(images=room.images[:400], labels=room.labels[:400])
    room.ingest()
    few = read_index(room.incoming).set_index("sha256")["split"]
    order = np.random.default_rng(1).permutation(600)
    room.save(images=room.images[order], labels=room.labels[order])
    room.ingest()
    many = read_index(room.incoming).set_index("sha256")["split"]
    assert len(many) == 600
    assert many[few.index].equals(few)


def test_splits_have_the_shares_asked_for_and_differ_between_datasets() -> None:
    split = SplitSpec(validation=0.1, calibration=0.2, test=0.3)
    drawn = np.array([[draw_split(f"{number:064x}", name, split) for number in range(20000)] for name in ("one", "two")])
    for name, share in {"train": 0.4, "validation": 0.1, "calibration": 0.2, "test": 0.3}.items():
        assert abs((drawn[0] == name).mean() - share) < 4 * np.sqrt(share * (1 - share) / 20000)
    assert (drawn[0] == drawn[1]).mean() < 0.5


def test_a_copy_names_the_first_sample_with_its_content(room: Room) -> None:
    room.images[7] = room.images[9] = room.images[2]
    room.save()
    room.ingest()
    index = read_index(room.incoming)
    assert index["duplicate_of"].dropna().to_dict() == {7: "mine-000002", 9: "mine-000002"}
    assert not index["duplicate_across_splits"].any()


def test_a_dataset_from_before_there_were_groups_is_read_with_its_ids_as_groups(room: Room) -> None:
    room.save()
    room.ingest()
    now = read_index(room.incoming)
    assert (now["group"] == now["id"]).all()
    write_parquet(room.incoming / "index.parquet", now.drop(columns="group"))
    pd.testing.assert_frame_equal(read_index(room.incoming), now)


def test_an_unlabelled_source_has_no_labels(room: Room) -> None:
    room.save()
    room.edit(data={"source": {"kind": "npy", "path": "images.npy"}, "labels": [], "novelty": []})
    room.ingest()
    assert read_index(room.incoming)["label"].isna().all()


def write_full_npy() -> None:
    write_npy_file(Path("/dev/full"), (2, 1, 28, 28), np.dtype(np.uint8), [np.zeros((2, 1, 28, 28), np.uint8)])


def write_full_parquet() -> None:
    write_parquet(Path("/dev/full"), pd.DataFrame({"id": ["a"]}))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
@pytest.mark.parametrize("write", [write_full_npy, write_full_parquet])
def test_a_full_disk_is_told_as_such(write: Callable[[], None]) -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        write()
    assert isinstance(as_ae_error(caught.value), InfrastructureError)


def write_half(place: Path) -> None:
    with atomic_folder(place) as folder:
        (folder / "dataset.json").write_text("{}")
        write_full_npy()


def test_an_ingest_that_fails_half_way_leaves_the_last_one_and_nothing_beside_it(room: Room) -> None:
    room.save()
    room.ingest()
    before = tree(room.project.home)
    with pytest.raises(OSError, match="No space left"):
        write_half(room.incoming)
    assert tree(room.project.home) == before
