"""Steps that store a run and its version in MLflow: model, evidence, lineage, and what MLflow's pages say of them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect.artifacts import create_link_artifact

from aeops.data import dvc
from aeops.errors import InfrastructureError
from aeops.gate.documents import EvidenceDocument, compared_champion, is_accepted
from aeops.machine.process_identity import this_process
from aeops.machine.run_watch import closing_step
from aeops.machine.step_report import say_result
from aeops.machine.stored_json import read_json
from aeops.project import Project, find_project
from aeops.provenance.code_archive import ARCHIVE_NAME, archived_code, write_code_archive
from aeops.provenance.lineage import (
    LINEAGE_PATH,
    collect_lineage,
    git_diff,
    recorded_files,
    recorded_folder,
    shown_tags,
    write_lineage,
)
from aeops.recipe.reader import Recipe, read_unchanged
from aeops.registry import ledger
from aeops.registry.aliases import CHALLENGER
from aeops.registry.killed_runs import PROCESS_TAG, close_own_runs
from aeops.registry.store import Store, open_store
from aeops.report.model_card import card_sentence, model_card, with_picture
from aeops.report.report_page import ReportHead, write_report
from flows.pipeline_step import pipeline_step
from flows.training_steps import evidence_file, load_context, read_decided_evidence, step_seconds

STARTER_TAG = "started_by"  # of a run and of its version
PICTURE_PATH, PICTURE_TEXT = "figures/histogram.svg", "Scores of the test samples, and the threshold"  # of a run; in descriptions


@pipeline_step("log", "opens a run in MLflow", retries=2)
def open_mlflow_run(recipe: str, data: dict[str, str], started_at: float) -> str:
    """Open the MLflow run of this pipeline run, which started at a time in seconds since 1970, and return its id."""
    project, checked = load_context(recipe)
    accepted_rows = read_json(project.dataset(checked.data.dataset) / "receipt.json", "rows")["rows"]["accepted"]
    whose = {PROCESS_TAG: this_process().text, STARTER_TAG: ledger.current_actor()}
    run = open_store(project).start_run(
        recipe,
        tags=shown_tags(collect_lineage(project, checked)) | whose,
        params=read_unchanged(project, checked),
        dataset={**data, "num_rows": accepted_rows},
        started_at=started_at,
    )
    description = "its metrics, figures and files"
    create_link_artifact(open_store(project).run_url(run), "MLflow run", key=f"{recipe}-mlflow-run", description=description)
    return run


@contextmanager
def mlflow_run(recipe: str, data: dict[str, str], started_at: float) -> Iterator[str]:
    """Open an MLflow run; finish it after the steps inside, or mark it as failed with them.

    Args:
        recipe: name of the recipe.
        data: its dataset, as the step `version` returns it.
        started_at: when the pipeline run started, in seconds since 1970, so that MLflow's duration is the whole run's.
    """
    store = open_store(find_project())
    with closing_step(lambda: close_own_runs(store)):  # also one that MLflow has and whose id has not come back
        run = open_mlflow_run(recipe, data, started_at)
        try:
            yield run
        except BaseException:
            with suppress(InfrastructureError):  # the step's own error is raised, even if it came from MLflow
                store.finish_run(run, "FAILED")
            raise
        store.finish_run(run, "FINISHED")


@pipeline_step("register", "stores model, report and card in the registry", retries=2)
def register_version(recipe: str, run: str, data: dict[str, str], evidence: dict[str, str]) -> str:
    """Register bundle/ with its evidence as a version with the alias challenger; the same bundle twice is one version.

    The evidence is logged first, so that every version has its evidence, even if this step was interrupted.

    Returns:
        The number of the version.
    """
    project, checked = load_context(recipe)
    store, artifacts = open_store(project), project.artifacts(recipe)
    dvc.push_outputs(project, recipe)
    metadata = collect_lineage(project, checked, recorded_files(project, recipe))
    metrics, document = read_json(artifacts / "report" / "metrics.json"), read_decided_evidence(project, recipe, evidence)
    raw_recipe, head = read_unchanged(project, checked), ReportHead("", datetime.now(UTC), ledger.current_actor())
    report = write_version_report(checked, run, data, document, metadata, head)
    log_evidence_files(project, store, recipe, run, data, report, metrics)
    if "git.diff_sha256" in metadata:
        log_worktree_diff(project, store, recipe, run)
    studies = read_json(artifacts / "report" / "studies.json")
    card = model_card(raw_recipe, metrics, studies, document["gate"], document["comparison"], metadata)
    description = with_picture(card, store.picture_markdown(run, PICTURE_PATH, PICTURE_TEXT))
    tags = log_lineage(store, checked, run, metadata, document, evidence) | comparison_tags(document, evidence)
    version = store.register(run, recipe, artifacts / "bundle", tags=tags, description=description)
    store.set_alias(recipe, CHALLENGER, version)
    store.log_files(run, [write_version_report(checked, run, data, document, metadata, replace(head, version=version))])
    describe_in_mlflow(store, checked, run, version, card_sentence(description))
    say_result(f"{recipe} {version}")
    return version


def log_lineage(
    store: Store,
    checked: Recipe,
    run: str,
    metadata: Mapping[str, str],
    document: EvidenceDocument,
    evidence: dict[str, str],
) -> dict[str, str]:
    """Log the whole lineage as a file, and the test samples as an input of the run; return the tags of the version."""
    holdout = {
        "holdout_sha256": evidence["holdout_sha256"],
        "comparison.judged": str(document["comparison"]["holdout"]["judged"]),
    }
    file = store.project.reports(checked.name) / Path(LINEAGE_PATH).name
    tags = write_lineage(file, {**metadata, **holdout})
    store.log_files(run, [file], str(Path(LINEAGE_PATH).parent))
    name, rows = f"{checked.data.dataset}, test samples", document["comparison"]["holdout"]["rows"]
    test_samples = {"dataset": name, "content_sha256": evidence["holdout_sha256"], "num_rows": rows}
    store.log_dataset(run, test_samples, "evaluation")
    return tags


def describe_in_mlflow(store: Store, checked: Recipe, run: str, version: str, sentence: str) -> None:
    """Name the run by version and date, and describe it and the recipe's model by the verdict, a picture and the report."""
    recipe, today = checked.name, f"{datetime.now(UTC):%Y-%m-%d}"
    link = f"[Report]({store.run_url(run, 'report.html')})"
    picture = store.picture_markdown(run, PICTURE_PATH, PICTURE_TEXT)
    store.describe_run(run, f"{recipe} {version}, {today}", f"{sentence}\n\n{link}\n\n{picture}")
    newest = f"**The newest version, {version} of {today}**: {sentence} {link}"
    use = f"The champion has the alias `champion`: `ae show {recipe}`, `ae score {recipe} FILE`, `ae serve {recipe}`."
    store.describe_model(recipe, "\n\n".join([checked.about.strip(), newest, picture, use]))


