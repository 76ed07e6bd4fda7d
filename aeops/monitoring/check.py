"""Check a recipe's champion: read its predictions, evaluate the signals, decide, and write the results.

`python -m aeops.monitoring --recipe R [--as-of TIME]` and `ae monitor R` call this; starting a retrain is left to the flow
(flows/monitoring.py). Heavy modules are imported once there is a champion to check.
"""

from datetime import datetime

from aeops.errors import UsageError
from aeops.files import make_folder, write_json
from aeops.monitoring import paths
from aeops.monitoring.verdict import MonitoringVerdict, SignalRecord, build_monitoring_verdict
from aeops.project import Project
from aeops.recipe.monitoring import SIGNAL_NAMES
from aeops.recipe.reader import Recipe
from aeops.registry import ledger


def run_check(project: Project, recipe: Recipe, now: datetime, force_drift: bool = False) -> MonitoringVerdict:
    """Check the champion of a recipe and write verdict.json, history.parquet, page.html and, where due, drift.html.

    Args:
        project: where the predictions and the ledger are.
        recipe: whose champion is checked.
        now: time of the check, with its zone; what was scored later is left out.
        force_drift: make Evidently's report even where it is not due.

    Returns:
        What verdict.json holds.

    Raises:
        UsageError: `now` has no zone.
        DataError: the ledger, a prediction's file, the reference or a line of retrains.jsonl cannot be read.
        InfrastructureError: MLflow does not answer, or the disk is full.
    """
    if now.utcoffset() is None:
        raise UsageError(f"expected a time with a zone, such as 2026-11-24T14:30+00:00, got {now}")
    entries = ledger.read_entries(project, recipe.name)
    move = ledger.last_move(entries)
    make_folder(paths.monitoring_folder(project, recipe.name))
    if move is None or move.to_version is None:
        return _report_no_champion(project, recipe, now)
    from aeops.monitoring.champion_period import ChampionPeriod
    from aeops.monitoring.check_steps import check_champion_period

    timestamp = ledger.settle_timestamps(entries)[entries.index(move)]
    start = timestamp if timestamp <= now else None
    return check_champion_period(project, recipe, ChampionPeriod(move.to_version, move.time, start), now, force_drift)


def _report_no_champion(project: Project, recipe: Recipe, now: datetime) -> MonitoringVerdict:
    message = f"{recipe.name} has no champion to monitor: `ae run {recipe.name}` makes one"
    signals: list[SignalRecord] = [{"name": name, "verdict": "unknown", "says": message} for name in SIGNAL_NAMES]
    verdict = build_monitoring_verdict(project, recipe, now, None, signals)
    verdict["decision"]["why"] = [message]
    write_json(paths.verdict_file(project, recipe.name), verdict)
    return verdict
