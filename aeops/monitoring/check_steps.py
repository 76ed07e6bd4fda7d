"""A look at a champion, step by step: reference, predictions, signals, decision, page, Evidently's report, MLflow."""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from aeops.evaluation.reference import Reference, read_reference
from aeops.files import replace_file, write_json
from aeops.machine.child_process import run_module
from aeops.monitoring import history, paths, retrains
from aeops.monitoring.daily_counts import Observed, Reign, cuts_of, observe, recent
from aeops.monitoring.monitoring_page import Scene, write_page
from aeops.monitoring.ranks import Cuts
from aeops.monitoring.signals import Course, Signal, courses, judge_age, judge_tests, judge_volume
from aeops.monitoring.verdict import PAGE_DAYS, drift_is_due, last_verdict, verdict
from aeops.project import Project
from aeops.recipe.reader import Recipe
from aeops.registry.store import Store, open_store

RECENT_DAYS, RECENT_ROWS = 7, 5000  # what Evidently compares with the calibration
KEPT = "monitoring"  # the folder of a version's MLflow run


@dataclass(frozen=True)
class Judged:
    """What was read and what it says."""

    reference: Reference | None
    observed: Observed
    cuts: dict[str, list[Cuts]]
    courses: dict[str, Course]
    signals: list[Signal]


def judged(project: Project, recipe: Recipe, reign: Reign, now: datetime) -> Judged:
    """The signals as of `now`. Writes nothing but what it would fetch or count again: the champion's reference, and counts."""
    name, spec = recipe.name, recipe.monitor
    reference = champions_reference(project, name, reign.version)
    cuts = {} if reference is None else cuts_of(reference)
    first = now - timedelta(days=PAGE_DAYS)
    since = first if reign.since is None else min(first, reign.since)
    observed = observe(project, name, reign, cuts, since, now, spec.channels)
    found = courses(observed, cuts)
    past = history.read(paths.history_file(project, name))
    before = history.alarms_since(past, reign.version, reign.promoted, spec.level)
    signals = [
        *judge_tests(reference, observed, cuts, found, spec, reign, before),
        judge_age(spec, reign, now),
        judge_volume(spec, observed, reign, now),
    ]
    return Judged(reference, observed, cuts, found, signals)


def look_at(project: Project, recipe: Recipe, reign: Reign, now: datetime, drift: bool) -> dict[str, Any]:
    """The work of `aeops.monitoring.check.look`, once there is a champion."""
    name, found = recipe.name, judged(project, recipe, reign, now)
    past = history.add(paths.history_file(project, name), now, name, reign.version, reign.promoted, found.signals)
    told = verdict(project, recipe, now, reign, [one.plain() for one in found.signals])
    last = last_verdict(project, name)
    is_new = drift or drift_is_due(recipe.monitor, last, told)
    if is_new:
        with ThreadPoolExecutor(1) as beside:  # Evidently's process takes ten seconds, MLflow three to be imported
            report = beside.submit(draw_drift, project, recipe, reign, found.reference, now)
            store = open_store(project)
        told["drift"] = report.result()
    else:
        told["drift"] = (last or {}).get("drift")
    known = retrains.read(project, name)
    scene = Scene(told, recipe.about, recipe.monitor, reign, found.observed, found.cuts, found.courses, past, known)
    write_page(paths.page_file(project, name), scene)
    write_json(paths.verdict_file(project, name), told)
    if is_new:
        keep(store, project, name, reign.version)
    return told


# ---------------------------------------------------------------- the reference


def champions_reference(project: Project, recipe: str, version: str) -> Reference | None:
    """The reference that the version was registered with, fetched once; None where it has none."""
    place = paths.folder(project, recipe) / f"reference-{version}.parquet"
    if not place.is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        for old in place.parent.glob("reference-*.parquet"):
            old.unlink()
        fetch_reference(project, recipe, version, place)
    return read_reference(place) if place.is_file() else None


def fetch_reference(project: Project, recipe: str, version: str, place: Path) -> None:
    store = open_store(project)
    run, kept = store.version(recipe, version).run_id, f"{KEPT}/reference.parquet"
    if kept in store.files(run, KEPT):
        with tempfile.TemporaryDirectory(dir=place.parent) as folder:
            replace_file(store.download_file(run, kept, Path(folder)), place)


# ---------------------------------------------------------------- Evidently, and what is kept


def draw_drift(
    project: Project, recipe: Recipe, reign: Reign, reference: Reference | None, now: datetime
) -> dict[str, Any] | None:
    """drift.html, drawn in a process of its own; None, and no such file, where there is nothing to compare."""
    name = recipe.name
    file = paths.drift_file(project, name)
    table = recent(project, name, reign, now, RECENT_DAYS, RECENT_ROWS, recipe.monitor.channels)
    if reference is None or table.num_rows == 0:
        file.unlink(missing_ok=True)
        return None
    with tempfile.TemporaryDirectory(prefix="ae-drift-") as folder:
        given = Path(folder) / "recent.parquet"
        pq.write_table(table, given)
        calibration = paths.folder(project, name) / f"reference-{reign.version}.parquet"
        arguments = ["--reference", str(calibration), "--recent", str(given), "--out", str(file)]
        log = project.logs / f"drift-{name}.log"
        run_module(["aeops.monitoring.drift", *arguments], root=project.root, home=project.home, log=log)
    return {"as_of": now.isoformat(), "rows": table.num_rows, "days": RECENT_DAYS}


def keep(store: Store, project: Project, recipe: str, version: str) -> None:
    """Verdict, page and report with the champion's MLflow run, in place of the last ones."""
    files = [place(project, recipe) for place in (paths.verdict_file, paths.page_file, paths.drift_file)]
    store.log_files(store.version(recipe, version).run_id, [file for file in files if file.is_file()], KEPT)