def write_version_report(
    checked: Recipe,
    run: str,
    data: dict[str, str],
    document: EvidenceDocument,
    metadata: Mapping[str, str],
    head: ReportHead,
) -> Path:
    """Write report.html: before the version is registered, so that none is without its report, and once it has its number."""
    project = find_project()
    artifacts = project.artifacts(checked.name)
    return write_report(
        project.reports(checked.name) / "report.html",
        recipe=read_unchanged(project, checked),
        report=artifacts / "report",
        bundle=artifacts / "bundle",
        training=artifacts / "training",
        verdict=document["gate"],
        comparison=document["comparison"],
        validation=read_json(project.validation(data["dataset"]) / "validation.json"),
        lineage={**metadata, "mlflow.run_id": run},
        timings=dict(step_seconds()),
        head=head,
    )


def comparison_tags(document: EvidenceDocument, evidence: dict[str, str]) -> dict[str, str]:
    """Build a version's tags about its evidence and the person who started the run.

    Args:
        document: the content of evidence.json.
        evidence: what the ledger records of it.
    """
    return {
        "verdict": "accepted" if is_accepted(document) else "refused",
        STARTER_TAG: ledger.current_actor(),
        "comparison": evidence["verdict"],
        "comparison.champion": compared_champion(document) or "none",
        "evidence.sha256": evidence["sha256"],
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
    rebuild_files = sorted(recorded_folder(project, recipe).iterdir())  # those whose hashes are in the lineage
    rebuild_files += [project.recipe_file(recipe), artifacts / "training" / "trail.csv"]
    if archived_code(project):
        archive = project.reports(recipe) / ARCHIVE_NAME
        write_code_archive(project, archive)
        rebuild_files.append(archive)
    store.log_files(run, rebuild_files, "rebuild")


def log_worktree_diff(project: Project, store: Store, recipe: str, run: str) -> None:
    """Log the changes of code that were not committed, as a patch."""
    patch = project.reports(recipe) / "worktree.diff"
    patch.write_bytes(git_diff(project))
    store.log_files(run, [patch], "rebuild")
