"""The registry lies in its state folder, whatever characters the path of that has."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from any_name import ANY_NAME

from aeops.cli.health_checks import database_damage
from aeops.project import Project
from aeops.registry.database import create_database, database_file, database_uri
from aeops.registry.locations import relocate_database
from aeops.registry.store import Store, open_store

DATASET = {"dataset": "digits", "content_sha256": "c" * 64, "dvc_md5": "d" * 32}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The current folder, in which nothing may appear."""
    folder = tmp_path / "current"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_versions_are_registered_and_read_in_a_state_folder_of_any_name(
    tmp_path: Path, empty_database: Path, bundle: Callable[..., Path]
) -> None:
    project = Project(tmp_path, tmp_path / "homes" / ANY_NAME)
    project.mlflow.mkdir(parents=True)
    shutil.copyfile(empty_database, database_file(project))
    store = open_store(project)
    run = store.start_run("digits", {}, {}, DATASET)
    report = tmp_path / ANY_NAME
    report.write_text("report")
    store.log_files(run, [report], "files")
    version = store.register(run, "digits", bundle(), {}, "")
    assert [entry.path for entry in store.client.list_artifacts(run, "files")] == [f"files/{ANY_NAME}"]
    folder = store.download_bundle("digits", version)
    assert (folder / "model.onnx").read_text() == "one"
    assert relocate_database(project) is None
    require_nothing_beside(project)
    assert database_damage(database_file(project)) == ""
    assert Store(project, database_uri(project)).is_local


@pytest.mark.slow
def test_a_database_is_created_in_a_state_folder_of_any_name(tmp_path: Path) -> None:
    project = Project(tmp_path, tmp_path / "homes" / ANY_NAME)
    project.mlflow.mkdir(parents=True)
    create_database(database_file(project), project.mlflow / "artifacts")
    assert database_file(project).stat().st_size > 100_000
    require_nothing_beside(project)


def require_nothing_beside(project: Project) -> None:
    assert [path.name for path in project.home.parent.iterdir()] == [project.home.name]
    assert {path.name for path in project.mlflow.iterdir()} <= {"mlflow.db", "mlflow.db-wal", "mlflow.db-shm", "artifacts"}
