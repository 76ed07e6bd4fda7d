"""Run a sweep: rung by rung, train and measure the trials that are left, and keep the best third.

A rung is a barrier: which trials go on depends on their values alone, not on which was quicker. So a sweep ends in the same table
on any number of workers, and after a kill -9 of any of its processes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ae_models.spec import format_value
from ae_models.threshold_samples import require_sample_counts
from aeops.data import dvc
from aeops.data.fit_samples import open_fit_samples
from aeops.errors import UsageError
from aeops.machine.progress import ProgressBar, ProgressFollower
from aeops.machine.stored_json import read_json
from aeops.machine.terminal import print_progress
from aeops.places.pool import Job, PoolResult, StartCommand, run_jobs
from aeops.project import Project
from aeops.recipe.reader import Recipe
from aeops.sweeps.axes import BY_ERROR
from aeops.sweeps.outcome import BEST, FAILED, MISSING, STOPPED, TRAINED, SweepOutcome, TrialOutcome, badness
from aeops.sweeps.plan import Rung, SweepPlan
from aeops.sweeps.trial_runs import SweepFolder, TrialRun, link_samples, make_trial_run

DEFAULT_RATE = 0.01  # of false alarms, at which powers are measured where the recipe's threshold names none


@dataclass(frozen=True)
class Pool:
    """Where trials are trained.

    Attributes:
        start: starts a process of a trial.
        workers: how many at a time.
        deadline: of `time.monotonic`, after which no process is started; None: all are.
    """

    start: StartCommand
    workers: int
    deadline: float | None = None


def open_folder(project: Project, recipe: Recipe) -> SweepFolder:
    """Prepare the recipe's samples, and link all but the test samples into the folder of its sweeps.

    Raises:
        UsageError: the recipe's data has not been accepted yet, or there are too few samples for it.
        AeError: as the stage prepare reports it.
    """
    receipt = project.dataset(recipe.data.dataset) / "receipt.json"
    require_accepted_data(project, recipe)
    dvc.reproduce_stage(project, "prepare", recipe.name)
    path = project.sweeps(recipe.name)
    link_samples(project.artifacts(recipe.name) / "prepared", path / "samples")
    samples = open_fit_samples(path / "samples", recipe, project)
    require_sample_counts(recipe.fit, samples.roles, samples.extras)
    content_sha256 = str(read_json(receipt, "content_sha256")["content_sha256"])
    return SweepFolder(project, path, path / "samples", content_sha256)


def require_accepted_data(project: Project, recipe: Recipe) -> None:
    """Raise UsageError where the recipe's data has not been accepted yet."""
    if not (project.dataset(recipe.data.dataset) / "receipt.json").is_file():
        raise UsageError(f"{recipe.name} has no accepted data in data/{recipe.data.dataset}: type `ae run {recipe.name}` first")


def run_sweep(folder: SweepFolder, plan: SweepPlan, pool: Pool) -> SweepOutcome:
    """Train and measure the trials of a plan, as far as that is not done.

    Returns:
        The table; not complete where the deadline has passed.

    Raises:
        AeError: a fault of the machine or of this package; what is finished stays.
    """
    outcomes = list(map(TrialOutcome, plan.trials))
    left = outcomes
    for number, rung in enumerate(plan.rungs):
        is_last = number + 1 == len(plan.rungs)
        _run_rung(folder, plan, rung, left, pool)
        if any(outcome.state == MISSING for outcome in left):
            return SweepOutcome(plan, outcomes, is_complete=False)
        ranked = _rank([outcome for outcome in left if outcome.state != FAILED], plan.metric)
        if is_last:
            for outcome in ranked[:1]:
                outcome.state = BEST
            break
        left = _promote(ranked, plan.rungs[number + 1].keep)
        for outcome in left:
            outcome.state = MISSING  # of the next rung
    return SweepOutcome(plan, outcomes, is_complete=True)


