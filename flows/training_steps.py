"""Steps of the training flow: Prefect tasks that start the heavy work in other processes and pass on plain values."""

import functools
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import get_client, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.runtime import flow_run

from aeops.data import dvc
from aeops.data.listed_recipes import list_recipe
from aeops.errors import InfrastructureError, TransientError, UsageError
from aeops.evaluation.before_training import require_enough_samples, require_named_files, require_whole_seed_record
from aeops.files import file_sha256
from aeops.gate.documents import EvidenceDocument, compared_champion, gate_warnings, is_accepted
from aeops.gate.evidence import read_evidence, read_verdict
from aeops.machine.child_process import PreloadedProcess, run_module
from aeops.machine.process_identity import this_process
from aeops.machine.progress import CountBar, ProgressBar, ProgressFollower, finished_rows
from aeops.machine.run_watch import closing_step
from aeops.machine.stored_json import read_json
from aeops.project import Project, find_project
from aeops.provenance.lineage import RECORDED_FILES, collect_lineage, git_diff, unknown_code_message
from aeops.provenance.run_summary import RunSummary, quarantine_counts
from aeops.recipe.reader import Recipe, load_recipe, read_unchanged, require_unchanged
from aeops.registry import ledger
from aeops.registry.aliases import CHALLENGER
from aeops.registry.killed_runs import PROCESS_TAG, close_own_runs
from aeops.registry.store import Store, open_store
from aeops.registry.trust import find_champion
from aeops.registry.version_state import describe_state
from aeops.report.headline import headline
from aeops.report.model_card import model_card
from aeops.report.report_page import write_report
from aeops.report.summary import metric_rows, verdict_markdown

# The recipe of the run under way: a context variable, since Prefect passes the context on to its tasks.
_recipe_of_run: ContextVar[Recipe | None] = ContextVar("recipe_of_run", default=None)


def is_worth_retrying(_task: Any, _run: Any, state: Any) -> bool:
    """Return True for a failure that may pass by itself; a retry helps against nothing else."""
    return isinstance(state.result(raise_on_failure=False), TransientError)


def pipeline_step(name: str, retries: int = 0) -> Callable[[Callable[..., Any]], Any]:
    """Decorate a function as a Prefect task.

    The task is never cached: a cached task would skip the files it writes. DVC decides what is run again.

    Args:
        name: shown on Prefect's page and in the run's table of durations.
        retries: after failures that may pass by themselves only.
    """

    def decorate_step(function: Callable[..., Any]) -> Any:
        @functools.wraps(function)
        def run_step(*arguments: Any, **options: Any) -> Any:
            print(f"{name} ...", file=sys.stderr, flush=True)
            return function(*arguments, **options)

        return task(
            name=name,
            task_run_name=f"{name} {{recipe}}",
            retries=retries,
            retry_delay_seconds=[2.0, 10.0][:retries] or None,
            retry_condition_fn=is_worth_retrying,
            cache_policy=NO_CACHE,
        )(run_step)

    return decorate_step


@contextmanager
def pinned_recipe(project: Project, recipe: str) -> Iterator[Recipe]:
    """Read and check the recipe once for every step inside; a step fails where its file was changed meanwhile.

    Not before the workspace is held: while a run waits for that, for hours maybe, its recipe may be changed.

    Raises:
        UsageError: no such recipe, every mistake in it, or params.yaml is no YAML.
        DataError: a file that its studies read is missing, or another one; or its record of seeds is damaged.
    """
    checked = load_recipe(project, recipe, with_keys=True)
    dvc.require_path_without_braces(project)
    list_recipe(project, checked)
    require_named_files(checked, project)
    require_whole_seed_record(checked, project)
    token = _recipe_of_run.set(checked)
    try:
        yield checked
    finally:
        _recipe_of_run.reset(token)


def load_context(recipe: str) -> tuple[Project, Recipe]:
    """Return this process's project and its recipe of that name.

    Raises:
        DataError: the recipe's file was changed since `pinned_recipe`.
    """
    project, checked = find_project(), _recipe_of_run.get()
    if checked is None or checked.name != recipe:
        return project, load_recipe(project, recipe)
    require_unchanged(project, checked)
    return project, checked


def start_stage(project: Project, stage: str, *arguments: str) -> None:
    run_module([f"aeops.stages.{stage}", *arguments], root=project.root, home=project.home, log=stage_log(project, stage))


def stage_log(project: Project, stage: str) -> Path:
    return project.logs / f"{stage}.log"


