"""The section `gate` of a recipe: its own rules, and the default ones of its purpose that it has not switched off."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ae_models.spec import FitSpec, SpecReader, format_value, input_shape, join_names, output_shape, suggest_match
from aeops.kinds import KIND_INFOS
from aeops.recipe.default_rules import (
    BEATS_BASELINES,
    KEEPS_PROMISE,
    MEASURED_RATE,
    NOT_BELOW_BASELINES,
    PROMISE_INTERVAL,
    REQUESTED_RATE,
    DefaultRule,
    default_rules,
    describe_rule,
    implies,
)
from aeops.recipe.gate_rules import AUROC, ERROR, Rule
from aeops.recipe.metric_names import metric_names
from aeops.recipe.own_kinds import study_specs
from aeops.recipe.sections import DataSpec, EvaluateSpec
from aeops.recipe.studies import POWER_STUDY

BASELINE_RULES = (BEATS_BASELINES, NOT_BELOW_BASELINES)  # default rules that need baselines


@dataclass(frozen=True)
class SwitchedOff:
    """A default rule that a recipe switches off."""

    switched_off: str  # the reason, which every verdict repeats

    def validation_errors(self) -> list[str]:
        if not self.switched_off.strip():
            return ["switched_off: expected the reason why this rule is not to hold, got an empty text"]
        return []


@dataclass(frozen=True)
class GateSection:
    """What the gate judges by.

    Attributes:
        rules: name -> rule: the recipe's own, then the default ones.
        unchecked: default rule -> why it is not judged: the reason that the recipe gives, or what its data lacks.
    """

    rules: dict[str, Rule]
    unchecked: dict[str, str]


@dataclass(frozen=True)
class GateSubject:
    """The sections of a recipe that decide which rules its gate can have."""

    purpose: str
    data: DataSpec
    fit: FitSpec
    evaluate: EvaluateSpec


def read_gate(reader: SpecReader, raw_gate: Any, subject: GateSubject | None) -> GateSection:
    """Read the section gate; mistakes are noted in `reader`.

    Args:
        reader: collects the mistakes.
        raw_gate: the section as it stands in the file.
        subject: None where one of its sections has mistakes: the rules are then read, and not compared with it.
    """
    if not isinstance(raw_gate, Mapping):
        reader.mistake("gate", f"expected rules as NAME: {{metric: ..., at_least: ...}}, got {format_value(raw_gate)}")
        return GateSection({}, {})
    rules: dict[str, Rule] = {}
    reasons: dict[str, str] = {}  # default rule that is switched off -> why
    for name, raw_rule in raw_gate.items():
        if isinstance(raw_rule, Mapping) and "switched_off" in raw_rule:
            switched_off = reader.read(SwitchedOff, raw_rule, f"gate.{name}")
            if switched_off is not None:
                reasons[str(name)] = switched_off.switched_off.strip()
        else:
            rule = reader.read(Rule, raw_rule, f"gate.{name}")
            if rule is not None:
                rules[str(name)] = rule
    if subject is None:
        return GateSection({}, {})
    for path, reason in _check_rules(rules, subject):
        reader.mistake(f"gate.{path}", reason)
    gate = _add_defaults(reader, rules, reasons, subject)
    if not gate.rules and not reader.mistakes:
        reader.mistake("gate", "expected at least one rule that holds, got none: a gate without rules blocks nothing")
    return gate


def _add_defaults(
    reader: SpecReader, own_rules: Mapping[str, Rule], reasons: Mapping[str, str], subject: GateSubject
) -> GateSection:
    """Return the recipe's own rules and the default ones of its purpose; mistakes are noted in `reader`.

    Args:
        reader: collects the mistakes.
        own_rules: the recipe's own rules by name.
        reasons: default rule that it switches off -> why.
        subject: the other sections of the recipe.
    """
    rules, defaults = dict(own_rules), default_rules(subject.purpose)
    for name in reasons:
        if name not in defaults:
            reader.mistake(f"gate.{name}", _unknown_default(name, defaults, subject.purpose))
    unchecked = {name: f"switched off: {reason}" for name, reason in reasons.items()}
    for name, default in defaults.items():
        if name in reasons or (default.with_novelty is None and subject.data.novelty):
            continue
        rule, missing = _default_rule(default, subject)
        if rule is None:
            unchecked[name] = missing
            continue
        for path, reason in _check_baselines_of(default, subject):
            reader.mistake(path, reason)
        if name in own_rules and not implies(own_rules[name], rule):
            reader.mistake(f"gate.{name}", _weaker_rule(default, rule))
        elif not any(implies(own_rule, rule) for own_rule in own_rules.values()):
            rules[name] = rule
    return GateSection(rules, unchecked)


def _unknown_default(name: str, defaults: Mapping[str, DefaultRule], purpose: str) -> str:
    expected = f"expected one of {join_names(defaults)}, which always hold with purpose {purpose}"
    return f"switched_off: {expected}, got {name}: a rule of the recipe's own is deleted instead{suggest_match(name, defaults)}"


def _weaker_rule(default: DefaultRule, rule: Rule) -> str:
    return (
        f"expected {describe_rule(rule)} or a stricter rule, since a rule of this name always holds ({default.claim}), or "
        "{switched_off: REASON} to switch it off"
    )


def _default_rule(default: DefaultRule, subject: GateSubject) -> tuple[Rule | None, str]:
    """Return the rule for this recipe; None and what is missing where it cannot be judged."""
    if default.name in BASELINE_RULES and not KIND_INFOS[subject.fit.input.kind].has_baselines:
        return None, f"samples of kind {subject.fit.input.kind} have no such baselines"
    threshold = subject.fit.threshold
    if default.name == KEEPS_PROMISE and not threshold.has_law:
        return None, f"a threshold of kind {threshold.kind} promises no rate of false alarms that could be judged"
    rule = default.without_novelty
    if subject.data.novelty:
        rule = default.with_novelty
    if rule is not None and rule.above == REQUESTED_RATE and not threshold.has_rate:
        rule = replace(rule, above=MEASURED_RATE)
    return rule, "data.novelty names no labels, so there is no novelty to judge it by"


def _check_baselines_of(default: DefaultRule, subject: GateSubject) -> Iterator[tuple[str, str]]:
    """Yield (path, reason) for each baseline that a default rule needs and the recipe does not measure."""
    if default.name not in BASELINE_RULES:
        return
    needed_keys = {"neighbours": 5}
    if input_shape(subject.fit.model, subject.fit.input) == output_shape(subject.fit.model, subject.fit.input):
        needed_keys["pca_components"] = 16
    for key, example in needed_keys.items():
        if getattr(subject.evaluate, key) is None:
            reason = (
                f"expected a number, such as {example}, since with purpose {subject.purpose} the rule {default.name} holds; or "
                f"switch that off with gate: {{{default.name}: {{switched_off: REASON}}}}"
            )
            yield f"evaluate.{key}", reason


def _check_rules(rules: Mapping[str, Rule], subject: GateSubject) -> Iterator[tuple[str, str]]:
    """Yield (path below gate, reason) for each rule of the recipe's own that its other sections do not allow."""
    for name, rule in rules.items():
        for path, reason in (*_check_metrics(rule, subject), *_check_comparable_samples(rule, subject.data)):
            yield f"{name}.{path}", reason


