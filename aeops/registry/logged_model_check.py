"""The gate's check `logged`: load the model that MLflow keeps as a server would, and compare its answers with the bundle's.

    python -m aeops.registry.logged_model_check RECIPE VERSION  # -> {"status": "answers", "milliseconds": 2.1, "difference": 0.0}

The check `served` uses the bundle on this disk through this checkout's code. A server loads the model in the store with the code
that was packed into it: a file that was left out shows only here.
"""

import json
import os
import subprocess
import sys
import sysconfig
from dataclasses import asdict, dataclass
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aeops.errors import UsageError
from aeops.gate.rules import RuleOutcome
from aeops.machine.child_process import require_not_killed, run_module, tied_command
from aeops.machine.entry_point import run_main
from aeops.machine.library_settings import configure_libraries
from aeops.machine.scratch import ScratchFolder
from aeops.project import Project, find_project
from aeops.recipe.gate_rules import Rule
from aeops.registry.store import Store, open_store

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from aeops.bundle.detector import Detector

SECONDS = 120  # for a fresh process to download, load and answer; it takes five or so
SCORE_TOLERANCE = 1e-4
MODEL_ANSWERS = "answers"
KEYS = {"score", "p_value", "is_anomaly"}  # of every answer; a step of a series has no p-value


@dataclass(frozen=True)
class ModelCheckResult:
    """Result of the check in its process.

    Attributes:
        status: `answers`, or how the model failed.
        milliseconds: for one sample, the median; None where it did not answer.
        difference: the largest between its scores and those of the bundle's own Detector; None where there are none to compare.
    """

    status: str
    milliseconds: float | None = None
    difference: float | None = None


# ---------------------------------------------------------------- for the flow


def check_logged_model(project: Project, recipe: str, version: str, name: str, rule: Rule) -> RuleOutcome:
    """Return the outcome of a rule `{check: logged, milliseconds: M}` for a registered version; runs a process of its own.

    Args:
        project: whose registry has the version.
        recipe: the model's name.
        version: its number.
        name: of the rule.
        rule: with its budget.

    Raises:
        UsageError: no such version.
        DataError: the bundle in the registry is not the one that was registered.
        InfrastructureError: MLflow does not answer.
    """
    arguments = ["aeops.registry.logged_model_check", recipe, version]
    output = run_module(arguments, root=project.root, home=project.home, log=project.logs / "logged-model-check.log")
    return rule_outcome(name, rule, ModelCheckResult(**json.loads(output.splitlines()[-1])))


def rule_outcome(name: str, rule: Rule, result: ModelCheckResult) -> RuleOutcome:
    """Return the outcome of a rule; one without a budget accepts an answer however long it takes."""
    bound = rule.milliseconds or MODEL_ANSWERS
    if result.status != MODEL_ANSWERS or result.milliseconds is None:
        message = f"a fresh process that loads the logged model as MLflow serves it {result.status}; it has to answer"
        return RuleOutcome(name, message, result.status, bound, passed=False)
    message = f"the logged model, loaded as MLflow serves it, answers one sample in {result.milliseconds:.3g} ms (median)"
    if rule.milliseconds is None:
        return RuleOutcome(name, message, result.milliseconds, bound, passed=True)
    message += f"; at most {rule.milliseconds:g} ms are needed"
    return RuleOutcome(name, message, result.milliseconds, bound, passed=result.milliseconds <= rule.milliseconds)


# ---------------------------------------------------------------- in its process


def check_version(store: Store, recipe: str, version_name: str) -> ModelCheckResult:
    """Load a version's logged model in a fresh process, and compare its scores of its own input example with the bundle's.

    Raises:
        UsageError: no such version.
        DataError: the bundle in the registry is not the one that was registered.
    """
    from aeops.bundle.detector import Detector

    version = store.version(recipe, version_name).version
    bundle = store.download_bundle(recipe, version)
    with ScratchFolder() as folder:
        detector = Detector(bundle)
        rows = detector.data_kind.fewest_rows(detector.spec)
        failure = _run_isolated_check(store, f"models:/{recipe}/{version}", Path(folder), rows)
        if failure is not None:
            return ModelCheckResult(failure)
        return _compare_answers(detector, Path(folder))


