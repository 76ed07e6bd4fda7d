"""Run the steps of a check: reference, predictions, signals, decision, page, Evidently's report, MLflow."""

import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from aeops.evaluation.reference import CalibrationReference, read_reference
from aeops.files import make_folder, replace_file, write_json
from aeops.machine.child_process import run_module
from aeops.machine.scratch import ScratchFolder
from aeops.monitoring import paths
from aeops.monitoring.champion_period import ChampionPeriod
from aeops.monitoring.column_changes import ColumnChange, find_column_changes
from aeops.monitoring.daily_counts import (
    DailyCounts,
    count_predictions,
    has_recent_samples,
    read_recent_predictions,
)
from aeops.monitoring.evidence import EvidenceSeries, compute_evidence
from aeops.monitoring.history import append_check, find_past_alarms, read_history
from aeops.monitoring.monitoring_page import PageContent, write_page
from aeops.monitoring.ranks import ColumnBins
from aeops.monitoring.reference_bins import make_test_bins
from aeops.monitoring.retrains import read_retrains
from aeops.monitoring.signals import RECENT_DAYS, Signal, evaluate_age, evaluate_tests, evaluate_volume
from aeops.monitoring.verdict import (
    PAGE_DAYS,
    DriftRecord,
    MonitoringVerdict,
    build_monitoring_verdict,
    is_drift_due,
    read_last_verdict,
)
from aeops.predictions.day_files import roll_days
from aeops.project import Project
from aeops.recipe.monitoring import INPUT_SIGNAL
from aeops.recipe.reader import Recipe
from aeops.registry import ledger
from aeops.registry.store import Store, open_store

DRIFT_DAYS, DRIFT_ROWS = 7, 5000  # of predictions that Evidently compares with the calibration
ARTIFACT_FOLDER = "monitoring"  # of a version's MLflow run


@dataclass(frozen=True)
class CheckResult:
    """The signals of a check, and the data that they rest on."""

    reference: CalibrationReference | None
    counts: DailyCounts
    test_bins: dict[str, list[ColumnBins]]
    evidence: dict[str, EvidenceSeries]
    signals: list[Signal]
    changes: list[ColumnChange]


def evaluate_signals(project: Project, recipe: Recipe, period: ChampionPeriod, now: datetime) -> CheckResult:
    """Evaluate every signal as of `now`; writes caches alone: the champion's reference and the counts.

    Raises:
        DataError: a prediction's file, the reference, the counts or the history cannot be read.
        InfrastructureError: MLflow does not answer.
    """
    name, spec = recipe.name, recipe.monitor
    reference = fetch_reference(project, name, period.version)
    test_bins = {} if reference is None else make_test_bins(reference)
    since = now - timedelta(days=PAGE_DAYS)
    if period.start is not None:
        since = min(since, period.start)
    rule = None if reference is None else reference.blocks
    counts = count_predictions(project, name, period, test_bins, since, now, spec.channels, rule)
    evidence = compute_evidence(counts, test_bins)
    changes = _column_changes(project, recipe, period, reference, evidence.get(INPUT_SIGNAL), now)
    history = read_history(paths.history_file(project, name))
    past_alarms = find_past_alarms(history, period, spec.level)
    signals = [
        *evaluate_tests(reference, counts, test_bins, evidence, spec, period, past_alarms, changes),
        evaluate_age(spec, period, now),
        evaluate_volume(spec, counts, period, now),
    ]
    return CheckResult(reference, counts, test_bins, evidence, signals, changes)


def _column_changes(
    project: Project,
    recipe: Recipe,
    period: ChampionPeriod,
    reference: CalibrationReference | None,
    evidence: EvidenceSeries | None,
    now: datetime,
) -> list[ColumnChange]:
    """Return how far the columns have moved on the last days; nothing of samples without columns, or without predictions."""
    if reference is None or not reference.columns:
        return []
    table = read_recent_predictions(project, recipe.name, period, now, RECENT_DAYS, DRIFT_ROWS, recipe.monitor.channels)
    lists = table["values"].drop_null().combine_chunks()
    values = lists.flatten().to_numpy(zero_copy_only=False).reshape(-1, len(reference.columns))
    return find_column_changes(reference, values, evidence, recipe.monitor.level)


