"""Temporary folders: gone at the end of their owner, and after a kill by the next process; never those that somebody uses."""

import gc
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from checkout import ROOT

from aeops.machine import scratch
from aeops.machine.scratch import PREFIX, SPARED_SECONDS, ScratchFolder, find_abandoned, held_if_abandoned, remove_abandoned

OWNER = """
import os, sys, time
from aeops.machine.scratch import ScratchFolder
folder = ScratchFolder()
open(os.path.join(folder.name, "half"), "w").close()
child = os.fork() if sys.argv[1:] == ["fork"] else None
if child != 0:
    print(folder.name, child, flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of temporary files that this test has alone."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(scratch, "_swept_by", [])
    return tmp_path


@pytest.fixture
def start(temporary: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a process with a scratch folder; what still runs is killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def start_owner(*arguments: str) -> subprocess.Popen[str]:
        environment = os.environ | {"TMPDIR": str(temporary)}
        command = [sys.executable, "-c", OWNER, *arguments]
        started.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start_owner
    for process in started:
        process.kill()
        process.communicate()


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def folder_of(process: subprocess.Popen[str]) -> Path:
    return Path(read_line(process).split()[0]).parent


def age(folder: Path) -> None:
    """Let a scratch folder be as old as one that may be removed."""
    past = time.time() - SPARED_SECONDS - 1
    os.utime(folder, (past, past))


def folders(temporary: Path) -> list[str]:
    return sorted(path.name for path in temporary.glob(f"{PREFIX}*"))


def test_it_is_removed_at_the_end_of_its_block_by_cleanup_and_with_its_object(temporary: Path) -> None:
    with ScratchFolder() as name:
        (Path(name) / "file").write_text("x")
        assert len(folders(temporary)) == 1
    assert folders(temporary) == []
    folder = ScratchFolder()
    folder.cleanup()
    folder.cleanup()
    assert folders(temporary) == []
    folder = ScratchFolder()
    assert os.listdir(folder.name) == []
    del folder
    gc.collect()
    assert folders(temporary) == []


def test_what_a_killed_process_leaves_is_removed_by_the_next_and_a_living_ones_is_not(
    start: Callable[..., subprocess.Popen[str]], temporary: Path
) -> None:
    killed, living = start(), start()
    dead_folder, living_folder = (folder_of(process) for process in (killed, living))
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    for folder in (dead_folder, living_folder):
        assert folder.is_dir()
        age(folder)
    assert find_abandoned() == [dead_folder]
    with ScratchFolder():  # the first one of this process
        assert not dead_folder.exists()
        assert (living_folder / "d" / "half").is_file()


def test_one_of_the_last_minutes_stays(start: Callable[..., subprocess.Popen[str]]) -> None:
    killed = start()
    folder = folder_of(killed)
    killed.kill()
    killed.wait()
    remove_abandoned()
    assert folder.is_dir()


def test_a_fork_of_a_killed_owner_holds_it(start: Callable[..., subprocess.Popen[str]]) -> None:
    owner = start("fork")
    name, child = read_line(owner).split()
    owner.kill()
    owner.wait()
    folder = Path(name).parent
    age(folder)
    try:
        assert find_abandoned() == []
    finally:
        os.kill(int(child), signal.SIGKILL)
    deadline = time.monotonic() + 10
    while find_abandoned() != [folder] and time.monotonic() < deadline:
        time.sleep(0.02)
    remove_abandoned()
    assert not folder.exists()


def test_other_files_and_links_are_left_alone(temporary: Path) -> None:
    precious = temporary / "precious"
    precious.mkdir()
    (temporary / f"{PREFIX}link").symlink_to(precious)
    (temporary / f"{PREFIX}file").write_text("x")
    (temporary / "ae-other").mkdir()
    for name in (f"{PREFIX}file", "precious", "ae-other"):
        age(temporary / name)
    remove_abandoned()
    assert sorted(path.name for path in temporary.iterdir()) == ["ae-other", f"{PREFIX}file", f"{PREFIX}link", "precious"]


def test_only_one_process_at_a_time_removes_a_folder(start: Callable[..., subprocess.Popen[str]]) -> None:
    killed = start()
    folder = folder_of(killed)
    killed.kill()
    killed.wait()
    age(folder)
    with held_if_abandoned(folder) as first, held_if_abandoned(folder) as second:
        assert (first, second) == (True, False)