def stage_ahead(stage: str) -> PreloadedProcess:
    """Prepare the process of a stage that imports for seconds; started early, it imports during the steps before it."""
    project = find_project()
    return PreloadedProcess(f"aeops.stages.{stage}", root=project.root, home=project.home, log=stage_log(project, stage))


def report_unknown_code(project: Project) -> None:
    """Say what of its code this run cannot record, before anything is trained."""
    if message := unknown_code_message(project):
        print(f"note: {message}", file=sys.stderr, flush=True)


@pipeline_step("ingest", retries=1)
def ingest_source(recipe: str) -> None:
    """Ingest the source -> .ae/incoming/<dataset>: shards and an index with each sample's statistics."""
    project, checked = load_context(recipe)
    incoming = project.incoming(checked.data.dataset)
    arguments = ["aeops.stages.ingest", "--recipe", str(project.recipe_file(recipe)), "--out", str(incoming)]
    with CountBar(project.ingest_progress(recipe)) as bar:
        run_module(arguments, root=project.root, home=project.home, log=stage_log(project, "ingest"), on_poll=bar.show)


@pipeline_step("validate")
def validate_incoming(recipe: str, stage: PreloadedProcess) -> None:
    """Validate .ae/incoming/<dataset> -> data/<dataset> with its receipt; bad rows go to quarantine, a bad set stops the run.

    An incoming dataset that was accepted serves nothing more and is removed; one that was refused stays, to be looked at.
    """
    project, checked = load_context(recipe)
    incoming = project.incoming(checked.data.dataset)
    try:
        stage.run(["--recipe", str(project.recipe_file(recipe)), "--incoming", str(incoming)])
        shutil.rmtree(incoming)
    finally:
        pages = project.data_docs / checked.data.dataset / "index.html"
        if pages.is_file():
            create_link_artifact(pages.as_uri(), "Data Docs", key=f"{recipe}-data-docs")


@pipeline_step("version", retries=2)
def version_dataset(recipe: str) -> dict[str, str]:
    """Add data/<dataset> to data.dvc and the DVC remote; return the identifiers of this version of the data."""
    project, checked = load_context(recipe)
    md5 = dvc.add_dataset(project, checked.data.dataset)
    content = read_json(project.dataset(checked.data.dataset) / "receipt.json")["content_sha256"]
    return {"dataset": checked.data.dataset, "content_sha256": content, "dvc_md5": md5}


@pipeline_step("trained", retries=1)
def find_trained_data(recipe: str) -> dict[str, str]:
    """Return the identifiers of the data, as `version_dataset` does, that the recipe's training in artifacts/ was made of.

    Raises:
        UsageError: the training is not that of the recipe, the data and the code as they are, or not the champion's.
    """
    project, checked = load_context(recipe)
    command = f"type `ae run {recipe}`, which trains where it has to"
    if not dvc.is_trained(project, recipe):
        raise UsageError(
            f"{recipe} has no training of the recipe, the data and the code as they are now, and a recalibration trains nothing: "
            f"{command}"
        )
    champion = find_champion(project, open_store(project), recipe)
    weights_sha256 = file_sha256(project.artifacts(recipe) / "training" / "weights.safetensors")
    if champion is not None and champion.tags.get("weights_sha256") != weights_sha256:
        raise UsageError(
            f"the last training of {recipe} is not that of its champion, version {champion.version}: a recalibration keeps the "
            f"champion's weights. To bring in a new champion, {command}"
        )
    require_enough_samples(checked, project, project.artifacts(recipe) / "prepared")
    content = read_json(project.dataset(checked.data.dataset) / "receipt.json")["content_sha256"]
    return {
        "dataset": checked.data.dataset,
        "content_sha256": content,
        "dvc_md5": dvc.dataset_hash(project, checked.data.dataset),
    }


@pipeline_step("prepare")
def prepare_samples(recipe: str) -> None:
    """Prepare data/<dataset> -> prepared/, and check that these samples are enough for all that follows."""
    project, checked = load_context(recipe)
    dvc.reproduce_stage(project, "prepare", recipe)
    require_enough_samples(checked, project, project.artifacts(recipe) / "prepared")


