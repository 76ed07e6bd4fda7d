"""A dataset is replaced whole or not at all, wherever the process is killed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from data_project import CHECKOUT, tree

from aeops.data.dataset import content_sha256, recover_dataset, replace_dataset, staging_folder

OLD = {"index.parquet": b"old", "shards/00000.npy": b"old samples"}
NEW = {"index.parquet": b"new", "shards/00000.npy": b"new samples", "shards/00001.npy": b"more"}
# The audit hook sees every call that changes a folder just before it happens, and kills the process at the one asked for.
KILLED = """
import os, sys
from pathlib import Path
from aeops.data.dataset import replace_dataset
left = int(sys.argv[2])
def kill(event, arguments):
    global left
    left -= event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir")
    if left == 0:
        os._exit(9)
place = Path(sys.argv[1])
sys.addaudithook(kill)
replace_dataset(place.parent.parent / ".ae-aside-mine" / "new", place)
"""


def lay(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("old", [OLD, {}], ids=["replacing", "first"])
def test_killed_at_any_change_the_old_or_the_new_dataset_is_whole(tmp_path: Path, old: dict[str, bytes]) -> None:
    outcomes = []
    for step in range(1, 40):
        root = tmp_path / str(step)
        place = root / "data" / "mine"
        lay(place, old)
        lay(staging_folder(place) / "new", NEW)
        done = subprocess.run([sys.executable, "-c", KILLED, str(place), str(step)], cwd=CHECKOUT, check=False)
        recover_dataset(place)
        assert tree(place) in (old, NEW)
        assert not staging_folder(place).exists()
        outcomes.append(tree(place) == NEW)
        if done.returncode == 0:
            break
    assert done.returncode == 0
    assert outcomes == sorted(outcomes)  # first old, from some step on new
    assert not outcomes[0]


@pytest.mark.slow
def test_a_half_deleted_old_dataset_does_not_come_back_for_a_new_one_that_was_deleted(tmp_path: Path) -> None:
    for step in range(1, 40):
        place = tmp_path / str(step) / "data" / "mine"
        lay(place, OLD)
        lay(staging_folder(place) / "new", NEW)
        done = subprocess.run([sys.executable, "-c", KILLED, str(place), str(step)], cwd=CHECKOUT, check=False)
        if tree(place) == NEW:
            shutil.rmtree(place)
        recover_dataset(place)
        assert tree(place) in ({}, OLD)
        if done.returncode == 0:
            break
    assert done.returncode == 0


def test_the_aside_folder_lies_on_the_disk_that_a_linked_data_folder_lies_on(tmp_path: Path) -> None:
    (tmp_path / "disk" / "data").mkdir(parents=True)
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "data").symlink_to(tmp_path / "disk" / "data")
    place = tmp_path / "project" / "data" / "mine"
    replace_dataset(lay(staging_folder(place) / "new", NEW), place)
    assert tree(place) == NEW
    assert tree(tmp_path / "disk" / "data") == {f"mine/{name}": content for name, content in NEW.items()}


def test_the_content_hash_is_that_of_sha256sum_without_the_receipt(tmp_path: Path) -> None:
    folder = lay(tmp_path / "set", {**NEW, "receipt.json": b"{}"})
    command = "find . -type f ! -name receipt.json -printf '%P\\n' | LC_ALL=C sort | xargs sha256sum | sha256sum"
    expected = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, check=True).stdout.split()[0]
    assert content_sha256(folder) == expected
