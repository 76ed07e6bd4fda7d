"""The steps of the training flow, each a Prefect task that starts the heavy work elsewhere and hands on plain facts."""

import functools
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml
from prefect import get_client, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.runtime import flow_run

from aeops.data import dvc
from aeops.errors import InfrastructureError
from aeops.machine.child_process import Ahead, run_module
from aeops.machine.process_identity import this_process
from aeops.machine.progress import ProgressBar, ProgressFollower, finished_rows
from aeops.project import Project, find_project
from aeops.provenance.last_run import write_record
from aeops.provenance.lineage import RECORDED_FILES, git_diff, lineage
from aeops.recipe.reader import Recipe, load_recipe
from aeops.registry import ledger
from aeops.registry.outcome import champion_of, is_accepted, state
from aeops.registry.reap import TAG
from aeops.registry.store import Store, open_store
from aeops.report.model_card import model_card
from aeops.report.report_page import write_report
from aeops.report.summary import metric_rows, verdict_markdown


def may_heal(_task: Any, _run: Any, state: Any) -> bool:
    """A retry helps against the machine, never against bad data or a wrong recipe."""
    return isinstance(state.result(raise_on_failure=False), InfrastructureError)


def step(retries: int = 0) -> Callable[[Callable[..., Any]], Any]:
    """A task under a name a person reads. Never cached: a cached task would skip what it writes; DVC decides that."""

    def decorate(function: Callable[..., Any]) -> Any:
        @functools.wraps(function)
        def announced(*arguments: Any, **options: Any) -> Any:
            print(f"{function.__name__} ...", file=sys.stderr, flush=True)
            return function(*arguments, **options)

        return task(
            name=function.__name__,
            task_run_name=f"{function.__name__} {{recipe}}",
            retries=retries,
            retry_delay_seconds=[2.0, 10.0][:retries] or None,
            retry_condition_fn=may_heal,
            cache_policy=NO_CACHE,
        )(announced)

    return decorate


def context(recipe: str) -> tuple[Project, Recipe]:
    project = find_project()
    return project, load_recipe(project, recipe)


def read_json(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text(encoding="utf-8")))


def run_stage(project: Project, stage: str, *arguments: str) -> None:
    run_module([f"aeops.stages.{stage}", *arguments], root=project.root, home=project.home, log=stage_log(project, stage))


def stage_log(project: Project, stage: str) -> Path:
    return project.logs / f"{stage}.log"


def stage_ahead(stage: str) -> Ahead:
    """The process of a stage that takes seconds to import what it needs: begun early, it does so beside the steps before."""
    project = find_project()
    return Ahead(f"aeops.stages.{stage}", root=project.root, home=project.home, log=stage_log(project, stage))


@step(retries=1)
def ingest(recipe: str) -> None:
    """Source -> .ae/incoming/<dataset>: shards and an index with each sample's statistics."""
    project, checked = context(recipe)
    incoming = project.incoming(checked.data.dataset)
    run_stage(project, "ingest", "--recipe", str(project.recipe_file(recipe)), "--out", str(incoming))


@step()
def validate(recipe: str, stage: Ahead) -> None:
    """.ae/incoming/<dataset> -> data/<dataset> with its receipt; bad rows go to quarantine, a bad set stops the run."""
    project, checked = context(recipe)
    incoming = project.incoming(checked.data.dataset)
    try:
        stage.run(["--recipe", str(project.recipe_file(recipe)), "--incoming", str(incoming)])
    finally:
        pages = project.data_docs / checked.data.dataset / "index.html"
        if pages.is_file():
            create_link_artifact(pages.as_uri(), "Data Docs", key=f"{recipe}-data-docs")


@step(retries=2)
def version(recipe: str) -> dict[str, str]:
    """data/ -> data.dvc and the DVC remote; returns what names this version of the data."""
    project, checked = context(recipe)
    md5 = dvc.add_data(project)
    content = read_json(project.dataset(checked.data.dataset) / "receipt.json")["content_sha256"]
    return {"dataset": checked.data.dataset, "content_sha256": content, "dvc_md5": md5}