@pipeline_step("train", retries=1)
def train_model(recipe: str, run: str) -> None:
    """Train prepared/ -> training/ while MLflow shows the loss curves; a retry resumes at the last checkpoint."""
    project, checked = load_context(recipe)
    store = open_store(project)
    progress_follower = ProgressFollower(project.training(recipe) / "progress.jsonl")
    with ProgressBar(checked.fit.train.total_epochs) as progress_bar:

        def report_progress() -> None:
            rows = progress_follower.new_rows()
            progress_bar.show(rows)
            store.log_curves(run, rows)

        was_trained = dvc.reproduce_stage(project, "train", recipe, on_poll=report_progress)
    if not was_trained:
        store.log_curves(run, finished_rows(project.artifacts(recipe) / "training" / "history.csv"))


@pipeline_step("calibrate", retries=1)
def calibrate_model(recipe: str) -> None:
    """Calibrate training/ -> bundle/: score, threshold and export. A changed score or threshold starts here."""
    project, _ = load_context(recipe)
    dvc.reproduce_stage(project, "calibrate", recipe)


@pipeline_step("evaluate")
def evaluate_model(recipe: str) -> None:
    """Evaluate bundle/ on the test samples -> report/, and show the metrics as a table on the run's page."""
    project, _ = load_context(recipe)
    dvc.reproduce_stage(project, "evaluate", recipe)
    metrics = read_json(project.artifacts(recipe) / "report" / "metrics.json")
    create_table_artifact(metric_rows(metrics), key=f"{recipe}-metrics", description=f"{recipe}: {headline(metrics)}")


@pipeline_step("gate")
def apply_gate(recipe: str) -> None:
    """Apply the gate to report/ -> verdict.json; a refusal is a result, not a failure."""
    project, _ = load_context(recipe)
    dvc.reproduce_stage(project, "gate", recipe)
    verdict = read_verdict(project.artifacts(recipe) / "verdict.json")
    create_markdown_artifact(verdict_markdown(verdict), key=f"{recipe}-verdict", description=f"{recipe}: {verdict['verdict']}")


def evidence_file(project: Project, recipe: str) -> Path:
    return project.reports(recipe) / "evidence.json"


def read_decided_evidence(project: Project, recipe: str, evidence: dict[str, str]) -> EvidenceDocument:
    """Return evidence.json of this run.

    Args:
        evidence: what the ledger records of it.

    Raises:
        DataError: it was changed since the run wrote it.
    """
    return read_evidence(evidence_file(project, recipe), evidence["sha256"])


@pipeline_step("track", retries=2)
def open_mlflow_run(recipe: str, data: dict[str, str]) -> str:
    """Open the MLflow run of this pipeline run and return its id."""
    project, checked = load_context(recipe)
    run = open_store(project).start_run(
        recipe,
        tags=collect_lineage(project, checked) | {PROCESS_TAG: this_process().text},
        params=read_unchanged(project, checked),
        dataset=data,
    )
    create_link_artifact(open_store(project).run_url(run), "MLflow run", key=f"{recipe}-mlflow-run")
    return run


@contextmanager
def mlflow_run(recipe: str, data: dict[str, str]) -> Iterator[str]:
    """Open an MLflow run; finish it after the steps inside, or mark it as failed with them."""
    store = open_store(find_project())
    with closing_step(lambda: close_own_runs(store)):  # also one that MLflow has and whose id has not come back
        run = open_mlflow_run(recipe, data)
        try:
            yield run
        except BaseException:
            with suppress(InfrastructureError):  # the step's own error is raised, even if it came from MLflow
                store.finish_run(run, "FAILED")
            raise
        store.finish_run(run, "FINISHED")


@pipeline_step("register", retries=2)
def register_version(recipe: str, run: str, data: dict[str, str], evidence: dict[str, str]) -> str:
    """Register bundle/ with its evidence as a version with the alias challenger; the same bundle twice is one version.

    The evidence is logged first, so that every version has its evidence, even if this step was interrupted.

    Returns:
        The number of the version.
    """
    project, checked = load_context(recipe)
    store, artifacts = open_store(project), project.artifacts(recipe)
    dvc.push_outputs(project, recipe)
    metadata = collect_lineage(project, checked)
    metrics, document = read_json(artifacts / "report" / "metrics.json"), read_decided_evidence(project, recipe, evidence)
    raw_recipe = read_unchanged(project, checked)
    report = write_report(
        project.reports(recipe) / "report.html",
        recipe=raw_recipe,
        report=artifacts / "report",
        bundle=artifacts / "bundle",
        training=artifacts / "training",
        verdict=document["gate"],
        comparison=document["comparison"],
        validation=read_json(project.validation(data["dataset"]) / "validation.json"),
        lineage=metadata | {"mlflow.run_id": run},
        timings=dict(step_seconds()),
    )
    log_evidence_files(project, store, recipe, run, data, report, metrics)
    if "git.diff_sha256" in metadata:
        log_worktree_diff(project, store, recipe, run)
    studies = read_json(artifacts / "report" / "studies.json")
    description = model_card(raw_recipe, metrics, studies, document["gate"], document["comparison"], metadata)
    tags = metadata | comparison_tags(document, evidence)
    version = store.register(run, recipe, artifacts / "bundle", tags=tags, description=description)
    store.set_alias(recipe, CHALLENGER, version)
    return version


