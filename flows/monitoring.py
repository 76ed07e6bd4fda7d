"""Watching a champion, and starting its retrain: a look, what follows from it, and a page.

By hand: `ae monitor digits`, which starts nothing. On a schedule: this flow is a deployment's entrypoint. The look itself is a
process of its own (`python -m aeops.monitoring`), so this one stays light.
"""

from datetime import UTC, datetime
from typing import Any

from prefect import State, flow, get_client
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound

from aeops.errors import UsageError
from aeops.files import write_json
from aeops.machine.child_process import run_module
from aeops.machine.lock import file_lock
from aeops.monitoring import paths, retrains, verdict_text
from aeops.monitoring.decision import decide_retrain
from aeops.monitoring.retrains import RetrainRecord, format_time
from aeops.monitoring.verdict import MonitoringVerdict, read_monitoring_verdict
from aeops.project import Project, find_project
from aeops.recipe.reader import Recipe, load_recipe
from flows import runs
from flows.steps import context, step


@flow(name="monitoring", flow_run_name="monitor {recipe}")
def monitoring(recipe: str, now: datetime | None = None) -> dict[str, Any] | State[dict[str, Any]]:
    """Looks at the champion of `recipe`; starts its retrain where its signals, its cooldown and its budget allow it.

    Args:
        now: the moment of the look, with its zone; None: the clock. A simulation gives it.

    Returns:
        What verdict.json holds.

    Raises:
        AeError: by kind; no retrain is then started that was not started before.
    """
    load_recipe(find_project(), recipe)  # every mistake of it is told before anything starts
    runs.name_process()
    moment = datetime.now(UTC) if now is None else now
    if moment.utcoffset() is None:
        raise UsageError(f"now is {moment}; a moment with a zone is allowed, such as 2026-11-24T14:30+00:00")
    look(recipe, moment)
    found = act(recipe, moment)
    return runs.ended(dict(found), verdict_text.format_line(found))


@step(retries=1)
def look(recipe: str, now: datetime) -> None:
    """Predictions -> .ae/monitoring/<recipe>/: verdict.json, history.parquet, page.html, drift.html."""
    project = find_project()
    arguments = ["aeops.monitoring", "--recipe", recipe, "--as-of", now.isoformat()]
    run_module(arguments, root=project.root, home=project.home, log=project.logs / f"monitoring-{recipe}.log")


@step(retries=2)
def act(recipe: str, now: datetime) -> MonitoringVerdict:
    """Starts the retrain that is due, or one that a kill left begun; returns verdict.json with what became of it."""
    project, checked = context(recipe)
    found = read_monitoring_verdict(paths.verdict_file(project, recipe))
    settle(project, checked, found, now)
    tell(project, recipe, found)
    return found


def settle(project: Project, recipe: Recipe, found: MonitoringVerdict, now: datetime) -> None:
    """What the verdict asks for, done and written into it; one process at a time."""
    name, decision = recipe.name, found["decision"]
    with file_lock(project, f"retrains-{name}"):
        if not has_deployment(name):
            if decision["retrain"]:
                decision["why"].append(f"there is no deployment {deployment_name(name)} to start: type `{decision['command']}`")
        elif due := due_retrain(project, recipe, found, now):
            decision["id"], decision["flow_run"] = due.id, start(project, name, due)
            if due.time != format_time(now):
                decision["why"].append(f"the retrain that was begun on {due.time[:16]} was cut short: it is started now, once")
        write_json(paths.verdict_file(project, name), found)


def due_retrain(project: Project, recipe: Recipe, found: MonitoringVerdict, now: datetime) -> RetrainRecord | None:
    """The retrain to start: one that a kill left begun, else a new one where it is due; its line is then on the disk.

    Asked again under the lock: another look may have started one since this verdict was written.
    """
    known = retrains.read_retrains(project, recipe.name)
    if left := retrains.find_unfinished_retrain(known):
        return left
    verdicts = {one["name"]: one["verdict"] for one in found["signals"]}
    decision = decide_retrain(recipe.name, recipe.monitor, verdicts, known, now)
    found["decision"]["retrain"], found["decision"]["why"] = decision.is_due, list(decision.reasons)
    if found["version"] is None or not decision.is_due:
        return None
    return retrains.begin_retrain(project, recipe.name, now, found["version"], decision.alarms)


def deployment_name(recipe: str) -> str:
    return f"training/retrain-{recipe}"


def has_deployment(recipe: str) -> bool:
    with get_client(sync_client=True) as client:
        try:
            client.read_deployment_by_name(deployment_name(recipe))
        except ObjectNotFound:
            return False
    return True


def start(project: Project, recipe: str, retrain: RetrainRecord) -> str:
    """Starts the retrain under its own key, which Prefect starts once, and writes down its flow run."""
    made: Any = run_deployment(
        deployment_name(recipe),
        parameters={"recipe": recipe},
        timeout=0,
        idempotency_key=retrain.id,
        as_subflow=False,  # it outlives this run
    )
    retrains.finish_retrain(project, recipe, retrain, str(made.id))
    return str(made.id)


def tell(project: Project, recipe: str, found: MonitoringVerdict) -> None:
    """The verdict and links to the pages, on the run's page."""
    create_markdown_artifact(
        verdict_text.format_markdown(found), key=f"{recipe}-monitoring", description=verdict_text.format_line(found)
    )
    pages = {"page": paths.page_file(project, recipe), "drift": paths.drift_file(project, recipe)}
    for name, file in pages.items():
        if found["version"] is not None and file.is_file():
            create_link_artifact(file.as_uri(), f"{recipe}: {name}", key=f"{recipe}-monitoring-{name}")
