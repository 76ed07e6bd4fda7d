"""A shared server: the owner's umask is 027, and another user of the group reads. Needs root, to be another user."""

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from champion_helpers import make_champion
from group_reader import GROUP, READER, Answer, GroupReader
from stack_processes import record_service

from aeops.machine.lock import run_lock
from aeops.machine.stack_settings import Settings, write_settings
from aeops.project import Project
from aeops.registry.database import database_file
from aeops.registry.store import open_store

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a command as another user")
REPOSITORY = Path(__file__).parents[2]
SCORE = "score digits batch.npy"
READING_COMMANDS = ("ledger verify digits", "show digits", "why digits@1", "history digits", "doctor", "monitor digits")


@dataclass(frozen=True)
class SharedProject:
    """A project of the owner with the champion of digits, in a folder that everybody may enter."""

    project: Project
    reader: GroupReader

    def as_reader(self, *commands: str, **settings: str) -> list[Answer]:
        """Run commands of `ae` as the other user."""
        return self.reader.run(self.project.root, commands, **settings)

    def state(self) -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in self.project.home.rglob("*")}


@pytest.fixture(scope="module")
def reader(project: Project, digits: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GroupReader]:
    root = Path(shutil.copytree(project.root, tmp_path_factory.mktemp("loading") / "line"))
    np.save(root / "batch.npy", digits[:2])
    commands = (*READING_COMMANDS, "score digits batch.npy", "score digits batch.npy --json", "status", "rollback digits --why x")
    with (root / "errors.log").open("w+", encoding="utf-8") as errors, GroupReader(root, commands, errors) as started:
        yield started


@pytest.fixture
def umask() -> Iterator[Callable[[int], int]]:
    before = os.umask(0o022)
    os.umask(before)
    yield os.umask
    os.umask(before)


@pytest.fixture
def shared(
    linear_bundle: Path,
    digits: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    umask: Callable[[int], int],
    reader: GroupReader,
) -> Iterator[SharedProject]:
    for name in ("MLFLOW_TRACKING_URI", "AE_HOME"):
        monkeypatch.delenv(name, raising=False)
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # pytest's own folders are for their owner alone
        Path(folder).chmod(0o755)
        umask(0o027)
        root = Path(folder) / "line"
        (root / "recipes").mkdir(parents=True)
        shutil.copy(REPOSITORY / "recipes" / "digits.yaml", root / "recipes")
        shutil.copy(REPOSITORY / "dvc.yaml", root)
        (root / "params.yaml").write_text("recipes:\n  digits: {dataset: digits}\n", encoding="utf-8")
        (root / "requirements.lock").write_text("", encoding="utf-8")
        np.save(root / "batch.npy", digits[:2])
        project = Project(root, root / ".ae")
        store = open_store(project)
        run = store.start_run("digits", {}, {}, {"dataset": "digits", "content_sha256": "c" * 64})
        for file in linear_bundle.iterdir():
            file.chmod(0o600)  # as safetensors writes its files
        make_champion(store, "digits", store.register(run, "digits", linear_bundle, {"verdict": "accepted"}, "# digits"))
        store.log_metrics(run, {"false_alarms": {"threshold": 0.05, "requested": 0.01, "measured": 0.012}})
        write_settings(project, Settings(mlflow_port=5077))
        with run_lock(project, "ae run digits"):
            pass
        yield SharedProject(project, reader)


def test_another_user_of_the_group_reads_all_and_writes_nothing(shared: SharedProject) -> None:
    before = shared.state()
    verify, show, why, history, doctor, monitor, score, run, rollback = shared.as_reader(
        *READING_COMMANDS, "score digits batch.npy", "run digits", "rollback digits --why worse"
    )
    assert verify.code == 0, verify.text
    assert "whole, 1 line, champion 1" in verify.text
    assert show.code == 0, show.text
    assert "1.20%" in show.text
    assert "threshold" in why.text
    assert "cannot be read" not in why.text
    assert history.code == 0, history.text
    assert "which you may read and not write" in doctor.text
    assert "champion is version 1" in doctor.text
    assert "fault" not in doctor.text, doctor.text
    folder = shared.project.home / "monitoring"
    assert (monitor.code, "you may not use" in monitor.text, str(folder) in monitor.text) == (5, True, True), monitor.text
    folder = shared.project.home / "predictions" / "digits"
    assert score.code == 5, score.text
    assert f"every score is recorded in {folder}, where you may not write" in score.text
    assert run.code == 5, run.text
    assert f"cannot write in the state folder {shared.project.home}" in run.text
    assert (rollback.code, "you may not use" in rollback.text) == (5, True), rollback.text
    assert shared.state() == before