def comparison_tags(document: EvidenceDocument, evidence: dict[str, str]) -> dict[str, str]:
    """Build a version's tags about its evidence and the person who started the run.

    Args:
        document: the content of evidence.json.
        evidence: what the ledger records of it.
    """
    return {
        "verdict": "accepted" if is_accepted(document) else "refused",
        "started_by": ledger.current_actor(),
        "comparison": evidence["verdict"],
        "comparison.champion": compared_champion(document) or "none",
        "comparison.judged": str(document["comparison"]["holdout"]["judged"]),
        "evidence.sha256": evidence["sha256"],
        "holdout_sha256": evidence["holdout_sha256"],
    }


def log_evidence_files(
    project: Project, store: Store, recipe: str, run: str, data: dict[str, str], report: Path, metrics: dict[str, Any]
) -> None:
    """Log the run's metrics and every file that a person, or a rebuild, needs to evaluate the version."""
    artifacts = project.artifacts(recipe)
    store.log_metrics(run, metrics)
    store.log_files(run, [report, artifacts / "verdict.json", evidence_file(project, recipe)])
    store.log_files(run, [artifacts / "report" / name for name in ("metrics.json", "studies.json", "figures")])
    store.log_files(run, [artifacts / "report" / "reference.parquet"], "monitoring")
    store.log_files(run, [project.validation(data["dataset"]) / "validation.json"], "validation")
    store.log_files(run, [project.dataset(data["dataset"]) / "receipt.json"], "validation")
    rebuild_files = [project.root / name for name in RECORDED_FILES if (project.root / name).is_file()]
    rebuild_files += [project.recipe_file(recipe), artifacts / "training" / "trail.csv"]
    store.log_files(run, rebuild_files, "rebuild")


def log_worktree_diff(project: Project, store: Store, recipe: str, run: str) -> None:
    """Log the changes of code that were not committed, as a patch."""
    patch = project.reports(recipe) / "worktree.diff"
    patch.write_bytes(git_diff(project))
    store.log_files(run, [patch], "rebuild")


def step_seconds() -> list[tuple[str, float]]:
    """Return each finished step of this flow run with its duration in seconds, in order, as Prefect recorded them."""
    flow_run_filter = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(str(flow_run.id))]))
    with get_client(sync_client=True) as client:
        task_runs = client.read_task_runs(flow_run_filter=flow_run_filter)
    finished_steps = []
    for run in task_runs:
        if run.start_time and run.end_time:
            finished_steps.append((run.start_time, run.name.split(" ")[0], run.total_run_time.total_seconds()))
    finished_steps.sort(key=lambda row: row[0])
    return [(name, seconds) for _, name, seconds in finished_steps]


def summarise_run(
    checked: Recipe, run: str, data: dict[str, str], version: str, evidence: dict[str, str], reasons: list[str]
) -> RunSummary:
    """Summarise a run for a person."""
    project, recipe = find_project(), checked.name
    store, artifacts = open_store(project), project.artifacts(recipe)
    document = read_decided_evidence(project, recipe, evidence)
    version_info = store.version(recipe, version)
    summary: RunSummary = {
        "changed": True,
        "recipe": recipe,
        "data": data,
        "metrics": read_json(artifacts / "report" / "metrics.json"),
        "verdict": version_info.tags["verdict"],
        "reasons": reasons,
        "warnings": gate_warnings(document["gate"]),
        "comparison": document["comparison"],
        "version": version,
        "aliases": list(version_info.aliases),
        "state": describe_state(recipe, version_info, ledger.read_entries(project, recipe)),
        "bundle_sha256": version_info.tags["bundle_sha256"],
        "run_url": store.run_url(run),
        "report": str(project.reports(recipe) / "report.html"),
        "seconds": step_seconds(),
    }
    if quarantine := quarantine_counts(read_json(project.validation(data["dataset"]) / "validation.json", "rows")):
        summary["quarantine"] = quarantine
    return summary
