"""Runs and versions are in one store, at one address: that of MLFLOW_TRACKING_URI, or the project's own."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.server import constants

from aeops.cli import health_checks
from aeops.registry import alias_watch
from aeops.registry.mlflow_server import server_environment
from aeops.registry.store import Store, open_store


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The database that MLFLOW_REGISTRY_URI names."""
    file = tmp_path / "foreign" / "registry.db"
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", f"sqlite:///{file}")
    return file


def test_versions_are_registered_where_their_runs_are(
    store: Store, start: Callable[[], str], bundle: Callable[..., Path], foreign: Path
) -> None:
    store = open_store(store.project)
    version = store.register(start(), "digits", bundle(), {}, "")
    store.set_alias("digits", "challenger", version)
    assert not foreign.exists()
    assert open_store(store.project).version("digits", "challenger").version == version


def test_every_process_of_ours_uses_that_address(
    registered: Store, foreign: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    registered.client.set_registered_model_alias("digits", "champion", "2")
    monkeypatch.chdir(registered.project.root)
    monkeypatch.setattr(sys, "argv", ["alias_watch", "digits", "champion"])
    alias_watch.main()
    assert json.loads(capsys.readouterr().out) == {"version": "2"}
    variables = server_environment(registered.project)
    for name in (constants.BACKEND_STORE_URI_ENV_VAR, constants.REGISTRY_STORE_URI_ENV_VAR):
        assert variables[name] == registered.uri
    assert variables[constants.ARTIFACT_ROOT_ENV_VAR].startswith(registered.project.mlflow.as_uri())
    assert not foreign.exists()


def test_doctor_names_the_address_and_the_one_that_is_not_used(store: Store, foreign: Path) -> None:
    checks = [check for check in health_checks.check_registry(store.project) if check.subject == "mlflow"]
    assert [check.level for check in checks] == ["note", "good"]
    assert f"MLFLOW_REGISTRY_URI=sqlite:///{foreign} is not used" in checks[0].message
    assert checks[0].type_this == "unset MLFLOW_REGISTRY_URI"
    assert store.uri in checks[1].message
