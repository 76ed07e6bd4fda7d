"""verdict.json: what the last check of a champion found, and when drift is due again."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from aeops.files import read_json
from aeops.monitoring import paths, retrains
from aeops.monitoring.decision import decide
from aeops.project import Project
from aeops.recipe.monitoring import MonitorSpec
from aeops.recipe.reader import Recipe

if TYPE_CHECKING:
    from aeops.monitoring.daily_counts import Reign


FORMAT = 1


PAGE_DAYS = 120  # that the page shows, and the champion's reign where that is longer


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
