"""Whether alarms start a retrain: so many of the signals that count, a cooldown, a budget. Standard library only."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from aeops.monitoring.retrains import Retrain
from aeops.recipe.monitoring import MonitorSpec

MONTH = timedelta(days=30)


@dataclass(frozen=True)
class Decision:
    """What is to be done.

    Attributes:
        retrain: whether a retrain is to be started.
        why: the reasons, also where it is not.
        signals: the alarms that count.
        command: what a person types who wants a retrain.
        id, flow_run: of the retrain, once it is started.
    """

    retrain: bool
    why: tuple[str, ...]
    signals: tuple[str, ...]
    command: str
    id: str | None = None
    flow_run: str | None = None

    def plain(self) -> dict[str, Any]:
        return asdict(self) | {"why": list(self.why), "signals": list(self.signals)}


def decide(recipe: str, spec: MonitorSpec, verdicts: Mapping[str, str], retrains: Sequence[Retrain], now: datetime) -> Decision:
    """Judges the verdicts (signal -> quiet, alarm or unknown) and the retrains so far."""
    alarms = tuple(name for name in spec.signals if verdicts.get(name) == "alarm")
    which = f" ({', '.join(alarms)})" if alarms else ""
    why = [f"{len(alarms)} of the {len(spec.signals)} signals that count alarm{which}, and it takes {spec.needed}"]
    obstacles = [] if len(alarms) < spec.needed else [*cooldown(spec, retrains, now), *budget(spec, retrains, now)]
    retrain = len(alarms) >= spec.needed and not obstacles
    return Decision(retrain, (*why, *obstacles), alarms, f"ae run {recipe}")


def cooldown(spec: MonitorSpec, retrains: Sequence[Retrain], now: datetime) -> list[str]:
    """Why it is too early, where it is."""
    if not retrains:
        return []
    last = max(one.moment for one in retrains)
    until = last + timedelta(days=spec.cooldown_days)
    if now >= until:
        return []
    return [
        f"not yet: the last retrain was on {last:%Y-%m-%d %H:%M}, and cooldown_days holds the next until {until:%Y-%m-%d %H:%M}"
    ]


def budget(spec: MonitorSpec, retrains: Sequence[Retrain], now: datetime) -> list[str]:
    """Why there were enough, where there were."""
    lately = sum(one.moment > now - MONTH for one in retrains)
    if lately < spec.retrains_a_month:
        return []
    return [f"not now: {lately} retrains in the last 30 days, and retrains_a_month allows {spec.retrains_a_month}"]
