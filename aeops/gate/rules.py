"""The gate: a recipe's rules, each judged on the evidence of one bundle. All rules are judged and all reasons told.

A rule is data (aeops.recipe.gate_rules.Rule). For a new kind: its keys there, a function from (name, rule, evidence) to an
Outcome here, and its line in `JUDGES`. Rules that need the registry are judged elsewhere: see `judge`. As a program, this file is
the fresh process of the rule `check: served`:

    python -m aeops.gate.rules BUNDLE     # answers an example as serving would, and prints what it found as JSON
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ae_models.spec import near
from aeops.errors import UsageError
from aeops.machine.stage_main import run_stage
from aeops.recipe.gate_rules import LOGGED, Rule

SERVED_SECONDS = 60  # for a fresh process to load the bundle and answer; it takes one or two


@dataclass(frozen=True)
class Evidence:
    """What the rules are judged on.

    Attributes:
        metrics: the metrics by their dotted paths, as `flat` gives them: {"detection.model.auroc": 0.97, ...}.
        bundle: the bundle's folder.
    """

    metrics: Mapping[str, Any]
    bundle: Path


@dataclass(frozen=True)
class Outcome:
    """One rule, judged.

    Attributes:
        says: the result for a person: what was found, what is needed.
        value, bound: the same as JSON values.
    """

    name: str
    says: str
    value: Any
    bound: Any
    passed: bool


def judge(rules: Mapping[str, Rule], evidence: Evidence, source: str) -> list[Outcome]:
    """The outcome of every rule that the bundle alone decides, in the recipe's order.

    The others ask for the registry, which no stage of DVC knows: comparisons with the champion are judged by
    aeops.stages.compare, the check `logged` on the registered model.

    Args:
        rules: name -> rule.
        evidence: of the bundle that is judged.
        source: the recipe's file, for messages.

    Raises:
        UsageError: rules that name metrics which are not there, all of them at once.
    """
    own = {name: rule for name, rule in rules.items() if rule.champion is None and rule.check != LOGGED}
    demand_known_metrics(own, evidence.metrics, source)
    return [next(judges for is_mine, judges in JUDGES if is_mine(rule))(name, rule, evidence) for name, rule in own.items()]


def verdict(recipe: str, outcomes: list[Outcome], evidence: dict[str, str]) -> dict[str, Any]:
    """verdict.json: accepted where every rule passed, else refused with each reason."""
    reasons = [outcome.says for outcome in outcomes if not outcome.passed]
    return {
        "format": 1,
        "recipe": recipe,
        "verdict": "refused" if reasons else "accepted",
        "rules": [asdict(outcome) for outcome in outcomes],
        "reasons": reasons,
        "evidence": evidence,
    }


# ---------------------------------------------------------------- metrics by their dotted path


def flat(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """metrics.json by dotted paths; a list (an interval) stays whole."""
    leaves: dict[str, Any] = {}
    for key, value in metrics.items():
        leaves |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return leaves


def demand_known_metrics(rules: Mapping[str, Rule], metrics: Mapping[str, Any], source: str) -> None:
    """Raises UsageError with every metric that a rule names and `metrics` (path -> value) lacks."""
    intervals = [path for path, value in metrics.items() if value is None or isinstance(value, list)]
    numbers = [path for path, value in metrics.items() if not isinstance(value, list)]
    mistakes = []
    for name, rule in rules.items():
        for key, allowed in (("metric", numbers), ("interval", intervals), ("covers", numbers)):
            path = getattr(rule, key)
            if path is not None and path not in allowed:
                what = "interval" if key == "interval" else "metric"
                mistakes.append(f"{source}: gate.{name}.{key}: no {what} {path!r} in metrics.json{near(path, allowed)}")
    if mistakes:
        raise UsageError("\n".join(mistakes))


# ---------------------------------------------------------------- the kinds of rules


def is_number(value: Any) -> bool:
    """Whether `value` can pass a rule: a finite number. Null stands for what is not defined, and NaN for nothing."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def shown(value: Any) -> str:
    return f"{value:.4g}" if is_number(value) else "not a number"