def check_champion_period(
    project: Project, recipe: Recipe, period: ChampionPeriod, now: datetime, force_drift: bool
) -> MonitoringVerdict:
    """Check a champion and write the results; see `aeops.monitoring.check.run_check`."""
    name = recipe.name
    roll_days(project, name, min(now, datetime.now(UTC)).astimezone(UTC).date())
    result = evaluate_signals(project, recipe, period, now)
    history = append_check(paths.history_file(project, name), now, name, period, result.signals)
    verdict = build_result_verdict(project, recipe, period, result, now)
    last_verdict = read_last_verdict(project, name)
    store = None
    can_compare = result.reference is not None and has_recent_samples(result.counts, period, now, DRIFT_DAYS)
    if force_drift or is_drift_due(recipe.monitor, last_verdict, verdict, can_compare):
        with ThreadPoolExecutor(1) as pool:  # Evidently's process takes ten seconds, importing MLflow three
            drift = pool.submit(draw_drift_report, project, recipe, period, result.reference, now)
            store = open_store(project)
        verdict["drift"] = drift.result()
    elif last_verdict is not None:
        verdict["drift"] = last_verdict["drift"]
    write_page(paths.page_file(project, name), page_content(project, recipe, period, result, verdict, history))
    write_json(paths.verdict_file(project, name), verdict)
    if store is not None:
        log_results(store, project, name, period.version)
    return verdict


def build_result_verdict(
    project: Project, recipe: Recipe, period: ChampionPeriod, result: CheckResult, now: datetime
) -> MonitoringVerdict:
    """Return verdict.json of a check's result, without a drift report."""
    verdict = build_monitoring_verdict(project, recipe, now, period, [signal.to_dict() for signal in result.signals])
    verdict["columns"] = [change.to_dict() for change in result.changes]
    return verdict


def page_content(
    project: Project, recipe: Recipe, period: ChampionPeriod, result: CheckResult, verdict: MonitoringVerdict, history: pa.Table
) -> PageContent:
    """Return everything that the page shows of a check; `history` has every row of history.parquet."""
    return PageContent(
        verdict=verdict,
        about=recipe.about,
        spec=recipe.monitor,
        period=period,
        counts=result.counts,
        test_bins=result.test_bins,
        evidence=result.evidence,
        history=history,
        retrains=read_retrains(project, recipe.name),
        entries=ledger.read_content(project, recipe.name).entries,
    )


# ---------------------------------------------------------------- the reference


def fetch_reference(project: Project, recipe: str, version: str) -> CalibrationReference | None:
    """Return the reference that the version was registered with, downloaded once; None where it has none."""
    path = paths.reference_file(project, recipe, version)
    if not path.is_file():
        make_folder(path.parent)
        for old_path in path.parent.glob("reference-*.parquet"):
            old_path.unlink()
        _download_reference(project, recipe, version, path)
    if not path.is_file():
        return None
    return read_reference(path)


def _download_reference(project: Project, recipe: str, version: str, path: Path) -> None:
    store = open_store(project)
    run_id, artifact_path = store.version(recipe, version).run_id, f"{ARTIFACT_FOLDER}/reference.parquet"
    if artifact_path in store.files(run_id, ARTIFACT_FOLDER):
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            replace_file(store.download_file(run_id, artifact_path, Path(folder)), path)


# ---------------------------------------------------------------- Evidently's report and MLflow


def draw_drift_report(
    project: Project, recipe: Recipe, period: ChampionPeriod, reference: CalibrationReference | None, now: datetime
) -> DriftRecord | None:
    """Draw drift.html in a process of its own; without data to compare, remove it and return None."""
    name = recipe.name
    out_file = paths.drift_file(project, name)
    table = read_recent_predictions(project, name, period, now, DRIFT_DAYS, DRIFT_ROWS, recipe.monitor.channels)
    if reference is None or table.num_rows == 0:
        out_file.unlink(missing_ok=True)
        return None
    with ScratchFolder() as folder:
        recent_file = Path(folder) / "recent.parquet"
        pq.write_table(table, recent_file)
        reference_file = paths.reference_file(project, name, period.version)
        arguments = ["--reference", str(reference_file), "--recent", str(recent_file), "--out", str(out_file)]
        log_file = project.logs / f"drift-{name}.log"
        run_module(["aeops.monitoring.drift", *arguments], root=project.root, home=project.home, log=log_file)
    return {"as_of": now.isoformat(), "rows": table.num_rows, "days": DRIFT_DAYS}


def log_results(store: Store, project: Project, recipe: str, version: str) -> None:
    """Log verdict, page and drift report to the champion's MLflow run, in place of the last ones."""
    files = []
    for file_of in (paths.verdict_file, paths.page_file, paths.drift_file):
        file = file_of(project, recipe)
        if file.is_file():
            files.append(file)
    run_id = store.version(recipe, version).run_id
    if not store.has_run(run_id):
        print(f"not stored in MLflow: the run of {recipe} {version} was deleted there", file=sys.stderr)
        return
    store.log_files(run_id, files, ARTIFACT_FOLDER)
