"""Evaluate a recipe's gate rules on one bundle. Every rule is evaluated and every reason reported.

A rule is data (`aeops.recipe.gate_rules.Rule`). For a new kind of rule: its keys there, a function from (name, rule, inputs)
to a `RuleOutcome` here, and its branch in `evaluate_rule`. Rules that need the registry are evaluated elsewhere: see
`evaluate_rules`. As a program, this file is the fresh process of the rule `check: served`:

    python -m aeops.gate.rules BUNDLE     # answers an example as serving would, and prints the result as JSON
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ae_models.mappings import map_values
from ae_models.spec import suggest_match
from aeops.errors import UsageError
from aeops.gate.documents import RuleRecord, VerdictDocument
from aeops.gate.flattening import is_finite_number
from aeops.machine.child_process import require_not_killed
from aeops.machine.entry_point import run_main
from aeops.machine.parent_process import parent_environment
from aeops.recipe.gate_rules import LOGGED_CHECK, Rule

SERVED_SECONDS = 60  # for a fresh process to load the bundle and answer; it takes one or two


@dataclass(frozen=True)
class RuleInputs:
    """Inputs of the rules.

    Attributes:
        metrics: the metrics by their dotted paths, see `aeops.gate.flattening.flatten`: {"detection.model.auroc": 0.97, ...}.
        bundle: the bundle's folder.
    """

    metrics: Mapping[str, Any]
    bundle: Path


@dataclass(frozen=True)
class RuleOutcome:
    """The outcome of one rule.

    Attributes:
        message: the result in words: the measured value and the required one.
        value, bound: the same as JSON values.
    """

    name: str
    message: str
    value: Any
    bound: Any
    passed: bool

    def to_dict(self) -> RuleRecord:
        """Return the outcome as verdict.json holds it."""
        return {"name": self.name, "says": self.message, "value": self.value, "bound": self.bound, "passed": self.passed}


def evaluate_rules(rules: Mapping[str, Rule], inputs: RuleInputs, source: str) -> list[RuleOutcome]:
    """Evaluate every rule that the bundle alone decides, in the recipe's order.

    The others need the registry, which no stage of DVC may read: comparisons with the champion are made by
    aeops.stages.compare, the check `logged` by aeops.registry.logged_model_check.

    Args:
        rules: name -> rule.
        inputs: metrics and folder of the bundle.
        source: the recipe's file, for messages.

    Raises:
        UsageError: rules name unknown metrics; the message lists all of them.
    """
    bundle_rules = {}
    for name, rule in rules.items():
        if rule.champion is None and rule.check != LOGGED_CHECK:
            bundle_rules[name] = rule
    require_known_metrics(bundle_rules, inputs.metrics, source)
    return [evaluate_rule(name, rule, inputs) for name, rule in bundle_rules.items()]


def evaluate_rule(name: str, rule: Rule, inputs: RuleInputs) -> RuleOutcome:
    """Evaluate one rule that the bundle alone decides.

    Raises:
        ValueError: the rule has neither `metric`, `interval` nor `check`.
    """
    if rule.metric is not None:
        return check_metric(name, rule, inputs)
    if rule.interval is not None:
        return check_interval(name, rule, inputs)
    if rule.check is not None:
        return check_served(name, inputs.bundle)
    raise ValueError(f"rule {name}: expected one of the keys metric, interval and check, got none")


def build_verdict(
    recipe: str, rules: Mapping[str, Rule], outcomes: list[RuleOutcome], evidence: dict[str, str], warnings: list[str]
) -> VerdictDocument:
    """Return verdict.json: accepted where every rule passed, else refused with the message of each failed rule.

    Args:
        recipe: its name.
        rules: every rule of its gate by name, also those that need the registry.
        outcomes: of every rule that the bundle alone decides.
        evidence: the SHA-256 of what was judged, by name.
        warnings: what the gate does not check, and why.
    """
    reasons = [outcome.message for outcome in outcomes if not outcome.passed]
    return {
        "format": 1,
        "recipe": recipe,
        "verdict": "refused" if reasons else "accepted",
        "rules": list(map(RuleOutcome.to_dict, outcomes)),
        "reasons": reasons,
        "evidence": evidence,
        "gate": map_values(Rule.to_dict, rules),
        "warnings": warnings,
    }


def require_known_metrics(rules: Mapping[str, Rule], metrics: Mapping[str, Any], source: str) -> None:
    """Check that every metric which a rule names exists.

    Raises:
        UsageError: `metrics` (path -> value) lacks some; the message lists all of them.
    """
    intervals, numbers = [], []
    for path, value in metrics.items():  # an undefined value may be either
        if value is None or isinstance(value, list):
            intervals.append(path)
        if not isinstance(value, list):
            numbers.append(path)
    problems = []
    for name, rule in rules.items():
        for key, known_paths in (("metric", numbers), ("interval", intervals), ("covers", numbers), ("above", numbers)):
            path = getattr(rule, key)
            if path is not None and path not in known_paths:
                metric_kind = "interval" if key == "interval" else "metric"
                problems.append(
                    f"{source}: gate.{name}.{key}: no {metric_kind} {path!r} in metrics.json{suggest_match(path, known_paths)}"
                )
    if problems:
        raise UsageError("\n".join(problems))


# ---------------------------------------------------------------- the kinds of rules


def check_metric(name: str, rule: Rule, inputs: RuleInputs) -> RuleOutcome:
    """Evaluate a rule that gives a metric a lower bound, an upper bound, or both."""
    value = inputs.metrics[rule.metric or ""]
    bounds, bound_phrases, passed = [], [], is_finite_number(value)
    if rule.at_least is not None:
        bounds.append(rule.at_least)
        bound_phrases.append(f"at least {rule.at_least:g}")
        passed = passed and value >= rule.at_least
    if rule.at_most is not None:
        bounds.append(rule.at_most)
        bound_phrases.append(f"at most {rule.at_most:g}")
        passed = passed and value <= rule.at_most
    bound = bounds[0] if len(bounds) == 1 else bounds
    message = f"{rule.metric} is {format_metric(value)}; {' and '.join(bound_phrases)} is needed"
    return RuleOutcome(name, message, value, bound, passed)


def check_interval(name: str, rule: Rule, inputs: RuleInputs) -> RuleOutcome:
    """Evaluate a rule that requires an interval to contain a value, or to lie above it."""
    other_metric = rule.covers or rule.above or ""
    interval, value = inputs.metrics[rule.interval or ""], inputs.metrics[other_metric]
    passed, interval_text = False, "not defined"
    if isinstance(interval, list) and len(interval) == 2 and all(map(is_finite_number, [*interval, value])):
        interval_text = f"{format_metric(interval[0])} to {format_metric(interval[1])}"
        passed = interval[0] > value
        if rule.covers is not None:
            passed = interval[0] <= value <= interval[1]
    requirement = "has to lie above"
    if rule.covers is not None:
        requirement = "has to cover"
    message = f"{rule.interval} is {interval_text}; it {requirement} {other_metric}, which is {format_metric(value)}"
    return RuleOutcome(name, message, interval, value, passed)


def check_served(name: str, bundle: Path) -> RuleOutcome:
    """Evaluate the rule `check: served`: a fresh process has to load the bundle and answer an example."""
    result = answer_in_fresh_process(bundle)
    message = f"a fresh process that loads the bundle as serving does {result}"
    return RuleOutcome(name, message, result, "answers", result == "answers")


def format_metric(value: Any) -> str:
    """Return a metric with four significant digits."""
    if is_finite_number(value):
        return f"{value:.4g}"
    return "not a number"


# ---------------------------------------------------------------- the check `served`


def answer_in_fresh_process(bundle: Path) -> str:
    """Return `answers`, or how a fresh process failed to answer an example.

    Raises:
        InfrastructureError: the process was killed.
    """
    command = [sys.executable, "-m", "aeops.machine.run_child", "aeops.gate.rules", str(bundle.resolve())]
    environment = os.environ | parent_environment()
    environment.pop("AE_ERROR_FILE", None)  # the error of the process is our result
    try:
        process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SERVED_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"gave no answer in {SERVED_SECONDS} s"
    require_not_killed(process.returncode, "the process that checks whether the bundle can be served")
    if process.returncode != 0:
        return "fails: " + (process.stderr.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
    return str(json.loads(process.stdout)["result"])


def answer_example(bundle: Path) -> str:
    """Return `answers` if the bundle answers its example as serving requires, without torch; else the problem."""
    from aeops.bundle.answer_check import check_example
    from aeops.bundle.detector import Detector

    problem = check_example(Detector(bundle))
    if "torch" in sys.modules:
        return "needs torch to answer"
    return problem or "answers"


def _print_answer() -> None:
    if len(sys.argv) != 2:
        raise UsageError(f"expected one argument, got {len(sys.argv) - 1}; type python -m aeops.gate.rules BUNDLE")
    print(json.dumps({"result": answer_example(Path(sys.argv[1]))}))


def main() -> None:
    """Run as the fresh process of the check `served`."""
    run_main(_print_answer)


if __name__ == "__main__":
    main()
