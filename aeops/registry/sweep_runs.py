"""Sweeps in MLflow: a run of the sweep, and nested in it one of each trial, in the experiment `RECIPE sweeps`.

A sweep that goes on finds its runs and adds what is new; nothing is registered.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aeops.gate.flattening import flatten_text
from aeops.registry.store import Store, translate_errors

if TYPE_CHECKING:
    from mlflow.entities import Run

SWEEP_TAG, TRIAL_TAG, RUNGS_TAG = "sweep", "trial", "rungs"
PARENT_TAG = "mlflow.parentRunId"  # by which MLflow's page nests runs
MAX_RUNS = 5000  # of a sweep


@dataclass(frozen=True)
class TrialEntry:
    """A trial as MLflow stores it.

    Attributes:
        number: of the trial.
        params: key -> value.
        values: (epochs, value of the metric) of each rung.
        has_failed: whether it has no result.
    """

    number: int
    params: Mapping[str, Any]
    values: Sequence[tuple[int, float]]
    has_failed: bool


@dataclass(frozen=True)
class SweepEntry:
    """A sweep as MLflow stores it.

    Attributes:
        recipe: its name.
        sweep_id: names the sweep: the same one is written once.
        metric: name of the metric.
        params: what was varied, and how.
        trials: those with a result, or failed.
        is_complete: whether every rung has ended.
        files: of the table and the picture.
    """

    recipe: str
    sweep_id: str
    metric: str
    params: Mapping[str, Any]
    trials: Sequence[TrialEntry]
    is_complete: bool
    files: Sequence[Path]


@translate_errors
def log_sweep(store: Store, entry: SweepEntry) -> str:
    """Write a sweep with its trials, as far as they are not written yet.

    Returns:
        The id of the sweep's run.

    Raises:
        InfrastructureError: MLflow cannot be reached.
    """
    experiment = store.experiment(f"{entry.recipe} sweeps")
    runs = store.client.search_runs([experiment], f"tags.{SWEEP_TAG} = '{entry.sweep_id}'", max_results=MAX_RUNS)
    by_trial = {run.data.tags.get(TRIAL_TAG): run for run in runs}
    parent = by_trial.get(None)
    if parent is None:
        name = f"sweep {entry.sweep_id[:8]}"
        parent = store.client.create_run(experiment, tags={SWEEP_TAG: entry.sweep_id}, run_name=name)
        store.log_params(parent.info.run_id, flatten_text(entry.params))
    parent_id = str(parent.info.run_id)
    for trial in entry.trials:
        _log_trial(store, experiment, parent_id, entry, trial, by_trial.get(str(trial.number)))
    store.log_files(parent_id, entry.files)
    store.finish_run(parent_id, "FINISHED" if entry.is_complete else "KILLED")
    return parent_id


def _log_trial(store: Store, experiment: str, parent_id: str, entry: SweepEntry, trial: TrialEntry, run: "Run | None") -> None:
    """Write a trial's run, or the rungs that an earlier call has not written."""
    from mlflow.entities import Metric

    if run is None:
        tags = {SWEEP_TAG: entry.sweep_id, TRIAL_TAG: str(trial.number), PARENT_TAG: parent_id}
        run = store.client.create_run(experiment, tags=tags, run_name=f"trial {trial.number}")
        store.log_params(run.info.run_id, flatten_text(trial.params))
    written = int(run.data.tags.get(RUNGS_TAG, 0))
    now = int(time.time() * 1000)
    metrics = [Metric(entry.metric, value, now, epochs) for epochs, value in trial.values[written:]]
    if metrics:
        store.client.log_batch(run.info.run_id, metrics=metrics)
        store.client.set_tag(run.info.run_id, RUNGS_TAG, str(len(trial.values)))
    store.finish_run(run.info.run_id, "FAILED" if trial.has_failed else "FINISHED")
