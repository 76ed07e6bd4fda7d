"""What DVC, SQLite and the project's own functions write is on the disk before anything relies on it."""

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from checkout import make_checkout
from power_cut import PowerCut, record
from sqlalchemy.ext.asyncio import create_async_engine

from aeops.data import dvc
from aeops.files import append_synced, sync_tree
from aeops.machine.sqlite_sync import sync_every_commit
from aeops.project import Project

WRITE_BELOW_NEW_FOLDERS = """
import sys
from pathlib import Path
from aeops.files import append_synced, atomic_folder, write_json
root = Path(sys.argv[1])
write_json(root / "state" / "one" / "record.json", {"whole": True})
append_synced(root / "state" / "two" / "lines", b"first\\n")
append_synced(root / "state" / "two" / "lines", b"second\\n")
with atomic_folder(root / "state" / "three" / "folder") as folder:
    (folder / "inner").mkdir()
    (folder / "inner" / "file").write_text("whole")
"""


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> set[tuple[int, int]]:
    """Device and inode of all that this process has synced, with its content as it still is."""
    inodes: set[tuple[int, int]] = set()
    sync = os.fsync

    def note_sync(descriptor: int) -> None:
        sync(descriptor)
        status = os.fstat(descriptor)
        inodes.add((status.st_dev, status.st_ino))

    monkeypatch.setattr(os, "fsync", note_sync)
    return inodes


def not_synced(path: Path, synced: set[tuple[int, int]]) -> list[Path]:
    paths = [path, *path.rglob("*")]
    return [child for child in paths if (child.stat().st_dev, child.stat().st_ino) not in synced]


def test_what_was_written_below_new_folders_is_there_after_a_power_failure(tmp_path: Path) -> None:
    root = (tmp_path / "root").resolve()
    root.mkdir()
    cut = PowerCut(root)
    for operation in record([sys.executable, "-c", WRITE_BELOW_NEW_FOLDERS, str(root)], root, tmp_path):
        cut.apply(operation)
    assert cut.differences() == [], "the recorder missed a write"
    cut.restore(names_survive=False)
    state = root / "state"
    assert (state / "one" / "record.json").read_text() == '{\n  "whole": true\n}\n'
    assert (state / "two" / "lines").read_bytes() == b"first\nsecond\n"
    assert (state / "three" / "folder" / "inner" / "file").read_text() == "whole"


def test_an_incomplete_end_is_cut_off_before_the_next_line(tmp_path: Path) -> None:
    append_synced(tmp_path / "lines", b"first\nsec")
    append_synced(tmp_path / "lines", b"second\n", end=6)
    assert (tmp_path / "lines").read_bytes() == b"first\nsecond\n"


# ---------------------------------------------------------------- DVC


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", "")
    checkout = make_checkout(tmp_path / "checkout")
    data = checkout.root / "data" / "digits"
    data.mkdir(parents=True)
    (data / "samples").write_text("some samples")
    return Project(checkout.root, checkout.home)


def stored_samples(folder: Path) -> Path:
    [path] = [path for path in (folder / "files" / "md5").glob("*/*") if path.suffix != ".dir"]
    return path


@pytest.mark.slow
def test_what_dvc_stores_is_on_the_disk_and_what_a_power_failure_emptied_is_stored_again(
    project: Project, synced: set[tuple[int, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    dvc.add_dataset(project, "digits")
    cache, remote = project.root / ".dvc" / "cache" / "files", project.home / "dvc-remote" / "files"
    assert not_synced(cache, synced) == not_synced(remote, synced) == not_synced(project.root / "data.dvc", synced) == []
    assert not (project.home / "dvc-writes.json").exists()

    (project.home / "dvc-writes.json").write_text('{"since": 0.0}')  # as while DVC writes
    for folder in (cache, remote):
        stored = stored_samples(folder.parent)
        stored.chmod(0o644)
        stored.write_bytes(b"")
        stored.chmod(0o444)
    dvc.add_dataset(project, "digits")
    assert stored_samples(cache.parent).read_text() == stored_samples(remote.parent).read_text() == "some samples"
    assert capsys.readouterr().err.count("DVC stores it again") == 2


# ---------------------------------------------------------------- SQLite


def test_what_another_program_writes_right_after_the_clock_was_read_is_synced(
    tmp_path: Path, synced: set[tuple[int, int]]
) -> None:
    """The kernel stamps files by a clock that is some milliseconds behind the one that programs read."""
    for number in range(50):
        since, folder = time.time(), tmp_path / str(number)
        folder.mkdir()
        (folder / "file").touch()
        sync_tree(folder, folder, since)
    assert not_synced(tmp_path, synced) == [tmp_path]


def test_what_was_not_changed_for_longer_is_not_synced(tmp_path: Path, synced: set[tuple[int, int]]) -> None:
    (tmp_path / "file").touch()
    sync_tree(tmp_path, tmp_path, time.time() + 60)
    assert synced == set()


def test_every_connection_to_sqlite_syncs_its_commits_also_where_the_library_wants_less(tmp_path: Path) -> None:
    sync_every_commit()
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'one.db'}")
    sqlalchemy.event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=NORMAL"))
    for _ in range(2):
        with engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
    engine.dispose()


def test_an_asynchronous_connection_as_prefects_syncs_its_commits(tmp_path: Path) -> None:
    sync_every_commit()

    def want_less(connection: Any, _entry: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.close()

    async def read_setting() -> int:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'one.db'}")
        sqlalchemy.event.listen(engine.sync_engine, "connect", want_less)
        async with engine.connect() as connection:
            value = (await connection.exec_driver_sql("PRAGMA synchronous")).scalar()
        await engine.dispose()
        return int(value or 0)

    assert asyncio.run(read_setting()) == 2
