"""Rules of the gate that hold without being asked for, by the purpose of a recipe. Standard library only.

A recipe cannot leave one out by forgetting it: it switches it off by name with a reason, and every verdict repeats that. To
add one: its line in `DEFAULT_RULES`, and a row in the table of docs/gates.md.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ae_models.mappings import join_entries
from aeops.recipe.gate_rules import AUROC, DEFAULT_MARGINS, ERROR, LEAD_LOWER_BOUND, NEEDS_BETTER, POWER, Rule

DETECT, RECONSTRUCT, TRANSFORM, EMBED = "detect", "reconstruct", "transform", "embed"
PURPOSES = (DETECT, RECONSTRUCT, TRANSFORM, EMBED)
BEATS_BASELINES = "beats_pca_and_knn"
KEEPS_PROMISE = "keeps_its_promise"
CATCHES_FAULTS = "catches_injected_faults"
RANKS_FAULTS = "ranks_injected_faults"
NOT_BELOW_BASELINES = "not_below_baselines"
REQUESTED_RATE, MEASURED_RATE = "false_alarms.requested", "false_alarms.measured"
PROMISE_INTERVAL = "false_alarms.promise_interval"  # at 99.9 %: of 1,000 thresholds that keep their promise at most 1 is refused
STRICTER_INTERVALS = {PROMISE_INTERVAL: ("false_alarms.interval_with_calibration",)}  # inside the other one

NOT_WORSE_BY_ERROR = Rule(champion=ERROR)
NOT_WORSE_BY_RANKING = Rule(champion=AUROC)
NOT_WORSE_BY_POWER = Rule(champion=POWER)
PROMISE_KEPT = Rule(interval=PROMISE_INTERVAL, covers=REQUESTED_RATE)
AHEAD_OF_BASELINES = Rule(metric=LEAD_LOWER_BOUND, at_least=0.0)
ABOVE_FALSE_ALARMS = Rule(interval="novelty_flagged_interval", above=REQUESTED_RATE)
FAULTS_ABOVE_FALSE_ALARMS = Rule(interval="power.mean_caught_interval", above=REQUESTED_RATE)
FAULTS_ABOVE_NORMALS = Rule(metric="power.mean_separation", at_least=0.5)
NEAR_BASELINES = Rule(metric="power.lead_lower_bound", at_least=-0.08)


@dataclass(frozen=True)
class DefaultRule:
    """A rule that holds for every recipe of some purposes.

    Attributes:
        name: by which the gate reports it and a recipe switches it off.
        claim: what it asks of a model.
        purposes: those of the recipes that it holds for.
        with_novelty: the rule where data.novelty names labels; None where other rules stand for it then.
        without_novelty: the rule where it names none; None where it cannot be judged then.
    """

    name: str
    claim: str
    purposes: tuple[str, ...]
    with_novelty: Rule | None
    without_novelty: Rule | None


DEFAULT_RULES = (
    DefaultRule(KEEPS_PROMISE, "as many false alarms as the threshold promises", PURPOSES, PROMISE_KEPT, PROMISE_KEPT),
    DefaultRule(
        "not_worse_than_champion", "detects no worse than the champion", (DETECT,), NOT_WORSE_BY_RANKING, NOT_WORSE_BY_POWER
    ),
    DefaultRule(
        "not_worse_than_champion",
        "an error no larger than the champion's",
        (RECONSTRUCT, TRANSFORM, EMBED),
        NOT_WORSE_BY_ERROR,
        NOT_WORSE_BY_ERROR,
    ),
    DefaultRule(
        BEATS_BASELINES,
        "ranks the novelty better than every baseline, by more than chance explains",
        (DETECT,),
        AHEAD_OF_BASELINES,
        None,
    ),
    DefaultRule(
        "catches_the_novelty", "flags more of the novelty than false alarms alone would", (DETECT,), ABOVE_FALSE_ALARMS, None
    ),
    DefaultRule(
        CATCHES_FAULTS, "flags more injected faults than false alarms alone would", (DETECT,), None, FAULTS_ABOVE_FALSE_ALARMS
    ),
    DefaultRule(
        RANKS_FAULTS, "ranks injected faults above normal samples, not below them", (DETECT,), None, FAULTS_ABOVE_NORMALS
    ),
    DefaultRule(NOT_BELOW_BASELINES, "flags no fewer injected faults than the best baseline", (DETECT,), None, NEAR_BASELINES),
)


def default_rules(purpose: str) -> dict[str, DefaultRule]:
    """Return the default rules of a purpose by their names."""
    return {rule.name: rule for rule in DEFAULT_RULES if purpose in rule.purposes}


def implies(rule: Rule, default: Rule) -> bool:
    """Return whether `rule` asks for all that `default` asks for, so that the default adds nothing."""
    if default.champion is not None:
        has_margin = rule.margin is not None and rule.margin <= DEFAULT_MARGINS[default.champion, None]
        is_as_strict = rule.needs == NEEDS_BETTER or rule.margin is None or has_margin
        return rule.champion == default.champion and rule.by is None and is_as_strict
    if default.interval is not None:
        intervals = (default.interval, *STRICTER_INTERVALS.get(default.interval, ()))
        return rule.interval in intervals and (rule.covers, rule.above) == (default.covers, default.above)
    return rule.metric == default.metric and rule.at_least is not None and rule.at_least >= (default.at_least or 0.0)


def describe_rule(rule: Rule) -> str:
    """Return a rule as a recipe writes it, such as `{metric: detection.lead_lower_bound, at_least: 0}`."""
    return f"{{{join_entries(rule.to_dict(), _format_setting)}}}"


def _format_setting(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def unchecked_warnings(purpose: str, unchecked: Mapping[str, str]) -> Iterator[str]:
    """Yield a warning for each default rule that is not judged.

    Args:
        purpose: of the recipe.
        unchecked: name -> why it is not judged.
    """
    for name, rule in default_rules(purpose).items():
        if name in unchecked:
            yield f"the gate does not check {name} ({rule.claim}): {unchecked[name]}"
