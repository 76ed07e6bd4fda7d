"""The check `logged`: whether the model that MLflow keeps can be served, asked before it is promoted.

    python -m aeops.registry.logged_model_check RECIPE VERSION  # -> {"found": "answers", "milliseconds": 2.1, "difference": 0.0}

The check `served` of the gate asks the bundle on this disk, through this checkout's code. What others serve is the model in the
store, with the code that was packed into it: a file that was left out shows only here.
"""

import json
import math
import os
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aeops.errors import UsageError
from aeops.gate.rules import RuleOutcome
from aeops.machine.child_process import run_module
from aeops.machine.entry_point import run_main
from aeops.machine.library_settings import configure_libraries
from aeops.project import Project, find_project
from aeops.recipe.gate_rules import Rule
from aeops.registry.store import Store, open_store

SECONDS = 120  # for a fresh process to download, load and answer; it takes five or so
TOLERANCE = 1e-4  # that scores may differ by
ANSWERS = "answers"
KEYS = {"score", "p_value", "is_anomaly"}  # of every answer


@dataclass(frozen=True)
class Tryout:
    """What came of it.

    Attributes:
        found: `answers`, or what it did instead.
        milliseconds: for one sample, the median; None where it did not answer.
        difference: the largest between its scores and those of the bundle's own Detector; None where there are none to compare.
    """

    found: str
    milliseconds: float | None = None
    difference: float | None = None


# ---------------------------------------------------------------- for the flow


def try_out(project: Project, recipe: str, version: str, name: str, rule: Rule) -> RuleOutcome:
    """The outcome of the rule `name`, `{check: logged, milliseconds: M}`, for a registered version; in a process of its own.

    Raises:
        UsageError: no such version.
        DataError: the bundle in the registry is not the one that was registered.
        InfrastructureError: MLflow does not answer.
    """
    arguments = ["aeops.registry.logged_model_check", recipe, version]
    output = run_module(arguments, root=project.root, home=project.home, log=project.logs / "tryout.log")
    return judged(name, rule, Tryout(**json.loads(output.splitlines()[-1])))


def judged(name: str, rule: Rule, tried: Tryout) -> RuleOutcome:
    """A rule without a budget needs an answer, however long that takes."""
    budget = math.inf if rule.milliseconds is None else rule.milliseconds
    needed = "" if rule.milliseconds is None else f"; at most {budget:g} ms are needed"
    if tried.found != ANSWERS or tried.milliseconds is None:
        says = f"a fresh process that loads the logged model as MLflow serves it {tried.found}; it has to answer"
        return RuleOutcome(name, says, tried.found, rule.milliseconds or ANSWERS, passed=False)
    says = f"the logged model, loaded as MLflow serves it, answers one sample in {tried.milliseconds:.3g} ms (median){needed}"
    return RuleOutcome(name, says, tried.milliseconds, rule.milliseconds or ANSWERS, passed=tried.milliseconds <= budget)


# ---------------------------------------------------------------- in its process


def tried(store: Store, recipe: str, which: str) -> Tryout:
    """Asks the version's logged model for the answers to its own input example, and compares its scores with the bundle's."""
    version = store.version(recipe, which).version
    bundle = store.download_bundle(recipe, version)
    with tempfile.TemporaryDirectory(prefix="ae-") as folder:
        failed = ask(store, f"models:/{recipe}/{version}", Path(folder))
        return Tryout(failed) if failed else compared(bundle, Path(folder))


def ask(store: Store, model: str, folder: Path) -> str | None:
    """Has the stranger ask the model and leave what it hears in `folder`; returns why it could not, else None."""
    packages = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    stranger = [sys.executable, "-I", "-S", str(Path(__file__).with_name("isolated_check.py"))]
    environment = os.environ | configure_libraries() | {"MLFLOW_TRACKING_URI": store.uri}
    try:
        done = subprocess.run(
            [*stranger, model, str(folder), *packages],
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
    if done.returncode == 0:
        return None
    print(done.stderr, file=sys.stderr)  # for the log: all of it
    return "fails: " + (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:300]


def compared(bundle: Path, folder: Path) -> Tryout:
    """What the stranger left in `folder`, beside what the bundle says of the same samples."""
    import numpy as np

    from aeops.bundle.answer_check import check_answers
    from aeops.bundle.detector import Detector

    heard = json.loads((folder / "answers.json").read_text(encoding="utf-8"))
    example = np.load(folder / "example.npy", allow_pickle=False)
    if heard["torch"]:
        return Tryout("needs torch to answer")
    if (fault := misshapen(heard["answers"], len(example))) is not None:
        return Tryout(fault)
    values = {key: np.array([answer[key] for answer in heard["answers"]]) for key in KEYS}
    if (problem := check_answers(values, len(example))) is not None:
        return Tryout(problem)
    difference = float(np.abs(values["score"] - Detector(bundle).score(example)["score"]).max())
    if difference > TOLERANCE:
        message = f"scores its example otherwise than the bundle does, by {difference:.3g}"
        return Tryout(message, heard["milliseconds"], difference)
    return Tryout(ANSWERS, heard["milliseconds"], difference)


def misshapen(answers: Any, count: int) -> str | None:
    """How the answers are not one dict a sample with a score, p-value and flag; None where they are."""
    if not isinstance(answers, list) or len(answers) != count:
        return f"does not answer its {count} example samples one by one"
    if not all(isinstance(answer, dict) and answer.keys() >= KEYS for answer in answers):
        return f"answers without {', '.join(sorted(KEYS))}"
    return None


def main() -> None:
    if len(sys.argv) != 3:
        raise UsageError(f"{len(sys.argv) - 1} arguments given; type python -m aeops.registry.logged_model_check RECIPE VERSION")
    print(json.dumps(asdict(tried(open_store(find_project()), *sys.argv[1:]))))


if __name__ == "__main__":
    run_main(main)