@step()
def prepare(recipe: str) -> None:
    dvc.reproduce(find_project(), "prepare", recipe)


@step(retries=1)
def train(recipe: str, run: str) -> None:
    """prepared/ -> bundle/, with loss curves that move in MLflow meanwhile; a retry resumes at the last checkpoint."""
    project, checked = context(recipe)
    store = open_store(project)
    follower = ProgressFollower(project.training(recipe) / "progress.jsonl")
    with ProgressBar(checked.fit.train.epochs_in_all) as bar:

        def carry() -> None:
            rows = follower.new_rows()
            bar.show(rows)
            store.log_curves(run, rows)

        ran = dvc.reproduce(project, "train", recipe, meanwhile=carry)
    if not ran:
        store.log_curves(run, finished_rows(project.artifacts(recipe) / "training" / "history.csv"))


@step()
def evaluate(recipe: str) -> None:
    """bundle/ and test samples -> report/, and the metrics as a table on the run's page."""
    project = find_project()
    dvc.reproduce(project, "evaluate", recipe)
    metrics = read_json(project.artifacts(recipe) / "report" / "metrics.json")
    create_table_artifact(metric_rows(metrics), key=f"{recipe}-metrics", description=f"{recipe}: the model beside its baselines")


@step()
def gate(recipe: str) -> None:
    """report/ -> verdict.json; a refusal is a result and no failure."""
    project = find_project()
    dvc.reproduce(project, "gate", recipe)
    verdict = read_json(project.artifacts(recipe) / "verdict.json")
    create_markdown_artifact(verdict_markdown(verdict), key=f"{recipe}-verdict", description=f"{recipe}: {verdict['verdict']}")


def evidence_file(project: Project, recipe: str) -> Path:
    return project.reports(recipe) / "evidence.json"


@step(retries=2)
def track(recipe: str, data: dict[str, str]) -> str:
    """Opens the MLflow run of this pipeline run; returns its id."""
    project, checked = context(recipe)
    run = open_store(project).start_run(
        recipe,
        tags=lineage(project, checked) | {TAG: this_process().text},
        params=yaml.safe_load(project.recipe_file(recipe).read_text(encoding="utf-8")),
        dataset=data,
    )
    create_link_artifact(open_store(project).run_url(run), "MLflow run", key=f"{recipe}-mlflow-run")
    return run


@contextmanager
def tracked(recipe: str, data: dict[str, str]) -> Iterator[str]:
    """An MLflow run around the steps inside: finished with them, failed with them."""
    run = track(recipe, data)
    store = open_store(find_project())
    try:
        yield run
    except BaseException:
        with suppress(InfrastructureError):  # the step's own error is the news, also where MLflow is what broke
            store.finish_run(run, "FAILED")
        raise
    store.finish_run(run, "FINISHED")


@step(retries=2)
def register(recipe: str, run: str, data: dict[str, str], evidence: dict[str, str]) -> str:
    """bundle/ and its evidence -> a version in MLflow with the alias challenger; the same bundle twice is one version.

    The evidence is logged first: a version that exists has its evidence, wherever this step was cut short.
    """
    project, checked = context(recipe)
    store, artifacts = open_store(project), project.artifacts(recipe)
    dvc.push_outputs(project, recipe)
    facts = lineage(project, checked)
    metrics, found = read_json(artifacts / "report" / "metrics.json"), read_json(evidence_file(project, recipe))
    plain = yaml.safe_load(project.recipe_file(recipe).read_text(encoding="utf-8"))
    report = write_report(
        project.reports(recipe) / "report.html",
        recipe=plain,
        report=artifacts / "report",
        bundle=artifacts / "bundle",
        training=artifacts / "training",
        verdict=found["gate"],
        comparison=found["comparison"],
        validation=read_json(project.validation(data["dataset"]) / "validation.json"),
        lineage=facts | {"mlflow.run_id": run},
        timings=dict(step_seconds()),
    )
    log_evidence(project, store, recipe, run, data, report, metrics)
    studies = read_json(artifacts / "report" / "studies.json")
    card = model_card(plain, metrics, studies, found["gate"], found["comparison"], facts)
    tags = facts | comparison_tags(found, evidence)
    number = store.register(run, recipe, artifacts / "bundle", tags=tags, description=card)
    store.set_alias(recipe, "challenger", number)
    return number


