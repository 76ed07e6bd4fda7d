"""The check `logged`, on a real bundle in a real MLflow: the model is asked as whoever serves it would."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from aeops.errors import InfrastructureError, UsageError
from aeops.project import Project
from aeops.recipe.gate_rules import Rule
from aeops.registry import logged_model_check
from aeops.registry.logged_model_check import MODEL_ANSWERS, ModelCheckResult, check_logged_model, check_version, rule_outcome
from aeops.registry.store import Store

BUNDLE = Path(__file__).parents[1] / "fixtures" / "bundle-format-1"
RULE = Rule(check="logged", milliseconds=60_000)


@pytest.fixture
def model(store: Store, start: Callable[[], str], project: Project) -> Path:
    """The folder of the logged model of digits 1, as MLflow keeps it."""
    assert store.register(start(), "digits", BUNDLE, {}, "") == "1"
    [file] = (project.mlflow / "artifacts").rglob("MLmodel")
    return file.parent


def packed(model: Path, path: str) -> Path:
    """The one file of the logged model that matches."""
    [file] = model.glob(path)
    return file


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def test_a_logged_model_answers_as_its_bundle_does_within_its_budget(model: Path, project: Project) -> None:
    outcome = check_logged_model(project, "digits", "1", "quick", RULE)
    assert outcome.passed, outcome.message
    assert (outcome.name, outcome.bound) == ("quick", 60_000)
    assert 0 < outcome.value < 60_000
    assert "answers one sample in" in outcome.message


def test_as_a_program_it_prints_what_it_found_as_json(model: Path, project: Project) -> None:
    command = [sys.executable, "-m", "aeops.registry.logged_model_check", "digits", "1"]
    done = subprocess.run(command, cwd=project.root, capture_output=True, text=True, timeout=200, check=True)
    found = json.loads(done.stdout)
    assert (found["status"], found["difference"]) == ("answers", 0.0)
    assert found["milliseconds"] > 0


BROKEN: dict[str, tuple[str, str, str, str]] = {
    "code that refers to what was not packed": (
        "code/*/aeops/bundle/answers.py",
        "from typing import Any",
        "from typing import Any\nimport aeops.project",
        "fails: ModuleNotFoundError: No module named 'aeops'",
    ),
    "code that gives other scores": (
        "code/*/aeops/bundle/answers.py",
        "for row in zip(*columns, strict=True)",
        "for row in zip([x + 0.01 for x in columns[0]], *columns[1:], strict=True)",
        "scores its example otherwise than the bundle does, by 0.01",
    ),
    "code that gives no numbers": (
        "code/*/aeops/bundle/answers.py",
        "for row in zip(*columns, strict=True)",
        "for row in zip([float('nan') for x in columns[0]], *columns[1:], strict=True)",
        "answers with a score that is not finite",
    ),
    "code that leaves the flag out": (
        "code/*/aeops/bundle/answers.py",
        "dict(zip(scored, row, strict=True))",
        "dict(zip(scored, row[:2]))",
        "answers without is_anomaly, p_value, score",
    ),
    "code that answers one sample of two": (
        "code/*/aeops/bundle/answers.py",
        "for row in zip(*columns, strict=True)]",
        "for row in zip(*columns, strict=True)][:1]",
        "does not answer its 2 example samples one by one",
    ),
    "code that needs torch": ("served_model.py", "from typing import Any", "import torch\nfrom typing import Any", "needs torch"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_what_is_wrong_with_the_packed_code_is_found_though_the_bundle_is_whole(broken: str, model: Path, store: Store) -> None:
    file, old, new, told = BROKEN[broken]
    change(packed(model, file), old, new)
    found = check_version(store, "digits", "1")
    assert told in found.status
    assert not rule_outcome("quick", RULE, found).passed


def test_a_file_that_was_left_out_of_the_packed_code_is_found(model: Path, store: Store) -> None:
    file = packed(model, "code/*/aeops/bundle/answers.py")
    package = file.relative_to(model).parts[1]
    file.unlink()
    assert (
        check_version(store, "digits", "1").status
        == f"fails: ModuleNotFoundError: No module named '{package}.aeops.bundle.answers'"
    )


def test_a_model_without_an_input_example_is_refused(model: Path, store: Store) -> None:
    for file in model.glob("*input_example.json"):
        file.unlink()
    assert check_version(store, "digits", "1").status == "fails: the logged model has no input example"


def test_a_model_that_does_not_answer_in_time_is_stopped(model: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    change(model / "served_model.py", "from typing import Any", "import time\ntime.sleep(3600)\nfrom typing import Any")
    monkeypatch.setattr(logged_model_check, "SECONDS", 12)
    assert check_version(store, "digits", "1") == ModelCheckResult("gives no answer in 12 s")


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


def test_a_version_or_a_store_that_is_not_there_is_an_error_and_no_verdict(
    model: Path, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="no version '7' of digits"):
        check_logged_model(project, "digits", "7", "quick", RULE)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(InfrastructureError, match="does not answer"):
        check_logged_model(project, "digits", "1", "quick", RULE)
