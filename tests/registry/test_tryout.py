"""The check `logged`, on a real bundle in a real MLflow: the model is asked as whoever serves it would."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aeops.errors import InfrastructureError, UsageError
from aeops.machine.child_process import run_module, tied_command
from aeops.machine.library_settings import configure_libraries
from aeops.project import Project
from aeops.recipe.gate_rules import Rule
from aeops.registry import logged_model_check
from aeops.registry.database import database_file
from aeops.registry.logged_model_check import MODEL_ANSWERS, ModelCheckResult, check_logged_model, check_version, rule_outcome
from aeops.registry.store import Store, open_store

BUNDLE = Path(__file__).parents[1] / "fixtures" / "bundle-format-1"
RULE = Rule(check="logged", milliseconds=60_000)


# Runs aeops.registry.isolated_check in a fork for each line of JSON that it reads: as fresh as a new process in all but
# foreign libraries, whose imports take seconds, and what MLflow looks up in all packages and in all of its migrations.
WARM = """
import functools, gc, json, os, runpy, sys, traceback
gc.disable()  # a sixth of the imports would be collections
for line in sys.stdin:
    asked = json.loads(line)
    if asked["packages"]:
        sys.path += asked["packages"]
        import mlflow.pyfunc, mlflow.store.model_registry.sqlalchemy_store, mlflow.store.tracking.sqlalchemy_store
        import numpy, onnxruntime
        import sqlalchemy.dialects.sqlite
        from mlflow.store.db import utils
        from mlflow.utils import requirements_utils
        requirements_utils._init_modules_to_packages_map()
        if not hasattr(utils._get_latest_schema_revision, "cache_info"):
            utils._get_latest_schema_revision = functools.cache(utils._get_latest_schema_revision)
            utils._get_latest_schema_revision()
        continue
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.environ.clear()
            os.environ.update(asked["environment"])
            os.chdir(asked["cwd"])
            os.dup2(os.open(asked["errors"], os.O_WRONLY | os.O_CREAT), 2)
            sys.argv = asked["argv"]
            runpy.run_path(sys.argv[0], run_name="__main__")
            code = 0
        except SystemExit as error:
            print(error.code, file=sys.stderr, flush=True)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def warm_process() -> Iterator[subprocess.Popen[str]]:
    """A process that runs WARM, as isolated from this checkout as the check's own is."""
    environment = os.environ | configure_libraries()
    command = [sys.executable, "-I", "-S", "-c", WARM]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def forks(warm_process: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let the check run its script in forks of a warm process."""
    assert warm_process.stdin is not None
    assert warm_process.stdout is not None
    requests, answers = warm_process.stdin, warm_process.stdout

    def run(command: list[str], cwd: Path, env: dict[str, str], **_: Any) -> subprocess.CompletedProcess[str]:
        tied = tied_command([sys.executable, "-I", "-S"])  # dies with this process, and is isolated from this checkout
        assert command[: len(tied)] == tied
        script, model, folder, rows, *packages = command[len(tied) :]
        errors = tmp_path / "errors"
        request = {
            "argv": [script, model, folder, rows],
            "cwd": str(cwd),
            "environment": env,
            "errors": str(errors),
            "packages": [],
        }
        for line in ({"packages": packages}, request):
            requests.write(json.dumps(line) + "\n")
        requests.flush()
        return subprocess.CompletedProcess(command, int(answers.readline()), "", errors.read_text(encoding="utf-8"))

    monkeypatch.setattr(logged_model_check, "subprocess", SimpleNamespace(**vars(subprocess) | {"run": run}))


@pytest.fixture(scope="module")
def logged(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that has logged a model once, as digits 1: that takes seconds."""
    place = tmp_path_factory.mktemp("logged")
    logged = Project(root=place, home=place)
    logged.mlflow.mkdir()
    shutil.copyfile(empty_database, database_file(logged))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        store = open_store(logged)
        run = store.start_run("digits", {}, {}, {"dataset": "digits", "content_sha256": "c" * 64, "dvc_md5": "d" * 32})
        assert store.register(run, "digits", BUNDLE, {}, "") == "1"
    return logged


@pytest.fixture
def model(project: Project, logged: Project, copy_state: Callable[[Project, Project], None]) -> Path:
    """The folder of the logged model of digits 1 in this test's own copy of the state, as MLflow keeps it."""
    copy_state(logged, project)
    [file] = (project.mlflow / "artifacts").rglob("MLmodel")
    return file.parent


@pytest.fixture
def store(project: Project, model: Path) -> Store:
    assert model.is_dir()
    return open_store(project)


def packed(model: Path, path: str) -> Path:
    """The one file of the logged model that matches."""
    [file] = model.glob(path)
    return file


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.usefixtures("modules_in_forks")
def test_a_logged_model_answers_as_its_bundle_does_within_its_budget(
    model: Path, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed: list[str] = []

    def run_and_note(*arguments: Any, **settings: Any) -> str:
        printed.append(run_module(*arguments, **settings))
        return printed[-1]

    monkeypatch.setattr(logged_model_check, "run_module", run_and_note)
    outcome = check_logged_model(project, "digits", "1", "quick", RULE)
    assert outcome.passed, outcome.message
    assert (outcome.name, outcome.bound) == ("quick", 60_000)
    assert 0 < outcome.value < 60_000
    assert "answers one sample in" in outcome.message
    [output] = printed
    found = json.loads(output.splitlines()[-1])
    assert (found["status"], found["difference"]) == ("answers", 0.0)
    assert found["milliseconds"] == outcome.value


BROKEN: dict[str, tuple[str, str, str, str]] = {
    "code that refers to what was not packed": (
        "code/*/aeops/bundle/answers.py",
        "from typing import Any",
        "from typing import Any\nimport aeops.project",
        "fails: ModuleNotFoundError: No module named 'aeops",
    ),
    "code that gives other scores": (
        "code/*/aeops/bundle/answers.py",
        "for row in zip(*columns.values(), strict=True)",
        "for row in zip([x + 0.01 for x in columns['score']], *list(columns.values())[1:], strict=True)",
        "scores its example otherwise than the bundle does, by 0.01",
    ),
    "code that gives no numbers": (
        "code/*/aeops/bundle/answers.py",
        "for row in zip(*columns.values(), strict=True)",
        "for row in zip([float('nan') for x in columns['score']], *list(columns.values())[1:], strict=True)",
        "answers with a score that is not finite",
    ),
    "code that leaves the flag out": (
        "code/*/aeops/bundle/answers.py",
        "dict(zip(columns, row, strict=True))",
        "dict(zip(columns, row[:2]))",
        "answers without is_anomaly, p_value, score",
    ),
    "code that answers one sample of two": (
        "code/*/aeops/bundle/answers.py",
        "    return answers\n",
        "    return answers[:1]\n",
        "does not answer its 2 example samples one by one",
    ),
    "code that needs torch": ("served_model.py", "from typing import Any", "import torch\nfrom typing import Any", "needs torch"),
}


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.usefixtures("forks")
def test_what_is_wrong_with_the_packed_code_is_found_though_the_bundle_is_whole(broken: str, model: Path, store: Store) -> None:
    file, old, new, told = BROKEN[broken]
    change(packed(model, file), old, new)
    found = check_version(store, "digits", "1")
    assert told in found.status
    assert not rule_outcome("quick", RULE, found).passed


@pytest.mark.usefixtures("forks")
def test_a_file_that_was_left_out_of_the_packed_code_is_found(model: Path, store: Store) -> None:
    file = packed(model, "code/*/aeops/bundle/answers.py")
    package = file.relative_to(model).parts[1]
    file.unlink()
    assert (
        check_version(store, "digits", "1").status
        == f"fails: ModuleNotFoundError: No module named '{package}.aeops.bundle.answers'"
    )


@pytest.mark.usefixtures("forks")
def test_a_model_without_an_input_example_is_refused(model: Path, store: Store) -> None:
    for file in model.glob("*input_example.json"):
        file.unlink()
    assert check_version(store, "digits", "1").status == "fails: the logged model has no input example"


@pytest.mark.slow
def test_a_model_that_does_not_answer_in_time_is_stopped(model: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    change(model / "served_model.py", "from typing import Any", "import time\ntime.sleep(3600)\nfrom typing import Any")
    monkeypatch.setattr(logged_model_check, "SECONDS", 3)
    assert check_version(store, "digits", "1") == ModelCheckResult("gives no answer in 3 s")


def test_a_budget_is_kept_or_not_and_the_outcome_says_by_what() -> None:
    rule = Rule(check="logged", milliseconds=5)
    kept = rule_outcome("quick", rule, ModelCheckResult(MODEL_ANSWERS, 5.0, 0.0))
    missed = rule_outcome("quick", rule, ModelCheckResult(MODEL_ANSWERS, 5.01, 0.0))
    assert (kept.passed, missed.passed) == (True, False)
    assert missed.message == (
        "the logged model, loaded as MLflow serves it, answers one sample in 5.01 ms (median); at most 5 ms are needed"
    )
    assert (missed.value, missed.bound) == (5.01, 5)


def test_without_a_budget_an_answer_is_enough_and_nothing_else_is() -> None:
    rule = Rule(check="logged")
    assert rule_outcome("works", rule, ModelCheckResult(MODEL_ANSWERS, 1e6, 0.0)).passed
    failed = rule_outcome("works", rule, ModelCheckResult("fails: boom"))
    assert (failed.passed, failed.value, failed.bound) == (False, "fails: boom", "answers")
    assert failed.message == "a fresh process that loads the logged model as MLflow serves it fails: boom; it has to answer"


@pytest.mark.slow
@pytest.mark.usefixtures("modules_in_forks")
def test_a_version_or_a_store_that_is_not_there_is_an_error_and_no_verdict(
    model: Path, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="no version '7' of digits"):
        check_logged_model(project, "digits", "7", "quick", RULE)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(InfrastructureError, match="does not answer"):
        check_logged_model(project, "digits", "1", "quick", RULE)
