"""The monitoring flow: check a champion, start its retrain if it is due, and publish the verdict.

By hand: `ae monitor digits`, which starts nothing. On a schedule: this flow is a deployment's entrypoint. The check itself runs
in a separate process (`python -m aeops.monitoring`), so this one stays light.
"""

from datetime import UTC, datetime
from typing import Any

from prefect import State, get_client
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound

from aeops.alerts.receivers import RETRY_GAP, document_link, retry_quietly
from aeops.errors import UsageError
from aeops.files import write_json
from aeops.machine.child_process import run_module
from aeops.machine.lock import file_lock
from aeops.machine.step_report import say_result
from aeops.monitoring import paths, retrains, verdict_text
from aeops.monitoring.decision import decide_retrain
from aeops.monitoring.retrains import RetrainRecord, format_time
from aeops.monitoring.run_notices import tell_alarms
from aeops.monitoring.verdict import MonitoringVerdict, read_monitoring_verdict
from aeops.project import Project, find_project
from aeops.recipe.reader import Recipe, load_recipe
from flows import flow_run
from flows.pipeline_step import pipeline_step
from flows.training_steps import load_context

PAGE_PATHS = {"drift": "drift", "page": "monitoring"}  # artifact -> last part of its address on the page of `ae up`
DESCRIPTIONS = {"drift": "the last 7 days beside the calibration samples", "page": "the signals over the last months"}


@flow_run.pipeline_flow("monitoring", "monitor")
def monitoring(recipe: str, now: datetime | None = None) -> State[dict[str, Any]]:
    """Check the champion of `recipe`; start its retrain if its signals, its cooldown and its budget allow it.

    Args:
        now: the time of the check, with its zone; None for the clock's. A simulation sets it.

    Returns:
        The content of verdict.json.

    Raises:
        UsageError: `now` has no time zone.
        AeError: by kind; then this run has started no retrain.
    """
    load_recipe(find_project(), recipe)  # reports every mistake in it before anything starts
    flow_run.name_process()
    check_time = datetime.now(UTC)
    if now is not None:
        check_time = now
    if check_time.utcoffset() is None:
        raise UsageError(f"expected `now` with a time zone, such as 2026-11-24T14:30+00:00, got {check_time}")
    check_champion(recipe, check_time)
    document = start_due_retrain(recipe, check_time)
    publish_artifacts(find_project(), recipe, document)
    tell_alarms(find_project(), document)
    retry_quietly(find_project(), RETRY_GAP)
    return flow_run.flow_result(dict(document), verdict_text.format_line(document))


@pipeline_step("look", "compares what was scored with the champion's calibration", retries=1)
def check_champion(recipe: str, now: datetime) -> None:
    """Check predictions -> .ae/monitoring/<recipe>/: verdict.json, history.parquet, page.html, drift.html."""
    project = find_project()
    arguments = ["aeops.monitoring", "--recipe", recipe, "--as-of", now.isoformat()]
    run_module(arguments, root=project.root, home=project.home, log=project.logs / f"monitoring-{recipe}.log")
    signals = read_monitoring_verdict(paths.verdict_file(project, recipe))["signals"]
    samples = max((signal.get("samples") or 0 for signal in signals), default=0)
    say_result(f"{samples:,} samples since the promotion")


@pipeline_step("act", "starts the retrain that alarms ask for", retries=2)
def start_due_retrain(recipe: str, now: datetime) -> MonitoringVerdict:
    """Start the retrain that is due, or one that a kill interrupted; return verdict.json with the result."""
    project, checked = load_context(recipe)
    document = read_monitoring_verdict(paths.verdict_file(project, recipe))
    apply_decision(project, checked, document, now)
    say_result(verdict_text.format_line(document))
    return document


def apply_decision(project: Project, recipe: Recipe, document: MonitoringVerdict, now: datetime) -> None:
    """Do what the verdict requires and write the result into it; one process at a time."""
    name, decision = recipe.name, document["decision"]
    with file_lock(project, f"retrains-{name}"):
        if not has_deployment(name):
            if decision["retrain"]:
                decision["why"].append(f"there is no deployment {deployment_name(name)} to start: type `{decision['command']}`")
        elif retrain := due_retrain(project, recipe, document, now):
            decision["id"], decision["flow_run"] = retrain.id, start_retrain(project, name, retrain)
            if retrain.time != format_time(now):
                decision["why"].append(f"the retrain of {retrain.time[:16]} was interrupted: it is started now, once")
        write_json(paths.verdict_file(project, name), document)


def due_retrain(project: Project, recipe: Recipe, document: MonitoringVerdict, now: datetime) -> RetrainRecord | None:
    """Return the retrain to start: one that a kill interrupted, else a new one if it is due, which is then on the disk.

    The decision is repeated under the lock, as another run may have started a retrain since this verdict was written.
    """
    previous_retrains = retrains.read_retrains(project, recipe.name)
    if unfinished_retrain := retrains.find_unfinished_retrain(previous_retrains):
        return unfinished_retrain
    verdicts = {signal["name"]: signal["verdict"] for signal in document["signals"]}
    decision = decide_retrain(recipe.name, recipe.monitor, verdicts, previous_retrains, now)
    document["decision"]["retrain"], document["decision"]["why"] = decision.is_due, list(decision.reasons)
    if document["version"] is None or not decision.is_due:
        return None
    return retrains.begin_retrain(project, recipe.name, now, document["version"], decision.alarms)


def deployment_name(recipe: str) -> str:
    return f"training/retrain-{recipe}"


def has_deployment(recipe: str) -> bool:
    with get_client(sync_client=True) as client:
        try:
            client.read_deployment_by_name(deployment_name(recipe))
        except ObjectNotFound:
            return False
    return True


def start_retrain(project: Project, recipe: str, retrain: RetrainRecord) -> str:
    """Start the retrain under its own key, for which Prefect starts one run only, and record its flow run."""
    started_run: Any = run_deployment(
        deployment_name(recipe),
        parameters={"recipe": recipe},
        timeout=0,
        idempotency_key=retrain.id,
        as_subflow=False,  # it outlives this run
    )
    retrains.finish_retrain(project, recipe, retrain, str(started_run.id))
    return str(started_run.id)


def publish_artifacts(project: Project, recipe: str, document: MonitoringVerdict) -> None:
    """Show the verdict and links to the pages on the run's page, where the last one stands first."""
    pages = {"drift": paths.drift_file(project, recipe), "page": paths.page_file(project, recipe)}
    for name, file in pages.items():
        if document["version"] is not None and file.is_file():
            link = document_link(project, f"r/{recipe}/{PAGE_PATHS[name]}", file)
            create_link_artifact(link, f"{recipe}: {name}", key=f"{recipe}-monitoring-{name}", description=DESCRIPTIONS[name])
    create_markdown_artifact(
        verdict_text.format_markdown(document), key=f"{recipe}-monitoring", description=verdict_text.format_line(document)
    )
