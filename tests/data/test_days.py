"""A folder that grows by the day is read as its last days, wherever the window stands, and misnamed files are told."""

import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from data_project import CHECKOUT, Room, tree

from aeops.data.dataset import read_index
from aeops.data.sources.catalogue import load_source, source_digest
from aeops.errors import DataError, UsageError

FIRST = date(2026, 2, 27)
EACH = 50  # samples a day


@pytest.fixture
def inbox(room: Room) -> Path:
    """The folder of the recipe `mine`: ten days from the 27th of February on, but the fourth, each with 50 shuffled digits."""
    folder = room.root / "inbox" / "mine"
    folder.mkdir(parents=True)
    shuffled = np.random.default_rng(0).permutation(len(room.images))
    for day in (0, 1, 2, 4, 5, 6, 7, 8, 9):
        chosen = shuffled[day * EACH : (day + 1) * EACH]
        write_day(folder, day, room.images[chosen], room.labels[chosen])
    room.edit(data={"source": {"kind": "days", "path": "inbox/mine", "labels": True, "window_days": 7}})
    room.edit(validate={"rows": {"min": 10, "max": 5000}})
    return folder


def write_day(folder: Path, day: int, images: np.ndarray, labels: np.ndarray, word: str = "") -> None:
    name = f"{FIRST + timedelta(days=day)}{word}"
    np.save(folder / f"{name}.npy", images)
    np.save(folder / f"{name}.labels.npy", labels)


def window(room: Room) -> list[str]:
    """The files of the source without those of labels."""
    return [name for name in load_source("days").files(room.recipe, room.project) if not name.endswith(".labels.npy")]


def test_the_window_is_counted_back_from_the_newest_file_and_gaps_are_no_fault(room: Room, inbox: Path) -> None:
    assert window(room) == [f"2026-03-0{day}.npy" for day in (3, 4, 5, 6, 7, 8)]  # the 2nd is in the window and has no file
    write_day(inbox, 12, room.images[:1], room.labels[:1])
    assert window(room) == ["2026-03-05.npy", "2026-03-06.npy", "2026-03-07.npy", "2026-03-08.npy", "2026-03-11.npy"]


def test_samples_and_labels_come_in_the_order_of_days_and_names(room: Room, inbox: Path) -> None:
    write_day(inbox, 9, room.images[:3], room.labels[:3], "-line2")
    found = room.samples()
    names = window(room)
    assert names[-2:] == ["2026-03-08-line2.npy", "2026-03-08.npy"]
    expected = np.concatenate([np.load(inbox / name) for name in names])
    assert found.array.shape == (6 * EACH + 3, 1, 28, 28)
    np.testing.assert_array_equal(np.concatenate([block for _, block in found.blocks(100_000)])[:, 0], expected)
    labels = np.concatenate([np.load(inbox / name.replace(".npy", ".labels.npy")) for name in names])
    np.testing.assert_array_equal(found.labels, labels)


def test_a_slice_of_joined_files_is_that_of_the_whole() -> None:
    from aeops.data.sources.days import JoinedArrays

    parts = [np.arange(start, stop).reshape(-1, 1) for start, stop in ((0, 3), (3, 4), (4, 9))]
    joined, whole = JoinedArrays(parts), np.arange(9).reshape(-1, 1)
    for start in range(10):
        for stop in range(10):
            np.testing.assert_array_equal(joined[start:stop], whole[start:stop])
    with pytest.raises(ValueError, match="a step of 2"):
        joined[::2]


def test_reading_a_window_holds_no_more_than_a_block_of_it(room: Room, tmp_path: Path) -> None:
    folder = room.root / "inbox" / "mine"
    folder.mkdir(parents=True)
    for day in range(6):
        np.save(folder / f"{FIRST + timedelta(days=day)}.npy", np.full((64, 256, 256), day, np.uint8))  # 4 MiB a day
    room.edit(
        data={"source": {"kind": "days", "path": "inbox/mine"}, "labels": [], "novelty": []}, input={"shape": [1, 256, 256]}
    )
    tracemalloc.start()
    try:
        seen = [int(block[0, 0, 0, 0]) for _, block in room.samples().blocks(2**20)]
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()
    assert seen == sorted([0, 1, 2, 3, 4, 5] * 4)


@pytest.mark.slow
def test_two_readings_of_the_same_files_give_equal_datasets(room: Room, inbox: Path) -> None:
    room.ingest()
    first = tree(room.incoming)
    for place in inbox.iterdir():
        place.touch()
    room.ingest()
    assert tree(room.incoming) == first


def test_a_sample_keeps_its_split_as_the_window_moves(room: Room, inbox: Path) -> None:
    room.ingest()
    before = read_index(room.incoming).set_index("sha256")
    write_day(inbox, 11, 255 - room.images[-EACH:], room.labels[-EACH:])
    room.ingest()
    after = read_index(room.incoming).set_index("sha256")
    stayed = before.index.intersection(after.index)
    assert len(stayed) >= 4 * EACH
    assert before.loc[stayed, "id"].equals(after.loc[stayed, "id"])  # a file and a place in it
    assert before.loc[stayed, "split"].equals(after.loc[stayed, "split"])
    assert len(set(before["split"])) == 4