def comparison_tags(evidence: dict[str, Any], kept: dict[str, str]) -> dict[str, str]:
    """What a version's tags tell of its evidence and of who asked for it."""
    return {
        "verdict": "accepted" if is_accepted(evidence) else "refused",
        "started_by": ledger.actor(),
        "comparison": kept["verdict"],
        "comparison.champion": champion_of(evidence) or "none",
        "comparison.judged": str(evidence["comparison"]["holdout"]["judged"]),
        "evidence.sha256": kept["sha256"],
        "holdout_sha256": kept["holdout_sha256"],
    }


def log_evidence(
    project: Project, store: Store, recipe: str, run: str, data: dict[str, str], report: Path, metrics: dict[str, Any]
) -> None:
    """The run's metrics and every file by which a person, or a rebuild, can judge the version."""
    artifacts = project.artifacts(recipe)
    store.log_metrics(run, metrics)
    store.log_files(run, [report, artifacts / "verdict.json", evidence_file(project, recipe)])
    store.log_files(run, [artifacts / "report" / name for name in ("metrics.json", "studies.json", "figures")])
    store.log_files(run, [artifacts / "report" / "reference.parquet"], "monitoring")
    store.log_files(run, [project.validation(data["dataset"]) / "validation.json"], "validation")
    store.log_files(run, [project.dataset(data["dataset"]) / "receipt.json"], "validation")
    recorded = [project.root / name for name in RECORDED_FILES if (project.root / name).is_file()]
    store.log_files(run, [project.recipe_file(recipe), *recorded, artifacts / "training" / "trail.csv"], "rebuild")
    if diff := git_diff(project):
        patch = project.reports(recipe) / "worktree.diff"
        patch.write_bytes(diff)
        store.log_files(run, [patch], "rebuild")


def step_seconds() -> list[tuple[str, float]]:
    """Each finished step of this flow run with the seconds it took, in order, as Prefect saw them."""
    with get_client(sync_client=True) as client:
        runs = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[UUID(str(flow_run.id))])))
    done = [(run.start_time, run) for run in runs if run.start_time and run.end_time]
    return [(run.name.split(" ")[0], run.total_run_time.total_seconds()) for _, run in sorted(done, key=lambda pair: pair[0])]


def summarise(recipe: str, run: str, data: dict[str, str], version: str, reasons: list[str]) -> dict[str, Any]:
    """What a person reads at the end of a run, and what the next run compares with."""
    project = find_project()
    store, artifacts = open_store(project), project.artifacts(recipe)
    registered = store.version(recipe, version)
    summary = {
        "changed": True,
        "recipe": recipe,
        "data": data,
        "metrics": read_json(artifacts / "report" / "metrics.json"),
        "verdict": registered.tags["verdict"],
        "reasons": reasons,
        "comparison": read_json(evidence_file(project, recipe))["comparison"],
        "version": version,
        "aliases": list(registered.aliases),
        "state": state(recipe, registered, ledger.read(project, recipe)),
        "bundle_sha256": registered.tags["bundle_sha256"],
        "run_url": store.run_url(run),
        "report": str(project.reports(recipe) / "report.html"),
        "seconds": step_seconds(),
    }
    write_record(project, recipe, summary)
    return summary
