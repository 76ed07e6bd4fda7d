"""A tracking server that is not there, or goes away in the middle: told in bounded time, and nothing is lost."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from champion_helpers import make_champion
from checkout import wait_for
from forked import Fork
from mlflow.server import constants

from ae_models.checksums import bundle_sha256
from aeops.errors import InfrastructureError
from aeops.machine.library_settings import configure_libraries
from aeops.machine.network import find_free_port
from aeops.machine.servers import is_healthy
from aeops.project import Project
from aeops.registry import promotion
from aeops.registry.ledger import ledger_file
from aeops.registry.store import open_store

DATASET = {"dataset": "digits", "content_sha256": "c" * 64}


def test_a_server_that_is_not_there_is_told_within_fifteen_seconds(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"http://127.0.0.1:{find_free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    started = time.monotonic()
    with pytest.raises(
        InfrastructureError, match=rf"MLflow at {address} does not answer \(connection refused\): start it, or unset"
    ):
        open_store(project)
    assert time.monotonic() - started < 15
    assert not project.mlflow.exists()


@pytest.mark.slow
def test_a_server_killed_in_the_middle_loses_nothing(
    project: Project, empty_database: Path, bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = find_free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    with mlflow_server(project.root, empty_database, port):
        store = open_store(project)
        run = store.start_run("digits", {"git.commit": "abc"}, {"train": {"epochs": 3}}, DATASET)
    started = time.monotonic()
    with pytest.raises(InfrastructureError, match="does not answer"):
        store.register(run, "digits", bundle(), {}, "")
    assert time.monotonic() - started < 15
    with mlflow_server(project.root, empty_database, port):
        place = project.root / "bundles" / "one"
        number = store.register(run, "digits", place, {}, "")
        make_champion(store, "digits", number)
        store.finish_run(run, "FINISHED")
        assert [version.version for version in store.versions("digits")] == [number]
        assert bundle_sha256(store.download_bundle("digits", "champion")) == bundle_sha256(place)
        assert ledger_file(project, "digits").parent == project.home / "ledger"  # beside the project, wherever MLflow is
        assert promotion.find_problems(store, "digits") == []
        assert store.run_url(run).startswith(f"http://127.0.0.1:{port}/#/experiments/")


@contextmanager
def mlflow_server(root: Path, empty_database: Path, port: int) -> Iterator[None]:
    """The application of a real `mlflow server` over root/server.db, in a fork; killed, not stopped, at the end."""
    database = root / "server.db"
    if not database.exists():
        shutil.copyfile(empty_database, database)
    settings = {
        constants.BACKEND_STORE_URI_ENV_VAR: f"sqlite:///{database}",
        constants.ARTIFACT_ROOT_ENV_VAR: "mlflow-artifacts:/",
        constants.ARTIFACTS_DESTINATION_ENV_VAR: str(root / "kept"),
        constants.SERVE_ARTIFACTS_ENV_VAR: "true",
    }
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    environment |= configure_libraries() | settings

    def serve() -> None:
        uvicorn.run("mlflow.server.fastapi_app:app", host="127.0.0.1", port=port)

    with (root / "server.log").open("ab") as log:
        process = Fork(serve, cwd=root, env=environment, stdout=log, stderr=log)
    try:
        wait_for(lambda: process.poll() is not None or is_healthy(f"http://127.0.0.1:{port}/health"))
        assert process.poll() is None, (root / "server.log").read_text(encoding="utf-8")
        yield
    finally:
        process.kill()
        process.wait()
