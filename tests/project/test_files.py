"""Files and folders are the old ones or the new ones, whole, wherever their writer fails or is killed."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT

from aeops.files import (
    atomic_folder,
    atomic_path,
    atomic_write,
    data_sha256,
    file_sha256,
    recover_folder,
    temporary_path,
    write_json,
)
from aeops.machine.stored_json import read_json

# The audit hook sees every call that changes a folder just before it happens, and kills the process at the one asked for.
KILLED_WRITER = """
import os, sys
from pathlib import Path
from aeops.files import {names}
calls_left = int(sys.argv[2])
def kill(event, arguments):
    global calls_left
    calls_left -= event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir")
    if calls_left == 0:
        os._exit(9)
path = Path(sys.argv[1])
sys.addaudithook(kill)
{work}
"""
WRITE_FILE = KILLED_WRITER.format(names="atomic_write", work="atomic_write(path, 'new')")
WRITE_FOLDER = KILLED_WRITER.format(
    names="atomic_folder", work="with atomic_folder(path) as tmp_path:\n    (tmp_path / 'file').write_text('new')"
)


def run_killed(script: str, path: Path, calls: int) -> int:
    return subprocess.run([sys.executable, "-c", script, str(path), str(calls)], cwd=ROOT, check=False).returncode


def test_a_writer_killed_before_its_rename_leaves_the_old_file_whole_and_the_next_one_clears_up(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text("old")
    assert run_killed(WRITE_FILE, path, 3) == 9  # the first two make the folder and clear up, the third is the rename
    assert path.read_text() == "old"
    assert temporary_path(path).read_text() == "new"
    assert run_killed(WRITE_FILE, path, 0) == 0
    assert path.read_text() == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["state.json"]


def test_a_folder_whose_writer_is_killed_at_any_change_is_the_old_or_the_new_one(tmp_path: Path) -> None:
    contents = []
    for calls in range(1, 40):
        folder = tmp_path / str(calls) / "report"
        folder.mkdir(parents=True)
        (folder / "file").write_text("old")
        code = run_killed(WRITE_FOLDER, folder, calls)
        recover_folder(temporary_path(folder), folder)
        contents.append((folder / "file").read_text())
        assert [path.name for path in folder.parent.iterdir()] == ["report"]
        if code == 0:
            break
    assert code == 0
    assert contents == sorted(contents, reverse=True)  # old, and from some call on new
    assert contents[0] == "old"


def write_half_a_file(root: Path) -> None:
    with atomic_path(root / "file") as new_path:
        new_path.write_text("half")
        raise ValueError("stop")


def write_half_a_folder(root: Path) -> None:
    with atomic_folder(root / "folder") as new_folder:
        (new_folder / "file").write_text("half")
        raise ValueError("stop")


def test_a_block_that_fails_leaves_the_old_file_and_folder_and_nothing_beside_them(tmp_path: Path) -> None:
    atomic_write(tmp_path / "file", "old")
    with atomic_folder(tmp_path / "folder") as new_folder:
        (new_folder / "file").write_text("old")
    for write_half in (write_half_a_file, write_half_a_folder):
        with pytest.raises(ValueError, match="stop"):
            write_half(tmp_path)
    assert (tmp_path / "file").read_text() == "old"
    assert (tmp_path / "folder" / "file").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize(("umask", "mode", "expected"), [(0o022, 0o666, 0o644), (0o077, 0o666, 0o600), (0o022, 0o600, 0o600)])
def test_permissions_are_those_asked_for_less_the_umask(tmp_path: Path, umask: int, mode: int, expected: int) -> None:
    path = tmp_path / "new" / "settings.json"
    before = os.umask(umask)
    try:
        write_json(path, {"port": 1}, mode)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == expected
    assert read_json(path) == {"port": 1}


def test_file_and_folder_are_on_the_disk_before_and_after_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    sync, replace = os.fsync, os.replace

    def note_sync(descriptor: int) -> None:
        calls.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        sync(descriptor)

    def note_replace(old: Path, new: Path) -> None:
        calls.append("rename")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_replace)
    atomic_write(tmp_path / "file", b"content")
    assert calls == [".file.tmp", "rename", tmp_path.name]


def test_the_hash_of_a_text_is_that_of_its_file(tmp_path: Path) -> None:
    text = "café\n"
    atomic_write(tmp_path / "text", text)
    assert data_sha256(text) == data_sha256(text.encode()) == file_sha256(tmp_path / "text")
    assert file_sha256(tmp_path / "text") == hashlib.sha256(text.encode()).hexdigest()