def test_scoring_needs_to_write_the_predictions_and_nothing_else(shared: SharedProject) -> None:
    predictions = shared.project.home / "predictions" / "digits"
    predictions.mkdir(parents=True)
    predictions.chmod(0o770)
    scored, found = shared.as_reader("score digits batch.npy --json", "show digits")
    assert scored.code == 0, scored.text
    assert json.loads(scored.text)["version"] == "1"
    assert len(list(predictions.rglob("*.parquet"))) == 1
    assert found.code == 0
    assert not (shared.project.home / "serving").exists()  # the registry's own copy is used in place


@pytest.mark.slow
def test_a_reader_sees_what_the_owner_does_at_the_same_time(shared: SharedProject) -> None:
    store = open_store(shared.project)  # an open connection: SQLite's log is there, and holds the newest writes
    store.set_alias("digits", "challenger", "1")
    log = database_file(shared.project).with_name("mlflow.db-wal")
    assert log.stat().st_size > 0
    (shown,) = shared.as_reader("show digits")
    assert "challenger" in shown.text


def test_group_modes_follow_the_umask(shared: SharedProject) -> None:
    open_store(shared.project).download_bundle("digits", "1")
    secrets = {shared.project.home / "stack" / "settings.json"}
    for path in shared.project.home.rglob("*"):
        expected = 0o750 if path.is_dir() else 0o640
        if path in secrets:
            expected = 0o600
        assert path.stat().st_mode & 0o777 == expected, path


def test_a_read_only_checkout_with_a_state_folder_of_ones_own_runs_all_that_only_reads(shared: SharedProject) -> None:
    home = shared.project.root.parent / "own"
    shutil.copytree(shared.project.home, home)
    for path in (home, *home.rglob("*")):
        os.chown(path, READER, GROUP)
    show, verify, monitor, score, run, up = shared.as_reader(
        "show digits",
        "ledger verify",
        "monitor digits",
        "score digits batch.npy",
        "run digits",
        "up",
        AE_HOME=str(home),
    )
    for answer in (show, verify, monitor, score):
        assert answer.code == 0, answer.text
    for answer in (run, up):
        assert answer.code == 5, answer.text
        assert f"cannot write {shared.project.root}" in answer.text
        assert "`git clone" in answer.text
    assert str(home) in show.text or "the state folder was" in show.text


def test_a_state_folder_that_may_not_even_be_read_is_said(shared: SharedProject) -> None:
    shared.project.home.chmod(0o700)
    answers = shared.as_reader("show digits", "history digits", "doctor", "status")
    for answer in answers[:2]:
        assert answer.code in (2, 5), answer.text
        assert str(shared.project.home) in answer.text
    assert "a traceback" not in [answer.code for answer in answers], answers


def test_secrets_of_a_configuration_stay_secret(shared: SharedProject) -> None:
    from aeops.data.dvc import keep_state_in_home

    local_config = shared.project.root / ".dvc" / "config.local"
    local_config.parent.mkdir()
    local_config.write_text("['remote \"ours\"']\n    password = secret\n", encoding="utf-8")
    local_config.chmod(0o600)
    keep_state_in_home(Project(shared.project.root, shared.project.root.parent / "own"))
    assert "own/dvc-remote" in local_config.read_text(encoding="utf-8")
    assert local_config.stat().st_mode & 0o777 == 0o600


def test_a_cache_in_which_dvc_lets_everybody_write_is_closed(shared: SharedProject) -> None:
    from aeops.data.dvc import keep_state_in_home

    site_cache = shared.project.home / "dvc-site"
    site_cache.mkdir()
    os.chown(site_cache, READER, GROUP)
    site_cache.chmod(0o777)
    keep_state_in_home(shared.project)
    assert site_cache.stat().st_mode & 0o777 == 0o777  # only its owner may change that
    os.chown(site_cache, os.geteuid(), GROUP)
    for home_mode, expected in ((0o755, 0o700), (0o770, 0o770)):
        shared.project.home.chmod(home_mode)
        site_cache.chmod(0o777)  # as DVC makes it, whatever the umask
        keep_state_in_home(shared.project)
        assert site_cache.stat().st_mode & 0o777 == expected


@pytest.mark.slow
def test_locks_can_be_looked_at_without_writing(shared: SharedProject) -> None:
    record_service(shared.project, "mlflow", address="http://127.0.0.1:5077")
    with (shared.project.locks_folder / "run.lock").open("r+", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(json.dumps({"pid": 1, "purpose": "ae run digits"}))
        lock.flush()
        doctor, show = shared.as_reader("doctor", "show digits")
    assert "`ae run digits` is in progress" in doctor.text
    assert "http://127.0.0.1:5077/#/" in show.text
