"""`ae prune`: what no version needs goes, and everything that one needs stays."""

import fcntl
import hashlib
import json
import os
import subprocess
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from aeops.cli.main import main
from aeops.data.stored_objects import FOLDER_SUFFIX, object_file
from aeops.errors import DataError
from aeops.machine.lock import file_lock
from aeops.machine.scratch import CONTENT, LOCK_FILE, PREFIX, SPARED_SECONDS
from aeops.predictions.unfinished_scoring import find_unfinished_scoring, shards_folder, shards_lock
from aeops.project import Project
from aeops.provenance.pruning import Removal, plan_removals, remove
from aeops.provenance.state_size import FolderSize, measure_state, newest_change
from aeops.registry.store import Store

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
OLD, NEW = NOW - timedelta(days=40), NOW - timedelta(days=2)


def write(file: Path, content: bytes, at: datetime = OLD) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    os.utime(file, (at.timestamp(), at.timestamp()))
    return file


class Stores:
    """DVC's cache and its local remote, laid out as DVC does, with folders of samples that are put into both."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.cache, self.remote = project.root / ".dvc" / "cache", project.home / "dvc-remote"
        write(project.root / ".dvc" / "config", b"[core]\n    remote = local\n")
        write(project.root / ".dvc" / "config.local", b"['remote \"local\"']\n    url = ../.ae/dvc-remote\n")

    def put(self, *contents: bytes, at: datetime = OLD) -> str:
        """Store a folder of files and return its hash."""
        entries = []
        for index, content in enumerate(contents):
            md5 = hashlib.md5(content).hexdigest()  # as DVC names files
            entries.append({"md5": md5, "relpath": f"{index}.npy"})
            self._write(md5, content, at)
        listed = json.dumps(entries).encode()
        md5 = hashlib.md5(listed).hexdigest() + FOLDER_SUFFIX
        self._write(md5, listed, at)
        return md5

    def _write(self, md5: str, content: bytes, at: datetime) -> None:
        for store in (self.cache, self.remote):
            write(object_file(store, md5), content, at)

    def held(self, store: Path) -> set[bytes]:
        return {path.read_bytes() for path in (store / "files").rglob("*") if path.is_file() and path.suffix != FOLDER_SUFFIX}

    def in_checkout(self, md5: str) -> None:
        document = {"outs": [{"md5": md5, "path": "data/digits"}]}
        (self.project.root / "data.dvc").write_text(yaml.safe_dump(document), encoding="utf-8")


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of temporary files that this test has alone."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def stores(project: Project, registered: Store) -> Stores:
    """Versions 1 to 3 of digits were trained on a folder that they share."""
    made = Stores(project)
    shared = made.put(b"of the versions")
    for version in ("1", "2", "3"):
        registered.set_tags("digits", version, {"data.dvc_md5": shared})
    return made


def prune(project: Project, store: Store, days: int = 30) -> list[Removal]:
    removals = plan_removals(project, store, NOW, days)
    remove(removals)
    return removals


def test_what_a_version_or_the_checkout_names_stays_and_other_old_data_goes(
    project: Project, registered: Store, stores: Stores
) -> None:
    stores.in_checkout(stores.put(b"of the checkout"))
    stores.put(b"of nobody")
    stores.put(b"of a run that failed yesterday", at=NEW)
    removals = prune(project, registered)
    assert stores.held(stores.remote) == {b"of the versions", b"of the checkout", b"of a run that failed yesterday"}
    assert stores.held(stores.cache) == {b"of the checkout", b"of a run that failed yesterday"}  # the remote has the versions'
    assert {removal.place for removal in removals} == {".dvc/cache", ".ae/dvc-remote"}
    assert all(removal.size_bytes > 0 for removal in removals)
    assert plan_removals(project, registered, NOW, 30) == []


def test_the_data_of_a_version_stays_in_the_cache_where_the_remote_lacks_it(
    project: Project, registered: Store, stores: Stores
) -> None:
    md5 = hashlib.md5(b"of the versions").hexdigest()
    object_file(stores.remote, md5).unlink()
    prune(project, registered)
    assert stores.held(stores.cache) == {b"of the versions"}


def test_a_file_that_a_needed_folder_shares_stays(project: Project, registered: Store, stores: Stores) -> None:
    stores.put(b"of the versions", b"more, of nobody")
    prune(project, registered)
    assert stores.held(stores.remote) == {b"of the versions"}


def test_what_a_commit_names_stays(project: Project, registered: Store, stores: Stores) -> None:
    stores.in_checkout(stores.put(b"of a commit"))
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "data.dvc", "dvc.yaml"], [*who, "commit", "-qm", "start"]):
        subprocess.run(["git", *command], cwd=project.root, check=True)
    stores.in_checkout(stores.put(b"of the checkout"))
    prune(project, registered)
    assert stores.held(stores.remote) == {b"of the versions", b"of a commit", b"of the checkout"}


def test_where_git_cannot_say_what_commits_name_nothing_is_deleted(
    project: Project, registered: Store, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["git", "init", "-q"], cwd=project.root, check=True)
    stores.put(b"of a commit?")
    with monkeypatch.context() as patch:
        patch.setenv("PATH", "")
        with pytest.raises(DataError, match="git is not installed"):
            prune(project, registered)
    assert b"of a commit?" in stores.held(stores.remote)
    prune(project, registered)  # a repository without a commit names nothing
    assert stores.held(stores.remote) == {b"of the versions"}


def test_where_a_version_does_not_name_its_data_nothing_is_deleted(project: Project, registered: Store) -> None:
    stores = Stores(project)
    stores.put(b"of which version?")
    with pytest.raises(DataError, match=r"digits@3, digits@2, digits@1: expected the tag data.dvc_md5"):
        prune(project, registered)
    assert stores.held(stores.remote) == {b"of which version?"}


def test_a_remote_elsewhere_is_left_alone(project: Project, registered: Store, stores: Stores, tmp_path: Path) -> None:
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    stores.put(b"of nobody")
    stores.remote.rename(elsewhere)
    settings = f"[core]\n    remote = nas\n['remote \"nas\"']\n    url = {elsewhere}\n"
    write(project.root / ".dvc" / "config.local", settings.encode())
    prune(project, registered)
    assert stores.held(elsewhere) == {b"of the versions", b"of nobody"}
    assert stores.held(stores.cache) == set()


def test_killed_in_the_middle_no_folder_is_listed_that_is_not_whole(
    project: Project, registered: Store, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    torn = stores.put(b"one", b"two", b"three")
    [removal] = [one for one in plan_removals(project, registered, NOW, 30) if one.place == ".ae/dvc-remote"]
    deleted: list[Path] = []
    unlink = Path.unlink

    def die_at_the_second(path: Path, missing_ok: bool = False) -> None:
        if len(deleted) == 1:
            raise KeyboardInterrupt
        deleted.append(path)
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", die_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            remove([removal])
    assert not object_file(stores.remote, torn).exists()
    prune(project, registered)
    assert stores.held(stores.remote) == {b"of the versions"}


def test_what_is_made_again_goes_by_its_last_change(project: Project, registered: Store, stores: Stores) -> None:
    killed = write(project.training("gone") / "last.ckpt", b"x" * 5000).parent
    going_on = write(project.training("digits") / "last.ckpt", b"x").parent
    write(going_on / "progress.jsonl", b"x", at=NEW)
    old_seed = write(project.seed_runs("digits") / "trainings" / "aa" / "weights", b"x").parent
    new_seed = write(project.seed_runs("digits") / "results" / "bb" / "metrics.json", b"x", at=NEW).parent
    for folder in (killed, old_seed):
        os.utime(folder, (OLD.timestamp(), OLD.timestamp()))
    lock = write(project.home / "rebuild" / "locks" / "run.lock", b"")
    ledger = write(project.home / "ledger" / "digits.jsonl", b"")
    predictions = write(project.home / "predictions" / "digits" / "2020-01-01" / "a.parquet", b"x")
    prune(project, registered)
    assert [path.exists() for path in (killed, going_on, old_seed, new_seed)] == [False, True, False, True]
    assert lock.exists()
    assert ledger.exists()
    assert predictions.exists()


def test_a_folder_is_as_new_as_the_last_file_in_it(tmp_path: Path) -> None:
    write(tmp_path / "a" / "b" / "c", b"x", at=NEW)
    for folder in (tmp_path / "a" / "b", tmp_path / "a"):
        os.utime(folder, (OLD.timestamp(), OLD.timestamp()))
    assert newest_change(tmp_path / "a") == NEW.timestamp()


def test_the_state_is_measured_by_folder_and_a_file_with_two_names_counts_once(tmp_path: Path) -> None:
    project = Project(tmp_path, tmp_path / ".ae")
    big = write(project.home / "dvc-remote" / "a", b"x" * 100_000)
    (tmp_path / ".dvc" / "cache").mkdir(parents=True)
    (tmp_path / ".dvc" / "cache" / "a").hardlink_to(big)
    write(project.home / "ledger" / "digits.jsonl", b"x")
    sizes = {size.name: size for size in measure_state(project)}
    assert sizes["dvc-remote"].file_count == sizes[".dvc/cache"].file_count == 1
    assert sizes["dvc-remote"].size_bytes + sizes[".dvc/cache"].size_bytes < 150_000
    assert 0 < sizes["ledger"].size_bytes < 10_000
    assert measure_state(Project(tmp_path / "none", tmp_path / "none" / ".ae")) == [FolderSize(".dvc/cache", 0, 0)]


# ---------------------------------------------------------------- files that are half scored


def half_scored(project: Project, key: str, at: datetime = OLD) -> Path:
    """Results of two shards, as a killed `ae score` leaves them."""
    folder = shards_folder(project, "digits", key)
    for name in ("call.json", "0-1024.npz", "1024-2048.npz"):
        write(folder / name, b"x" * 600, at)
    os.utime(folder, (at.timestamp(), at.timestamp()))
    return folder


def test_shards_that_nobody_goes_on_with_are_deleted(project: Project, registered: Store, stores: Stores) -> None:
    old, new = half_scored(project, "aa"), half_scored(project, "bb", at=NEW)
    removals = prune(project, registered)
    assert (old.exists(), new.exists()) == (False, True)
    [removal] = [one for one in removals if one.paths == (old,)]
    assert removal.size_bytes > 0
    assert "half scored" in removal.what


def test_shards_that_a_command_works_on_stay(project: Project, registered: Store, stores: Stores) -> None:
    old, later = half_scored(project, "aa"), half_scored(project, "bb")
    with file_lock(project, shards_lock(old)):
        removals = plan_removals(project, registered, NOW, 30)
        assert [one.is_in_use for one in find_unfinished_scoring(project)] == [True, False]
        with file_lock(project, shards_lock(later)):  # begun after the plan was made
            remove(removals)
        assert old.exists()
        assert later.exists()
    prune(project, registered)
    assert not old.exists()
    assert not later.exists()


def test_status_counts_what_is_half_scored(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    half_scored(project, "aa")
    monkeypatch.chdir(project.root)
    main(["status", "--json"])
    [row] = json.loads(capsys.readouterr().out)["unfinished_scoring"]
    assert (row["recipe"], row["shards"], row["in_use"]) == ("digits", 2, False)
    main(["status"])
    assert "files that are half scored" in capsys.readouterr().out


def test_temporary_folders_of_killed_processes_are_deleted(
    project: Project, registered: Store, stores: Stores, temporary: Path
) -> None:
    past = time.time() - SPARED_SECONDS - 1
    for name in ("dead", "living"):
        write(temporary / f"{PREFIX}{name}" / CONTENT / "file", b"x" * 600)
        write(temporary / f"{PREFIX}{name}" / LOCK_FILE, b"")
        os.utime(temporary / f"{PREFIX}{name}", (past, past))
    with (temporary / f"{PREFIX}living" / LOCK_FILE).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        [removal] = [one for one in prune(project, registered) if one.what == "temporary folders"]
    assert removal.size_bytes > 0
    assert [path.name for path in temporary.glob(f"{PREFIX}*")] == [f"{PREFIX}living"]
