"""A look at a recipe's champion: reads, judges, decides, and writes down what it found.

`python -m aeops.monitoring --recipe R [--as-of TIME]` and `ae monitor R` come here; starting a retrain is the flow's
(flows/monitoring.py). What is heavy is imported once there is a champion to look at.
"""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from aeops.data.dataset import read_json, write_json
from aeops.errors import UsageError
from aeops.monitoring import paths, retrains
from aeops.monitoring.decision import decide
from aeops.project import Project
from aeops.recipe.monitoring import SIGNALS, MonitorSpec
from aeops.recipe.reader import Recipe
from aeops.registry import ledger

if TYPE_CHECKING:
    from aeops.monitoring.daily_counts import Reign

FORMAT = 1
PAGE_DAYS = 120  # that the page shows, and the champion's reign where that is longer


def look(project: Project, recipe: Recipe, now: datetime, drift: bool = False) -> dict[str, Any]:
    """Looks at the champion as of `now`; returns what verdict.json holds.

    Args:
        now: with its zone; what was scored later is left out.
        drift: make Evidently's report in any case.

    Raises:
        UsageError: `now` has no zone.
        DataError: the ledger, a prediction's file, the reference or a line of retrains.jsonl cannot be read.
        InfrastructureError: MLflow does not answer, or the disk is full.
    """
    if now.utcoffset() is None:
        raise UsageError(f"the moment {now} given; one with a zone is allowed, such as 2026-11-24T14:30+00:00")
    move = ledger.last_move(ledger.read(project, recipe.name))
    paths.folder(project, recipe.name).mkdir(parents=True, exist_ok=True)
    if move is None or move.after is None:
        return no_champion(project, recipe, now)
    from aeops.monitoring.check_steps import look_at
    from aeops.monitoring.daily_counts import Reign

    since = move.moment if move.moment <= now else None
    return look_at(project, recipe, Reign(move.after, move.time, since), now, drift)


def no_champion(project: Project, recipe: Recipe, now: datetime) -> dict[str, Any]:
    """What is said where there is nothing to look at."""
    says = f"no champion to look at: `ae run {recipe.name}` makes one"
    signals: list[dict[str, Any]] = [{"name": name, "verdict": "unknown", "says": says} for name in SIGNALS]
    found = verdict(project, recipe, now, None, signals)
    found["decision"]["why"] = [says]
    write_json(paths.verdict_file(project, recipe.name), found)
    return found


def verdict(
    project: Project, recipe: Recipe, now: datetime, reign: "Reign | None", signals: list[dict[str, Any]]
) -> dict[str, Any]:
    """verdict.json: the signals and the decision about them."""
    spec: MonitorSpec = recipe.monitor
    decided = decide(
        recipe.name, spec, {one["name"]: one["verdict"] for one in signals}, retrains.read(project, recipe.name), now
    )
    return {
        "format": FORMAT,
        "recipe": recipe.name,
        "version": None if reign is None else reign.version,
        "promoted": None if reign is None else reign.promoted,
        "as_of": now.astimezone(UTC).isoformat(timespec="microseconds"),
        "level": spec.level,
        "signals": [one | {"counts": one["name"] in spec.signals} for one in signals],
        "decision": decided.plain(),
        "drift": None,
    }


def last_verdict(project: Project, recipe: str) -> dict[str, Any] | None:
    """What the last look found; None where there was none."""
    file = paths.verdict_file(project, recipe)
    return dict(read_json(file)) if file.is_file() else None


def drift_is_due(spec: MonitorSpec, before: dict[str, Any] | None, found: dict[str, Any]) -> bool:
    """Whether Evidently's report is of another champion, or older than an alarm or than `drift_every_days`."""
    if before is None or before["version"] != found["version"] or before["drift"] is None:
        return True
    made = datetime.fromisoformat(before["drift"]["as_of"])
    is_old = abs(datetime.fromisoformat(found["as_of"]) - made) >= timedelta(days=spec.drift_every_days)
    return is_old or bool(alarms(found) - alarms(before))


def alarms(found: dict[str, Any]) -> set[str]:
    return {one["name"] for one in found["signals"] if one["verdict"] == "alarm"}
