"""A state folder that was moved, copied or restored uses its own files, and nothing is written to where it came from."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from aeops.errors import DataError, InfrastructureError
from aeops.machine.prefect_access import PrefectAccess
from aeops.machine.servers import recorded_prefect
from aeops.machine.service_records import ServiceRecord, read_service_record, read_service_records, write_service_record
from aeops.project import Project
from aeops.registry import promotion
from aeops.registry.database import artifacts_folder, database_file
from aeops.registry.locations import LOCATION_COLUMNS
from aeops.registry.store import Store, open_store

DATASET = {"dataset": "digits", "content_sha256": "c" * 64}
HOLD = """
import sys, time
from pathlib import Path
from aeops.machine.lock import run_lock
from aeops.project import Project
with run_lock(Project(Path(sys.argv[1]), Path(sys.argv[1]) / ".ae"), "ae run digits"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def no_remembered_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow remembers in a process where the files of a run are; a copy has the same runs."""
    from mlflow.tracking._tracking_service import utils

    utils._artifact_repos_cache.clear()


def copied_to(project: Project, root: Path) -> Project:
    """A copy of the project with its state, as `cp -a` makes it."""
    shutil.copytree(project.root, root)
    return Project(root, root / ".ae")


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Time and content of every file but SQLite's own lock files, which readers touch."""
    files = [file for file in folder.rglob("*") if file.is_file() and not file.name.endswith(("-shm", "-wal"))]
    return {str(file.relative_to(folder)): (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


def stored_locations(project: Project) -> list[str]:
    with closing(sqlite3.connect(database_file(project))) as database:
        values = [database.execute(f"select {column} from {table}").fetchall() for table, column in LOCATION_COLUMNS]
    return [value for rows in values for (value,) in rows if value is not None]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["copy", "a place with spaces, ä and %41"])
def test_what_a_copy_does_never_touches_the_original(
    decided: Store,
    bundle: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    original = decided.project
    before = snapshot(original.home)
    copy = copied_to(original, tmp_path_factory.mktemp("staging") / name)
    store = open_store(copy)
    assert f"the state folder was {original.home} and is {copy.home}: repaired" in capsys.readouterr().err
    run = store.start_run("digits", {}, {}, DATASET)
    store.log_files(run, [copy.root / "dvc.yaml"])
    version = store.register(run, "digits", bundle("four"), {}, "")
    promotion.promote(store, "digits", version, expected="2", who="ada", why="better", evidence={"sha256": "4" * 64})
    assert promotion.find_problems(store, "digits") == []
    assert snapshot(original.home) == before
    assert all(value.startswith(artifacts_folder(copy).as_uri()) for value in stored_locations(copy))
    assert open_store(copy)
    assert capsys.readouterr().err == ""  # once repaired it says nothing


def test_a_copy_reads_its_own_files(decided: Store, tmp_path_factory: pytest.TempPathFactory) -> None:
    copy = copied_to(decided.project, tmp_path_factory.mktemp("staging") / "copy")
    for file in artifacts_folder(copy).rglob("model.onnx"):
        file.write_bytes(b"another model")
    store = open_store(copy)
    (problem,) = promotion.find_problems(store, "digits")
    assert "model.onnx was altered" in problem
    with pytest.raises(DataError, match=r"model\.onnx was altered"):
        store.download_bundle("digits", "2")


def test_a_moved_state_folder_is_whole_at_its_new_place(decided: Store, tmp_path_factory: pytest.TempPathFactory) -> None:
    new_root = tmp_path_factory.mktemp("new") / "moved"
    shutil.copytree(decided.project.root, new_root)
    shutil.rmtree(decided.project.home)
    store = open_store(Project(new_root, new_root / ".ae"))
    assert promotion.find_problems(store, "digits") == []
    assert (store.download_bundle("digits", "2") / "model.onnx").read_bytes() == b"two"
    assert not decided.project.home.exists()


def test_a_database_restored_without_its_files_says_what_to_copy(
    decided: Store, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = copied_to(decided.project, tmp_path_factory.mktemp("restored") / "copy")
    shutil.rmtree(artifacts_folder(copy))
    store = open_store(copy)
    message = capsys.readouterr().err
    assert "The files of 3 models are missing" in message
    assert "bundle of digits 2 is not in the store" in promotion.find_problems(store, "digits")[0]
    artifacts_folder(copy).mkdir()
    subprocess.run(message[message.index("`") + 1 : message.rindex("`")].split(), check=True)
    assert promotion.find_problems(store, "digits") == []


@pytest.mark.slow
def test_paths_are_left_alone_while_a_run_of_another_process_uses_them(
    decided: Store, tmp_path_factory: pytest.TempPathFactory
) -> None:
    copy = copied_to(decided.project, tmp_path_factory.mktemp("mounted") / "copy")
    with subprocess.Popen([sys.executable, "-c", HOLD, str(copy.root)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(
            InfrastructureError, match=rf"`ae run digits` \(process {other.pid}\) is in progress .* type the same"
        ):
            open_store(copy)
        assert all(str(decided.project.home) in value for value in stored_locations(copy))
        other.kill()
    assert open_store(copy).champion_version("digits") == "2"


def test_an_experiment_whose_files_lie_elsewhere_takes_no_run(store: Store, tmp_path: Path) -> None:
    store.client.create_experiment("digits", artifact_location=(tmp_path / "elsewhere").as_uri())
    with pytest.raises(DataError, match=r"stores its files in file:.*elsewhere, outside the state folder: rename it"):
        store.start_run("digits", {}, {}, DATASET)
    store.client.rename_experiment(store.client.get_experiment_by_name("digits").experiment_id, "digits by hand")
    assert store.start_run("digits", {}, {}, DATASET)


def test_locations_in_an_object_store_do_not_move(store: Store, tmp_path_factory: pytest.TempPathFactory) -> None:
    address = "s3://models/.ae/mlflow/artifacts/digits"
    store.client.create_experiment("digits", artifact_location=address)
    copy = copied_to(store.project, tmp_path_factory.mktemp("staging") / "copy")
    assert open_store(copy).client.get_experiment_by_name("digits").artifact_location == address


# ---------------------------------------------------------------- what else names the original


def test_a_copy_takes_no_service_of_the_original_for_its_own(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    record = ServiceRecord(
        name="prefect",
        pid=1,
        started_at=0.0,
        start_id="x",
        address="http://127.0.0.1:4200",
        health="http://127.0.0.1:4200/api/health",
        log=str(project.logs / "prefect.log"),
        command=["prefect"],
        api_url="http://127.0.0.1:4200/api",
    )
    write_service_record(project, record)
    copy = copied_to(project, tmp_path_factory.mktemp("staging") / "copy")
    assert read_service_record(project, "prefect") == record
    assert read_service_record(copy, "prefect") is None
    assert recorded_prefect(project) == PrefectAccess(str(record.api_url), None)
    assert recorded_prefect(copy) is None  # or a run in the copy would be recorded by the original's server
    assert read_service_records(project) == [record]
    assert read_service_records(copy) == []
