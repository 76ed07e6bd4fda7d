"""Decide whether alarms start a retrain: enough counting signals, a cooldown, a budget. Standard library only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypedDict

from aeops.monitoring.retrains import RetrainRecord
from aeops.recipe.monitoring import MonitorSpec
from aeops.registry.ledger import CLOCK_TOLERANCE

BUDGET_PERIOD = timedelta(days=30)


class DecisionRecord(TypedDict):
    """A decision as verdict.json holds it."""

    retrain: bool
    why: list[str]
    signals: list[str]
    command: str
    id: str | None
    flow_run: str | None


@dataclass(frozen=True)
class RetrainDecision:
    """Decision about a retrain.

    Attributes:
        is_due: whether a retrain is to be started.
        reasons: for the decision, also where no retrain is due.
        alarms: the signals that count and alarm.
        command: what a person types who wants a retrain.
    """

    is_due: bool
    reasons: tuple[str, ...]
    alarms: tuple[str, ...]
    command: str

    def to_dict(self) -> DecisionRecord:
        """Return the decision as verdict.json holds it, before anything is started."""
        return {
            "retrain": self.is_due,
            "why": list(self.reasons),
            "signals": list(self.alarms),
            "command": self.command,
            "id": None,
            "flow_run": None,
        }


def decide_retrain(
    recipe: str, spec: MonitorSpec, verdicts: Mapping[str, str], retrains: Sequence[RetrainRecord], now: datetime
) -> RetrainDecision:
    """Decide whether a retrain is due.

    Args:
        recipe: its name.
        spec: the recipe's section `monitor`.
        verdicts: signal -> quiet, alarm or unknown.
        retrains: those started so far.
        now: time of the check, with its zone.
    """
    alarms = tuple(name for name in spec.signals if verdicts.get(name) == "alarm")
    names = f" ({', '.join(alarms)})" if alarms else ""
    reasons = [
        f"{len(alarms)} of the {len(spec.signals)} signals that count raised an alarm{names}; a retrain needs {spec.needed}"
    ]
    if len(alarms) < spec.needed:
        return RetrainDecision(False, tuple(reasons), alarms, f"ae run {recipe}")
    past_retrains = [retrain for retrain in retrains if retrain.timestamp <= now + CLOCK_TOLERANCE]
    if len(past_retrains) < len(retrains):
        reasons.append(
            f"{len(retrains) - len(past_retrains)} earlier retrains dated ahead of the clock are left out: a clock was wrong"
        )
    postponements = [*check_cooldown(spec, past_retrains, now), *check_budget(spec, past_retrains, now)]
    return RetrainDecision(not postponements, (*reasons, *postponements), alarms, f"ae run {recipe}")


def check_cooldown(spec: MonitorSpec, retrains: Sequence[RetrainRecord], now: datetime) -> list[str]:
    """Return the reason why it is too early for another retrain; empty where it is not."""
    if not retrains:
        return []
    latest_retrain = max(retrain.timestamp for retrain in retrains)
    end = latest_retrain + timedelta(days=spec.cooldown_days)
    if now >= end:
        return []
    return [
        f"not yet: the last retrain was on {latest_retrain:%Y-%m-%d %H:%M}, "
        f"and cooldown_days holds the next until {end:%Y-%m-%d %H:%M}"
    ]


def check_budget(spec: MonitorSpec, retrains: Sequence[RetrainRecord], now: datetime) -> list[str]:
    """Return the reason why there were enough retrains lately; empty where there were not."""
    count = sum(retrain.timestamp > now - BUDGET_PERIOD for retrain in retrains)
    if count < spec.retrains_a_month:
        return []
    return [f"not now: {count} retrains in the last 30 days, and retrains_a_month allows {spec.retrains_a_month}"]