def _run_isolated_check(store: Store, model_address: str, folder: Path, rows: int) -> str | None:
    """Run isolated_check.py, which leaves the model's answers in `folder`; return why it failed, or None.

    Args:
        rows: of the smallest batch.

    Raises:
        InfrastructureError: its process was killed.
    """
    packages = dict.fromkeys(map(sysconfig.get_path, ("purelib", "platlib")))
    program = [sys.executable, "-I", "-S", str(Path(__file__).with_name("isolated_check.py"))]
    environment = os.environ | configure_libraries() | {"MLFLOW_TRACKING_URI": store.uri, "MLFLOW_REGISTRY_URI": store.uri}
    try:
        process = subprocess.run(
            tied_command([*program, model_address, str(folder), str(rows), *packages]),
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"gives no answer in {SECONDS} s"
    require_not_killed(process.returncode, "the process that checks the logged model")
    if process.returncode == 0:
        return None
    print(process.stderr, file=sys.stderr)  # the whole text goes into the log
    error_lines = process.stderr.strip().splitlines() or [f"exit code {process.returncode}"]
    return f"fails: {error_lines[-1][:300]}"


def _compare_answers(detector: "Detector", folder: Path) -> ModelCheckResult:
    """Compare the answers in `folder` with the bundle's own for the same samples."""
    import numpy as np

    from aeops.bundle.answer_check import check_answers

    record = json.loads((folder / "answers.json").read_text(encoding="utf-8"))
    expected = _bundle_answers(detector, folder)
    count = len(expected["score"])
    if record["torch"]:
        return ModelCheckResult("needs torch to answer")
    problem = _check_answer_format(record["answers"], count, KEYS & expected.keys())
    if problem is not None:
        return ModelCheckResult(problem)
    values = {}
    for key in KEYS & expected.keys():
        values[key] = np.array(list(map(itemgetter(key), record["answers"])))
    problem = check_answers(values, count)
    if problem is not None:
        return ModelCheckResult(problem)
    difference = float(np.abs(values["score"] - expected["score"]).max())
    status = MODEL_ANSWERS
    if difference > SCORE_TOLERANCE:
        status = f"scores its example otherwise than the bundle does, by {difference:.3g}"
    return ModelCheckResult(status, record["milliseconds"], difference)


def _bundle_answers(detector: "Detector", folder: Path) -> "Mapping[str, np.ndarray]":
    """Return the bundle's own answers to the example in `folder`: an array, or rows by the names of their columns."""
    if (folder / "example.json").is_file():
        import pandas as pd

        return detector.score_frame(pd.DataFrame(json.loads((folder / "example.json").read_text(encoding="utf-8"))))
    import numpy as np

    return detector.score(np.load(folder / "example.npy", allow_pickle=False))


def _check_answer_format(model_answers: Any, count: int, keys: set[str]) -> str | None:
    """Return the problem if the answers are not one dict a row with these keys, else None."""
    if not isinstance(model_answers, list) or len(model_answers) != count:
        return f"does not answer its {count} example samples one by one"
    for model_answer in model_answers:
        if not isinstance(model_answer, dict) or not model_answer.keys() >= keys:
            return f"answers without {', '.join(sorted(keys))}"
    return None


def main() -> None:
    if len(sys.argv) != 3:
        raise UsageError(
            f"expected 2 arguments, got {len(sys.argv) - 1}: type python -m aeops.registry.logged_model_check RECIPE VERSION"
        )
    print(json.dumps(asdict(check_version(open_store(find_project()), *sys.argv[1:]))))


if __name__ == "__main__":
    run_main(main)
