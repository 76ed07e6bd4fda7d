"""A look at a recipe's champion: reads, judges, decides, and writes down what it found.

`python -m aeops.monitoring --recipe R [--as-of TIME]` and `ae monitor R` come here; starting a retrain is the flow's
(flows/monitoring.py). What is heavy is imported once there is a champion to look at.
"""

from datetime import datetime
from typing import TYPE_CHECKING, Any

from aeops.errors import UsageError
from aeops.files import write_json
from aeops.monitoring import paths
from aeops.monitoring.verdict import verdict
from aeops.project import Project
from aeops.recipe.monitoring import SIGNALS
from aeops.recipe.reader import Recipe
from aeops.registry import ledger

if TYPE_CHECKING:
    pass


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
    move = ledger.last_move(ledger.read_entries(project, recipe.name))
    paths.folder(project, recipe.name).mkdir(parents=True, exist_ok=True)
    if move is None or move.to_version is None:
        return no_champion(project, recipe, now)
    from aeops.monitoring.check_steps import look_at
    from aeops.monitoring.daily_counts import Reign

    since = move.moment if move.moment <= now else None
    return look_at(project, recipe, Reign(move.to_version, move.time, since), now, drift)


def no_champion(project: Project, recipe: Recipe, now: datetime) -> dict[str, Any]:
    """What is said where there is nothing to look at."""
    says = f"no champion to look at: `ae run {recipe.name}` makes one"
    signals: list[dict[str, Any]] = [{"name": name, "verdict": "unknown", "says": says} for name in SIGNALS]
    found = verdict(project, recipe, now, None, signals)
    found["decision"]["why"] = [says]
    write_json(paths.verdict_file(project, recipe.name), found)
    return found
