"""However many samples there are, no step holds more than a few blocks or shards of them in memory."""

import gzip
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from data_project import Room

from aeops.data.quarantine import write_quarantine
from aeops.data.sources import spool
from aeops.stages.ingest import write_shards
from aeops.stages.prepare import read_blocks

MIB = 2**20
SIDE, ROWS = 256, 384  # 24 MiB of samples of 64 KiB
MOST = 8 * MIB  # that a step may hold, with shards and blocks of 1 MiB


@contextmanager
def held_at_most(most: int) -> Iterator[None]:
    """Fails where the block holds more than `most` bytes at a time; mapped files are not counted, as they can be let go."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


@pytest.fixture
def large(room: Room, monkeypatch: pytest.MonkeyPatch) -> Room:
    """A room whose 24 MiB of samples lie in a .npy file."""
    monkeypatch.setattr(spool, "BLOCK_BYTES", MIB)
    images = np.random.default_rng(0).integers(0, 256, (ROWS, SIDE, SIDE), dtype=np.uint8)
    np.save(room.root / "images.npy", images)
    np.savez(room.root / "images.npz", x=images)
    room.edit(
        data={"source": {"kind": "npy", "path": "images.npy"}, "labels": [], "novelty": []}, input={"shape": [1, SIDE, SIDE]}
    )
    return room


def lay_dataset(room: Room, folder: Path) -> Path:
    (folder / "shards").mkdir(parents=True)
    index = write_shards(room.samples(), room.recipe, folder, shard_bytes=MIB)
    index.to_parquet(folder / "index.parquet")
    (folder / "dataset.json").write_text(f'{{"kind": "image", "shape": [1, {SIDE}, {SIDE}], "dtype": "uint8"}}')
    return folder


def test_ingest_holds_a_few_shards(large: Room) -> None:
    with held_at_most(MOST):
        folder = lay_dataset(large, large.root / "incoming")
    assert len(list((folder / "shards").iterdir())) == 24


@pytest.mark.slow
def test_validate_and_prepare_hold_a_few_shards_even_where_all_is_set_aside(large: Room) -> None:
    from aeops.data.array_files import write_npy_file
    from aeops.data.dataset import read_index
    from aeops.stages.validate import write_accepted

    folder = lay_dataset(large, large.root / "incoming")
    index = read_index(folder)
    (large.root / "built" / "shards").mkdir(parents=True)
    with held_at_most(MOST):
        write_accepted(index, folder, large.root / "built", large.recipe.fit.input)
        write_quarantine(large.root / "quarantine", folder, index, {identity: ["bad"] for identity in index["id"]})
        write_npy_file(large.root / "train.npy", (ROWS, 1, SIDE, SIDE), np.dtype(np.uint8), read_blocks(folder, index))
    for name in ("quarantine/samples.npy", "train.npy"):
        np.testing.assert_array_equal(np.load(large.root / name)[:, 0], np.load(large.root / "images.npy"))


def test_archives_are_read_block_by_block(large: Room) -> None:
    large.edit(data={"source": {"kind": "npz", "path": "images.npz", "samples": {"train": "x"}, "layout": "nhw"}})
    with held_at_most(MOST):
        samples = large.samples()
    np.testing.assert_array_equal(samples.array[:, 0], np.load(large.root / "images.npy"))


def test_idx_files_are_read_block_by_block(large: Room) -> None:
    images = np.load(large.root / "images.npy", mmap_mode="r")
    folder = large.root / "idx"
    folder.mkdir()
    for part in ("train", "t10k"):
        sizes = b"".join(size.to_bytes(4, "big") for size in images.shape)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + sizes + images.tobytes())
        labels = b"\0\0\x08\x01" + ROWS.to_bytes(4, "big") + bytes(ROWS)
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    large.edit(data={"source": {"kind": "idx", "folder": "idx"}})
    with held_at_most(MOST):
        samples = large.samples()
    np.testing.assert_array_equal(samples.array[ROWS:, 0], images)


def test_what_a_source_makes_on_its_way_leaves_no_file(large: Room) -> None:
    large.edit(data={"source": {"kind": "npz", "path": "images.npz", "samples": {"train": "x"}, "layout": "nhw"}})
    large.samples()
    assert [place for place in large.project.home.rglob("*") if place.is_file()] == []
