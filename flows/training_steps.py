"""Steps of the training flow: Prefect tasks that start the heavy work in other processes and pass on plain values."""

import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import get_client
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.runtime import flow_run

from aeops.alerts.receivers import document_link, page_link
from aeops.data import dvc
from aeops.data.listed_recipes import list_recipe
from aeops.data.near_copies_text import warning_text
from aeops.data.pipeline_files import write_pipeline_files
from aeops.data.suite import require_known_severities
from aeops.errors import UsageError
from aeops.evaluation.before_training import require_enough_samples, require_named_files, require_whole_seed_record
from aeops.files import file_sha256
from aeops.gate.documents import EvidenceDocument, gate_warnings
from aeops.gate.evidence import read_evidence, read_verdict
from aeops.machine.child_process import PreloadedProcess, run_module
from aeops.machine.environment_lock import write_environment_lock
from aeops.machine.lock import RunUse
from aeops.machine.progress import BatchFollower, CountFollower, ProgressFollower, finished_rows
from aeops.machine.step_report import say_progress, say_result
from aeops.machine.stored_json import read_json
from aeops.places.open_place import set_place
from aeops.project import Project, find_project
from aeops.provenance.lineage import unknown_code_message
from aeops.provenance.run_summary import QuarantineCounts, RunSummary, describe_quarantine, quarantine_counts
from aeops.recipe.reader import Recipe, load_recipe, require_unchanged
from aeops.registry import ledger
from aeops.registry.store import open_store
from aeops.registry.trust import find_champion
from aeops.registry.version_state import describe_state
from aeops.report.headline import headline
from aeops.report.summary import metric_rows, result_line, result_markdown, verdict_markdown
from flows.pipeline_step import pipeline_step

# The recipe of the run under way: a context variable, since Prefect passes the context on to its tasks.
_recipe_of_run: ContextVar[Recipe | None] = ContextVar("recipe_of_run", default=None)


@contextmanager
def pinned_recipe(project: Project, use: RunUse) -> Iterator[Recipe]:
    """Read and check the recipe once for every step inside; a step fails where its file was changed meanwhile.

    Not before what it uses is held: while a run waits for that, for hours maybe, its recipe may be changed.

    Raises:
        UsageError: no such recipe, every mistake in it, another dataset than the run holds, or params.yaml is no YAML.
        DataError: a file that its studies read is missing, or another one; or its record of seeds is damaged.
    """
    checked = load_recipe(project, use.recipe, with_keys=True)
    if checked.data.dataset != use.dataset:
        raise UsageError(
            f"recipes/{use.recipe}.yaml has another dataset since this run has waited for data/{use.dataset}: type "
            f"`ae run {use.recipe}` again"
        )
    set_place(project, None)
    dvc.require_path_without_braces(project)
    write_environment_lock(project)
    list_recipe(project, checked)
    write_pipeline_files(project)
    require_known_severities(checked)
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


def stage_log(project: Project, stage: str, recipe: str) -> Path:
    return project.logs / f"{stage}-{recipe}.log"


def stage_ahead(stage: str, recipe: str) -> PreloadedProcess:
    """Prepare the process of a stage that imports for seconds; started early, it imports during the steps before it."""
    project = find_project()
    return PreloadedProcess(f"aeops.stages.{stage}", root=project.root, home=project.home, log=stage_log(project, stage, recipe))


def report_unknown_code(project: Project) -> None:
    """Say what of its code this run cannot record, before anything is trained."""
    if message := unknown_code_message(project):
        print(f"note: {message}", file=sys.stderr, flush=True)


@pipeline_step("ingest", "reads the source", retries=1)
def ingest_source(recipe: str) -> None:
    """Ingest the source -> .ae/incoming/<dataset>: shards and an index with each sample's statistics."""
    project, checked = load_context(recipe)
    incoming = project.incoming(checked.data.dataset)
    arguments = ["aeops.stages.ingest", "--recipe", str(project.recipe_file(recipe)), "--out", str(incoming)]
    follower = CountFollower(project.ingest_progress(recipe))

    def report_progress() -> None:
        if place := follower.describe():
            say_progress(place)

    run_module(arguments, root=project.root, home=project.home, log=stage_log(project, "ingest", recipe), on_poll=report_progress)
    say_result(ingest_text(read_json(incoming / "dataset.json", "rows")))


def ingest_text(document: Mapping[str, Any]) -> str:
    """Return how many samples the source has, and what has changed since the last accepted ingest; of an incoming dataset.json.

    >>> ingest_text({"rows": 5020, "growth": {"read": 23, "counts": {"new": 20, "replaced": 3, "unread": 4997}}})
    '5,020 samples: 23 read, 20 new, 3 replaced'
    """
    text = f"{document['rows']:,} samples"
    if growth := document.get("growth"):
        counts = [f"{count:,} {name.replace('_', ' ')}" for name, count in growth["counts"].items() if name != "unread"]
        counts.sort(key=lambda part: not part.endswith(" new"))
        text += f": {growth['read']:,} read, {', '.join(counts) or 'nothing new'}"
    return text


