"""Build and read monitoring's verdict.json: the signals of the last check, the decision about them, and when drift is due."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NotRequired, TypedDict

from aeops.machine.stored_json import read_json, read_json_if_whole
from aeops.monitoring import paths
from aeops.monitoring.champion_period import ChampionPeriod
from aeops.monitoring.column_record import ColumnRecord
from aeops.monitoring.decision import DecisionRecord, decide_retrain
from aeops.monitoring.retrains import read_retrains
from aeops.project import Project
from aeops.recipe.monitoring import MonitorSpec
from aeops.recipe.reader import Recipe

VERDICT_FORMAT = 1
PAGE_DAYS = 120  # that the page shows, and the champion's whole period where that is longer


class SignalRecord(TypedDict):
    """A signal as verdict.json holds it; see `aeops.monitoring.signals.Signal`. `counts`: whether it may start a retrain.

    Without a champion, a signal has `name`, `verdict`, `says` and `counts` alone.
    """

    name: str
    verdict: str
    says: str
    samples: NotRequired[int | None]
    e_value: NotRequired[float | None]
    highest: NotRequired[float | None]
    log10_e: NotRequired[float | None]
    level: NotRequired[float | None]
    since: NotRequired[str | None]
    counts: NotRequired[bool]


class DriftRecord(TypedDict):
    """When Evidently's report was made, and of how many samples of how many days."""

    as_of: str
    rows: int
    days: int


class MonitoringVerdict(TypedDict):
    """verdict.json; `version` and `promoted` (time of the promotion) are None where there is no champion.

    `columns`: of a table, the one that has moved most first; without predictions, and of other samples, there are none.
    """

    format: int
    recipe: str
    version: str | None
    promoted: str | None
    as_of: str
    level: float
    signals: list[SignalRecord]
    decision: DecisionRecord
    drift: DriftRecord | None
    columns: NotRequired[list[ColumnRecord]]


def build_monitoring_verdict(
    project: Project, recipe: Recipe, now: datetime, period: ChampionPeriod | None, signals: Sequence[SignalRecord]
) -> MonitoringVerdict:
    """Return verdict.json without a drift report: the signals and the decision about them.

    Args:
        now: time of the check, with its zone.
        period: of the present champion; None where there is none.
        signals: of every test and rule.

    Raises:
        DataError: a line of retrains.jsonl cannot be read.
    """
    spec: MonitorSpec = recipe.monitor
    verdicts = {signal["name"]: signal["verdict"] for signal in signals}
    decision = decide_retrain(recipe.name, spec, verdicts, read_retrains(project, recipe.name), now)
    records: list[SignalRecord] = []
    for signal in signals:
        record = signal.copy()
        record["counts"] = signal["name"] in spec.signals
        records.append(record)
    return {
        "format": VERDICT_FORMAT,
        "recipe": recipe.name,
        "version": None if period is None else period.version,
        "promoted": None if period is None else period.promotion_time,
        "as_of": now.astimezone(UTC).isoformat(timespec="microseconds"),
        "level": spec.level,
        "signals": records,
        "decision": decision.to_dict(),
        "drift": None,
    }


def read_last_verdict(project: Project, recipe: str) -> MonitoringVerdict | None:
    """Return the verdict of the last check; None where there was none, or its file is damaged."""
    file = paths.verdict_file(project, recipe)
    verdict: MonitoringVerdict | None = read_json_if_whole(file, "as_of", "version", "signals", "drift")
    return verdict


def read_monitoring_verdict(file: Path) -> MonitoringVerdict:
    """Return what a verdict.json holds."""
    verdict: MonitoringVerdict = read_json(file, "as_of", "version", "signals", "drift")
    return verdict


def is_drift_due(spec: MonitorSpec, last: MonitoringVerdict | None, verdict: MonitoringVerdict, can_compare: bool) -> bool:
    """Return whether Evidently's report is of another champion, or older than an alarm or than `drift_every_days`.

    Args:
        spec: the recipe's section monitor.
        last: the verdict of the last check.
        verdict: of this one.
        can_compare: whether there are recent predictions and a reference; a report that is missing is due only then.
    """
    if last is None or last["version"] != verdict["version"] or set(alarm_names(verdict)) - set(alarm_names(last)):
        return True
    if last["drift"] is None:
        return can_compare
    age = abs(datetime.fromisoformat(verdict["as_of"]) - datetime.fromisoformat(last["drift"]["as_of"]))
    return age >= timedelta(days=spec.drift_every_days)


def find_alarms(verdict: MonitoringVerdict) -> list[SignalRecord]:
    """Return the signals that alarm."""
    return [signal for signal in verdict["signals"] if signal["verdict"] == "alarm"]


def alarm_names(verdict: MonitoringVerdict) -> list[str]:
    """Return the names of the signals that alarm."""
    return [signal["name"] for signal in find_alarms(verdict)]