def test_the_digest_changes_with_what_is_in_the_window_and_with_nothing_else(room: Room, inbox: Path) -> None:
    first = source_digest(room.recipe, room.project)
    write_day(inbox, 0, room.images[:2], room.labels[:2])  # before the window
    (inbox / ".2026-03-09.npy").write_bytes(b"on its way")
    (inbox / "2026-03-09.npy.part").write_bytes(b"on its way")
    assert source_digest(room.recipe, room.project) == first
    write_day(inbox, 8, room.images[:2], room.labels[:2])
    assert source_digest(room.recipe, room.project) != first


def test_labels_that_are_not_asked_for_are_not_looked_at(room: Room, inbox: Path) -> None:
    room.edit(data={"source": {"kind": "days", "path": "inbox/mine"}, "labels": [], "novelty": []})
    (inbox / "2026-03-08.labels.npy").write_bytes(b"garbage")
    (inbox / "2026-03-07.labels.npy").unlink()
    assert room.samples().labels is None
    assert len(room.samples().array) == 9 * EACH


def test_a_day_without_samples_is_no_fault_and_a_window_without_any_is(room: Room, inbox: Path) -> None:
    write_day(inbox, 9, room.images[:0], room.labels[:0])
    assert len(room.samples().array) == 5 * EACH
    for day in (4, 5, 6, 7, 8):
        write_day(inbox, day, room.images[:0], room.labels[:0])
    with pytest.raises(DataError, match="got an empty set"):
        room.samples()


def test_an_inbox_below_the_state_folder_is_found_as_well(room: Room, inbox: Path) -> None:
    room.project.home.mkdir()
    inbox.parent.rename(room.project.home / "inbox")
    assert len(room.samples().array) == 6 * EACH


Spoil = Callable[[Room, Path], object]
SPOILED: dict[str, tuple[Spoil, list[str]]] = {
    "another ending": (lambda room, inbox: (inbox / "notes.txt").touch(), ["got notes.txt", "YYYY-MM-DD.npy"]),
    "no day": (lambda room, inbox: np.save(inbox / "today.npy", room.images), ["got today.npy"]),
    "a day that never was": (lambda room, inbox: np.save(inbox / "2026-02-30.npy", room.images), ["got 2026-02-30.npy"]),
    "a longer number": (lambda room, inbox: np.save(inbox / "2026-03-011.npy", room.images), ["got 2026-03-011.npy"]),
    "many wrong names": (
        lambda room, inbox: [(inbox / f"{place}.csv").touch() for place in range(8)],
        ["got 0.csv, 1.csv, 2.csv, 3.csv, 4.csv and 3 more"],
    ),
    "no labels": (lambda room, inbox: (inbox / "2026-03-08.labels.npy").unlink(), ["got no 2026-03-08.labels.npy"]),
    "labels alone": (lambda room, inbox: (inbox / "2026-03-08.npy").unlink(), ["got only 2026-03-08.labels.npy"]),
    "no folder": (lambda room, inbox: inbox.rename(inbox.with_name("moved")), ["inbox/mine: no such folder", "data.source.path"]),
    "nothing in it": (
        lambda room, inbox: [place.unlink() for place in inbox.iterdir()],
        ["expected a file of samples such as YYYY-MM-DD.npy, got none"],
    ),
    "truncated": (
        lambda room, inbox: (inbox / "2026-03-07.npy").write_bytes((inbox / "2026-03-07.npy").read_bytes()[:-9]),
        ["2026-03-07.npy: not readable as .npy (truncated"],
    ),
    "another shape": (
        lambda room, inbox: write_day(inbox, 8, room.images[:, :9], room.labels),
        ["2026-03-07.npy: expected shape", "got (600, 9, 28)"],
    ),
    "another dtype": (
        lambda room, inbox: write_day(inbox, 8, room.images.astype(np.float32), room.labels),
        ["2026-03-07.npy: expected dtype uint8, as in 2026-03-03.npy, got float32"],
    ),
    "too few labels": (
        lambda room, inbox: write_day(inbox, 8, room.images, room.labels[:-1]),
        ["2026-03-07.labels.npy: expected 600 labels, one for each sample of 2026-03-07.npy, got 599"],
    ),
}


@pytest.mark.parametrize("fault", SPOILED)
def test_a_spoiled_folder_is_refused_in_one_line_that_names_the_file(room: Room, inbox: Path, fault: str) -> None:
    spoil, facts = SPOILED[fault]
    spoil(room, inbox)
    with pytest.raises(DataError) as caught:
        room.samples()
    message = str(caught.value)
    assert "\n" not in message
    assert all(fact in message for fact in [*facts, "type ae run mine"]), message


def test_what_contradicts_itself_is_told(room: Room, inbox: Path) -> None:
    room.edit(data={"source": {"kind": "days", "path": "inbox/mine", "window_days": 0}})
    with pytest.raises(UsageError, match=r"data\.source\.window_days"):
        room.recipe  # noqa: B018
    room.edit(data={"source": {"kind": "days", "path": "inbox/mine"}})
    with pytest.raises(UsageError, match=r"labels is set and source\.labels is missing"):
        room.recipe  # noqa: B018


def test_asking_for_the_digest_of_days_loads_no_numpy(room: Room, inbox: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from aeops.project import find_project;"
        "from aeops.recipe.reader import load_recipe;"
        f"from aeops.data.sources.catalogue import source_digest; project = find_project(Path({str(room.root)!r}));"
        "print(source_digest(load_recipe(project, 'mine'), project)); sys.exit('numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == source_digest(room.recipe, room.project)