@pipeline_step("validate", "checks every sample and the set as a whole")
def validate_incoming(recipe: str, stage: PreloadedProcess) -> None:
    """Validate .ae/incoming/<dataset> -> data/<dataset> with its receipt; bad rows go to quarantine, a bad set stops the run.

    An incoming dataset that was accepted serves nothing more and is removed; one that was refused stays, to be looked at.
    """
    project, checked = load_context(recipe)
    incoming = project.incoming(checked.data.dataset)
    try:
        stage.run(["--recipe", str(project.recipe_file(recipe)), "--incoming", str(incoming)])
        validation = read_json(project.validation(checked.data.dataset) / "validation.json", "rows", "warnings")
        counts = quarantine_counts(validation)
        aside = "nothing set aside" if counts is None else f"set aside {describe_quarantine(counts)}"
        told = "".join(f"; warning: {warning}" for warning in validation["warnings"])
        say_result(f"{validation['rows']['accepted']:,} accepted, {aside}{told}")
        if warning := warning_text(validation.get("near_copies") or {}):
            print(f"warning: {warning} (data.near_copies; all of them: ae audit {recipe})", file=sys.stderr, flush=True)
        shutil.rmtree(incoming)
    finally:
        pages = project.data_docs / checked.data.dataset / "index.html"
        if pages.is_file():
            link = document_link(project, f"data-docs/{checked.data.dataset}/index.html", pages)
            create_link_artifact(
                link, "Data Docs", key=f"{recipe}-data-docs", description="what was expected of the data, and met"
            )


def read_quarantine(recipe: str) -> QuarantineCounts | None:
    """Return what the last validation of the recipe's dataset has set aside; None where that is nothing."""
    project, checked = load_context(recipe)
    return quarantine_counts(read_json(project.validation(checked.data.dataset) / "validation.json", "rows"))


@pipeline_step("version", "stores this version of the data with DVC", retries=2)
def version_dataset(recipe: str) -> dict[str, str]:
    """Add data/<dataset> to data.dvc and the DVC remote; return the identifiers of this version of the data."""
    project, checked = load_context(recipe)
    md5 = dvc.add_dataset(project, checked.data.dataset)
    content = read_json(project.dataset(checked.data.dataset) / "receipt.json")["content_sha256"]
    say_result(f"{checked.data.dataset} {content[:12]}")
    return {"dataset": checked.data.dataset, "content_sha256": content, "dvc_md5": md5}


@pipeline_step("trained", "looks for the last training", retries=1)
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


@pipeline_step("prepare", "splits the samples")
def prepare_samples(recipe: str) -> None:
    """Prepare data/<dataset> -> prepared/, and check that these samples are enough for all that follows."""
    project, checked = load_context(recipe)
    dvc.reproduce_stage(project, "prepare", recipe)
    require_enough_samples(checked, project, project.artifacts(recipe) / "prepared")
    rows = read_json(project.artifacts(recipe) / "prepared" / "prepared.json", "rows")["rows"]
    say_result(f"{rows['train']:,} to train, {rows['calibration']:,} to calibrate, {rows['test']:,} to test")


@pipeline_step("train", "trains the autoencoder", retries=1)
def train_model(recipe: str, run: str) -> None:
    """Train prepared/ -> training/ while MLflow shows the loss curves; a retry resumes at the last checkpoint."""
    project, _ = load_context(recipe)
    store = open_store(project)
    training = project.training(recipe)
    progress_follower, batch_follower = ProgressFollower(training / "progress.jsonl"), BatchFollower(training / "batch.json")

    def report_progress() -> None:
        if place := batch_follower.describe():
            say_progress(place)
        store.log_curves(run, progress_follower.new_rows())

    was_trained = dvc.reproduce_stage(project, "train", recipe, on_poll=report_progress)
    rows = finished_rows(project.artifacts(recipe) / "training" / "history.csv")
    say_result(f"{len(rows)} epochs, validation error {rows[-1]['validation_error']:.5f}{'' if was_trained else ', as before'}")
    if not was_trained:
        store.log_curves(run, rows)


@pipeline_step("calibrate", "sets score and threshold, exports the model", retries=1)
def calibrate_model(recipe: str) -> None:
    """Calibrate training/ -> bundle/: score, threshold and export. A changed score or threshold starts here."""
    project, _ = load_context(recipe)
    dvc.reproduce_stage(project, "calibrate", recipe)
    threshold = read_json(project.artifacts(recipe) / "bundle" / "bundle.json")["threshold"]["value"]
    say_result(f"threshold {threshold:.4f}")


@pipeline_step("evaluate", "measures the model and the baselines on samples it never saw")
def evaluate_model(recipe: str) -> None:
    """Evaluate bundle/ on the test samples -> report/, and show the metrics as a table on the run's page."""
    project, _ = load_context(recipe)
    dvc.reproduce_stage(project, "evaluate", recipe)
    metrics = read_json(project.artifacts(recipe) / "report" / "metrics.json")
    say_result(headline(metrics).removesuffix("."))
    create_table_artifact(metric_rows(metrics), key=f"{recipe}-metrics", description=f"{recipe}: {headline(metrics)}")


@pipeline_step("gate", "applies the rules of the recipe")
def apply_gate(recipe: str) -> None:
    """Apply the gate to report/ -> verdict.json; a refusal is a result, not a failure."""
    project, _ = load_context(recipe)
    dvc.reproduce_stage(project, "gate", recipe)
    verdict = read_verdict(project.artifacts(recipe) / "verdict.json")
    passed = sum(rule["passed"] for rule in verdict["rules"])
    say_result(f"{passed} of {len(verdict['rules'])} rules passed")
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


def publish_result(summary: RunSummary) -> None:
    """Show the result on the flow run's page, above what its steps have shown: it belongs to the run itself."""
    recipe = summary["recipe"]
    text = result_markdown(summary, page_link(find_project(), recipe, "report") or str(summary["report"]))
    create_markdown_artifact(text, key=f"{recipe}-result", description=result_line(summary))


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
    if quarantine := read_quarantine(recipe):
        summary["quarantine"] = quarantine
    if data_warnings := read_json(project.validation(data["dataset"]) / "validation.json", "warnings")["warnings"]:
        summary["data_warnings"] = data_warnings
    return summary