def judge_metric(name: str, rule: Rule, evidence: Evidence) -> Outcome:
    """A metric with a floor, a ceiling, or both."""
    value = evidence.metrics[rule.metric or ""]
    bounds = {"at least": rule.at_least, "at most": rule.at_most}
    given = {word: bound for word, bound in bounds.items() if bound is not None}
    passed = is_number(value) and value >= given.get("at least", -math.inf) and value <= given.get("at most", math.inf)
    needed = " and ".join(f"{word} {bound:g}" for word, bound in given.items())
    bound = next(iter(given.values())) if len(given) == 1 else list(given.values())
    return Outcome(name, f"{rule.metric} is {shown(value)}; {needed} is needed", value, bound, passed)


def judge_interval(name: str, rule: Rule, evidence: Evidence) -> Outcome:
    """An interval that must hold a value."""
    interval, value = evidence.metrics[rule.interval or ""], evidence.metrics[rule.covers or ""]
    defined = isinstance(interval, list) and len(interval) == 2 and all(map(is_number, [*interval, value]))
    passed = defined and interval[0] <= value <= interval[1]
    ends = f"{shown(interval[0])} to {shown(interval[1])}" if defined else "not defined"
    says = f"{rule.interval} is {ends}; it has to cover {rule.covers}, which is {shown(value)}"
    return Outcome(name, says, interval, value, passed)


def judge_check(name: str, rule: Rule, evidence: Evidence) -> Outcome:
    """The check `served`, the one that is done here."""
    found = served(evidence.bundle)
    return Outcome(name, f"a fresh process that loads the bundle as serving does {found}", found, "answers", found == "answers")


JUDGES: list[tuple[Callable[[Rule], bool], Callable[[str, Rule, Evidence], Outcome]]] = [
    (lambda rule: rule.metric is not None, judge_metric),
    (lambda rule: rule.interval is not None, judge_interval),
    (lambda rule: rule.check is not None, judge_check),
]


# ---------------------------------------------------------------- the check `served`


def served(bundle: Path) -> str:
    """`answers`, or what a fresh process did instead of answering an example as it should."""
    command = [sys.executable, "-m", "aeops.gate.rules", str(bundle.resolve())]
    environment = {name: value for name, value in os.environ.items() if name != "AE_ERROR_FILE"}  # its error is our result
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SERVED_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"gave no answer in {SERVED_SECONDS} s"
    if done.returncode != 0:
        return "fails: " + (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return str(json.loads(done.stdout)["found"])


def answer_example(bundle: Path) -> str:
    """`answers` where one sample and a batch get the same finite score and a p-value in (0, 1], without torch."""
    import numpy as np

    from aeops.bundle.detector import Detector

    detector = Detector(bundle)
    example = detector.example()
    alone, batch = detector.score(example[0]), detector.score(example)
    if "torch" in sys.modules:
        return "needs torch to answer"
    for name in ("score", "p_value", "is_anomaly"):
        if not np.allclose(alone[name], batch[name][:1], rtol=1e-4):
            return f"answers one sample with {name} {alone[name][0]} and the same in a batch with {batch[name][0]}"
    if not np.isfinite(batch["score"]).all():
        return f"answers with a score that is no number: {batch['score'].tolist()}"
    if not ((batch["p_value"] > 0) & (batch["p_value"] <= 1)).all():
        return f"answers with a p-value outside (0, 1]: {batch['p_value'].tolist()}"
    return "answers"


def main() -> None:
    def work() -> None:
        if len(sys.argv) != 2:
            raise UsageError(f"{len(sys.argv) - 1} arguments given; type python -m aeops.gate.rules BUNDLE")
        print(json.dumps({"found": answer_example(Path(sys.argv[1]))}))

    run_stage(work)


if __name__ == "__main__":
    main()