def _check_metrics(rule: Rule, subject: GateSubject) -> Iterator[tuple[str, str]]:
    """Yield (key, reason) for each metric that evaluation will not measure.

    Those of a study are known when it has run; those of the study `power` before.
    """
    names = metric_names(subject.fit, subject.data, subject.evaluate)
    for key in ("metric", "interval", "covers", "above"):
        metric_path = getattr(rule, key)
        if metric_path is None:
            continue
        study = metric_path.partition(".")[0]
        known_names, what = names.numbers, "a metric"
        if key == "interval":
            known_names, what = names.intervals, "an interval"
        if study in study_specs() and study not in subject.evaluate.studies:
            yield key, f"{metric_path} is of the study {study}, which evaluate.studies lacks"
        elif study in study_specs() and study != POWER_STUDY:
            continue
        elif metric_path not in known_names:
            hint = _missing_section(metric_path, subject) or suggest_match(metric_path, known_names)
            yield key, f"expected {what} that is measured of this recipe, got {metric_path!r}{hint}"


def _missing_section(metric_path: str, subject: GateSubject) -> str:
    """Return which key a metric of this section needs and the recipe lacks; empty where it has all of them."""
    missing_keys = []
    threshold = subject.fit.threshold
    if metric_path == REQUESTED_RATE:
        return f": a threshold of kind {threshold.kind} names no rate"
    if metric_path in (PROMISE_INTERVAL, "false_alarms.interval_with_calibration"):
        return f": a threshold of kind {threshold.kind} has no law of its false alarms"
    if metric_path.startswith("detection."):
        if not subject.data.novelty:
            missing_keys.append("data.novelty")
        if subject.evaluate.neighbours is None:
            missing_keys.append("evaluate.neighbours")
    if "pca" in metric_path and subject.evaluate.pca_components is None:
        missing_keys.append("evaluate.pca_components")
    if not missing_keys:
        return ""
    return f": set {join_names(missing_keys)}"


def _check_comparable_samples(rule: Rule, data: DataSpec) -> Iterator[tuple[str, str]]:
    """Yield (key, reason) where a comparison with the champion needs novelty or labels that the data does not have."""
    if rule.champion == AUROC and not data.novelty:
        yield "champion", f"expected {ERROR}, got {AUROC}: without data.novelty there is none to rank"
    if rule.by is not None and not set(data.labels) - set(data.novelty):
        yield "by", f"expected no {rule.by}, since data.labels names no normal label: leave by out"