def _rank(outcomes: Sequence[TrialOutcome], metric: str) -> list[TrialOutcome]:
    """Return the outcomes of a rung, the best first; of equals the one with the lowest number."""
    return sorted(outcomes, key=lambda outcome: (badness(metric, outcome.values[-1]), outcome.trial.number))


def _promote(ranked: Sequence[TrialOutcome], keep: int) -> list[TrialOutcome]:
    """Return those that go on, by their numbers: the best ones, and the recipe as it is, which the best has to beat."""
    promoted, others = [], []
    for outcome in ranked:
        if outcome.trial.number == 0:
            promoted.append(outcome)
        else:
            others.append(outcome)
    promoted += others[:keep]
    for outcome in others[keep:]:
        outcome.state = STOPPED
    return sorted(promoted, key=lambda outcome: outcome.trial.number)


# ---------------------------------------------------------------- a rung


def _run_rung(folder: SweepFolder, plan: SweepPlan, rung: Rung, left: Sequence[TrialOutcome], pool: Pool) -> None:
    """Train and measure trials, and add what was measured, or why not, to their outcomes."""
    rate = getattr(plan.recipe.fit.threshold, "false_alarm_rate", DEFAULT_RATE)
    runs = {}
    for outcome in left:
        runs[outcome.trial.number] = make_trial_run(folder, outcome.trial, rung, rate)
    failures = _train(runs, pool).failures
    if plan.metric != BY_ERROR:
        failures = failures | _measure(runs, pool).failures
    for outcome in left:
        run = runs[outcome.trial.number]
        reason = failures.get(str(run.work)) or failures.get(str(run.measurement))
        value = run.value(plan.metric)
        if reason is None and value is None:
            continue  # the deadline has passed
        outcome.epochs.append(run.epochs)
        if reason is None and value is not None and math.isfinite(value):
            outcome.values.append(value)
            outcome.state = TRAINED
        else:
            outcome.state = FAILED
            outcome.reason = reason or f"the {plan.metric} is {value}"


def _train(runs: dict[int, TrialRun], pool: Pool) -> PoolResult:
    """Train what is not trained; the job of a training is named by its folder, which trials with other scores share."""
    pending = {}
    for run in runs.values():
        if not run.is_trained():
            pending[str(run.work)] = run
    if not pending:
        return PoolResult()
    epochs = sum(run.epochs for run in pending.values())
    _print_line(
        f"{_count_text(len(pending), 'training')} of {_epochs_text(list(pending.values()))} epochs, {pool.workers} at a time"
    )
    with ProgressBar(epochs) as bar:
        jobs = []
        for name, run in pending.items():
            follower = ProgressFollower(run.progress)
            jobs.append(Job(name, run.training_commands(), lambda follower=follower: bar.show(follower.new_rows())))  # type: ignore[misc]
        return run_jobs(jobs, pool.start, pool.workers, pool.deadline)


def _measure(runs: dict[int, TrialRun], pool: Pool) -> PoolResult:
    """Measure the power of what is trained and not measured."""
    pending = {}
    for run in runs.values():
        if not run.is_measured() and run.training.is_dir():
            pending[str(run.measurement)] = run
    if not pending:
        return PoolResult()
    _print_line(f"{_count_text(len(pending), 'measurement')} on injected faults, {pool.workers} at a time")
    jobs = [Job(name, run.measuring_commands()) for name, run in pending.items()]
    result = run_jobs(jobs, pool.start, pool.workers, pool.deadline)
    for run in pending.values():
        run.remove_bundle()
    return result


def _epochs_text(runs: Sequence[TrialRun]) -> str:
    epochs = sorted({run.epochs for run in runs})
    return format_value(epochs[0]) if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}"


def _count_text(count: int, noun: str) -> str:
    return f"1 {noun}" if count == 1 else f"{count} {noun}s"


def _print_line(line: str) -> None:
    print_progress(line)
