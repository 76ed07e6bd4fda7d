"""Errors have the kind of their cause, also across processes, and only what may pass by itself is tried again."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from checkout import ROOT, make_checkout

from ae_models.errors import BundleError, DivergenceError, SampleError, SpecError, TrainingError, WorkerError
from ae_models.spec import TrainSpec
from ae_models.training_environment import require_accelerator
from aeops.cli.main import main
from aeops.data import dvc
from aeops.errors import AeError, DataError, InfrastructureError, InternalError, TransientError, UsageError, as_ae_error
from aeops.machine.child_process import run_module
from aeops.project import Project
from aeops.registry.store import Store
from flows.pipeline_step import is_worth_retrying


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (SpecError(["no"]), UsageError),
        (DivergenceError("the loss is nan"), UsageError),
        (WorkerError("worker 2 of 2 was killed"), TransientError),
        (SampleError("fewer than 2"), DataError),
        (BundleError("altered"), DataError),
        (TrainingError("OMP_THREAD_LIMIT"), InfrastructureError),
    ],
)
def test_an_error_of_ae_models_has_the_kind_of_its_cause(error: Exception, kind: type[AeError]) -> None:
    assert type(as_ae_error(error)) is kind


@pytest.mark.parametrize(
    ("error", "retried"),
    [
        (TransientError("the server does not answer"), True),
        (InfrastructureError("the remote is wrong"), False),
        (InternalError("a bug"), False),
        (DataError("bad"), False),
        (UsageError("bad"), False),
    ],
)
def test_only_what_may_pass_by_itself_is_tried_again(error: AeError, retried: bool) -> None:
    state = SimpleNamespace(result=lambda raise_on_failure: error)
    assert is_worth_retrying(None, None, state) is retried


RAISE_IN_MAIN = """
from aeops.machine.entry_point import run_main
def run(error):
    def main():
        raise error
    run_main(main)
"""


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", TransientError),
        ("raise KeyError('recipe')", InternalError),
        ("print('not today'); raise SystemExit(3)", InfrastructureError),
        ("from aeops.errors import TransientError\nrun(TransientError('not yet'))", TransientError),
        ("from aeops.errors import DataError\nrun(DataError('bad'))", DataError),
        ("from ae_models.errors import DivergenceError\nrun(DivergenceError('the loss is nan'))", UsageError),
    ],
    ids=["killed", "traceback", "exit code", "transient", "data", "diverged"],
)
def test_a_childs_failure_has_the_same_kind_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, kind: type[AeError]
) -> None:
    (tmp_path / "failing_child.py").write_text(RAISE_IN_MAIN + script, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    with pytest.raises(AeError) as caught:
        run_module(["failing_child"], root=tmp_path, home=tmp_path / "home", log=tmp_path / "log")
    assert type(caught.value) is kind


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", "")
    checkout = make_checkout(tmp_path / "checkout")
    return Project(checkout.root, checkout.home)


@pytest.mark.slow
def test_a_remote_that_is_not_set_is_told_once_and_as_what_it_is(project: Project) -> None:
    (project.root / ".dvc" / "config").write_text("")
    (project.root / "data" / "set").mkdir(parents=True)
    (project.root / "data" / "set" / "file").write_text("some")
    with pytest.raises(DataError, match="names no remote to get data from") as caught:
        dvc.add_dataset(project, "set")
    assert not isinstance(caught.value, TransientError)


@pytest.mark.slow
def test_a_stage_of_dvc_that_was_killed_may_pass_and_one_that_is_unknown_may_not(project: Project) -> None:
    command = f"{sys.executable} -c 'import os; os.kill(os.getpid(), 9)'"
    (project.root / "dvc.yaml").write_text(f"stages:\n  dies:\n    cmd: {command}\n")
    with pytest.raises(TransientError):
        dvc.dvc(project, "repro", "--single-item", "dies")
    with pytest.raises(InfrastructureError, match="unknown") as caught:
        dvc.dvc(project, "repro", "--single-item", "unknown")
    assert not isinstance(caught.value, TransientError)


def test_a_store_that_does_not_answer_may_pass_and_one_that_refuses_may_not(project: Project) -> None:
    remote, local = Store(project, "http://127.0.0.1:9"), Store(project, "sqlite:///x.db")
    assert isinstance(remote.store_error(OSError("connection refused")), TransientError)
    assert isinstance(local.store_error(ValueError("database is locked")), TransientError)
    refusal = OSError("must be in the 'active' state")
    refusal.json = {"error_code": "INVALID_PARAMETER_VALUE"}  # type: ignore[attr-defined]  # as MLflow's RestException has it
    assert not isinstance(remote.store_error(refusal), TransientError)
    assert not isinstance(local.store_error(PermissionError(13, "Permission denied", "mlflow.db")), TransientError)


def test_a_gpu_that_is_not_there_is_a_mistake_of_the_recipe() -> None:
    import torch

    if torch.cuda.is_available():
        require_accelerator(TrainSpec(accelerator="gpu"), workers=1)
        return
    with pytest.raises(SpecError, match=r"train\.accelerator: expected auto or cpu on this machine"):
        require_accelerator(TrainSpec(accelerator="gpu"), workers=1)
    require_accelerator(TrainSpec(), workers=1)


def test_ctrl_c_in_a_command_that_cannot_go_on_promises_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(arguments: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("aeops.cli.status.run", interrupted)
    assert main(["status"]) == 130
    assert capsys.readouterr().err == "stopped\n"
