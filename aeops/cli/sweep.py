"""`ae sweep RECIPE --over KEY=VALUE,VALUE,...`: train a recipe with other settings, and keep the best in its file."""

import argparse
import json
import time
from typing import TYPE_CHECKING, Any

from aeops.cli.outputs import add_place
from aeops.cli.stopped_runs import notice_of_stop
from aeops.project import Project, find_project

if TYPE_CHECKING:
    from rich.table import Table

    from aeops.recipe.reader import Recipe
    from aeops.recipe.run_place import RunPlace
    from aeops.sweeps.outcome import SweepOutcome, TrialOutcome
    from aeops.sweeps.plan import SweepPlan
    from aeops.sweeps.sweep_record import SweepRecord

METRIC_CHOICES = ("error", "power", "separation")  # as in aeops.sweeps.axes
EXAMPLE = "train.learning_rate=0.001,0.003,0.01"
MAX_REASON = 100  # characters of why a trial failed, in the table


def add_command(commands: Any) -> None:
    """Add `ae sweep` to the commands of the parser."""
    command = commands.add_parser("sweep", help="train a recipe with other settings, and write the best to its file")
    command.add_argument("recipe", help="name of a file in recipes/, such as digits")
    over_help = f"a key with the values to try, such as {EXAMPLE}; once for each key"
    command.add_argument("--over", action="append", default=[], metavar="KEY=VALUE,...", help=over_help)
    trials_help = "at most so many beside the recipe as it is; of more combinations a seed draws (default: 20)"
    command.add_argument("--trials", type=int, default=20, metavar="COUNT", help=trials_help)
    command.add_argument("--seed", type=int, default=0, help="of that draw (default: 0)")
    by_help = "compare by the validation error, or by faults in validation samples (default: separation to detect, else error)"
    command.add_argument("--by", choices=METRIC_CHOICES, help=by_help)
    halving_help = "train all shortly first and only the best third longer (default: for more than 9 trials)"
    command.add_argument("--halving", action=argparse.BooleanOptionalAction, default=None, help=halving_help)
    command.add_argument("--minutes", type=float, help="start no further training after so long; the same command goes on")
    add_place(command, "trials")
    workers_help = "trainings side by side (default: as many as the cores hold with their train.threads)"
    command.add_argument("--workers", type=int, metavar="COUNT", help=workers_help)
    command.add_argument("--threads", type=int, help="of each training, for the sweep alone (default: train.threads)")
    command.add_argument("--dry-run", action="store_true", help="only check the settings and say what would be trained")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train and measure each trial, print the table, and write the best settings to the recipe's file.

    Nothing is registered, and no champion changes.

    Returns:
        0.

    Raises:
        UsageError: with every mistake in what is typed, or every trial has failed.
    """
    start_time = time.monotonic()
    from aeops.bundle.detector import usable_cores
    from aeops.machine.run_watch import RunWatch
    from aeops.places.open_place import choose_place, require_place
    from aeops.places.pool import choose_workers
    from aeops.recipe.reader import load_recipe

    project = find_project()
    place = choose_place(project, arguments.on)
    recipe = load_recipe(project, arguments.recipe)
    plan = read_plan(project, recipe, arguments)
    if place.host is None:  # else its own cores decide, once it answers
        workers = min(choose_workers(arguments.workers, plan.threads, usable_cores()), len(plan.trials))
    else:
        workers = arguments.workers
    if arguments.dry_run:
        show_plan(plan, place, workers, arguments.json)
        return 0
    require_place(project, place)
    with RunWatch(notice_of_stop("sweep", recipe.name)):
        outcome, record = train(project, recipe, plan, place, arguments.workers, deadline_of(arguments.minutes, start_time))
    finish(project, recipe, outcome, record, arguments.json, time.monotonic() - start_time)
    return 0


def read_plan(project: Project, recipe: "Recipe", arguments: argparse.Namespace) -> "SweepPlan":
    """Return what is asked for; raises UsageError with every mistake in it."""
    from aeops.errors import UsageError
    from aeops.sweeps.axes import parse_axes
    from aeops.sweeps.plan import SweepOptions, plan_sweep

    if arguments.minutes is not None and not arguments.minutes > 0:
        raise UsageError(f"--minutes: expected more than 0, got {arguments.minutes:g}")
    axes = parse_axes(arguments.over)
    options = SweepOptions(arguments.by, arguments.trials, arguments.seed, arguments.halving, arguments.threads)
    return plan_sweep(project, recipe, axes, options)


def deadline_of(minutes: float | None, start_time: float) -> float | None:
    """Return the time of `time.monotonic` after which no training is started; None without a limit."""
    return None if minutes is None else start_time + 60 * minutes


def train(
    project: Project,
    recipe: "Recipe",
    plan: "SweepPlan",
    place: "RunPlace",
    workers: int | None,
    deadline: float | None,
) -> tuple["SweepOutcome", "SweepRecord"]:
    """Run the sweep in the workspace, which it holds meanwhile, and record it."""
    from aeops.data.dvc import require_path_without_braces
    from aeops.evaluation.before_training import require_named_files
    from aeops.machine.access import require_writable_checkout
    from aeops.machine.environment import prepare_environment, require_disk_space
    from aeops.machine.lock import RunUse, run_lock
    from aeops.places.open_place import open_place
    from aeops.places.pool import choose_workers
    from aeops.registry.store import open_store
    from aeops.sweeps.run_sweep import Pool, open_folder, require_accepted_data, run_sweep
    from aeops.sweeps.sweep_record import record_sweep

    require_path_without_braces(project)
    require_accepted_data(project, recipe)
    require_named_files(recipe, project)
    require_disk_space(project)
    require_writable_checkout(project)
    prepare_environment(project)
    with run_lock(project, f"ae sweep {recipe.name}", RunUse(recipe.name, recipe.data.dataset)):
        store = open_store(project)  # before the trainings: a store that cannot be written is said at once
        folder = open_folder(project, recipe)
        with open_place(project, place) as opened:
            at_once = min(choose_workers(workers, plan.threads, opened.cores), len(plan.trials))
            outcome = run_sweep(folder, plan, Pool(opened.start, at_once, deadline))
        return outcome, record_sweep(store, folder, outcome)


def finish(
    project: Project, recipe: "Recipe", outcome: "SweepOutcome", record: "SweepRecord", as_json: bool, seconds: float
) -> None:
    """Write the best settings to the recipe, and print the table and the change.

    Raises:
        DataError: the recipe's file was changed while its trials were trained.
        UsageError: every trial has failed.
    """
    from aeops.errors import UsageError
    from aeops.sweeps.outcome import to_document

    diff = write_best(project, recipe, outcome)
    if as_json:
        document = to_document(outcome) | {
            "diff": diff,
            "table": str(record.table),
            "picture": str(record.picture),
            "mlflow_run": record.run_id,
        }
        print(json.dumps(document, indent=1, ensure_ascii=False))
    else:
        show_outcome(project, outcome, record, diff, seconds)
    if outcome.is_complete and outcome.best is None:
        raise UsageError("every trial has failed: the recipe is as it was; the reasons stand in the table")


def write_best(project: Project, recipe: "Recipe", outcome: "SweepOutcome") -> list[str]:
    """Write the best settings to the recipe's file; return the lines of the change, none where it stays as it is.

    Raises:
        DataError: the file is not what the trials were made of.
    """
    from aeops.cli.recipe_change import diff_lines
    from aeops.errors import DataError
    from aeops.files import atomic_write, data_sha256

    best = outcome.best
    if best is None or best.trial.number == 0:
        return []
    file = project.recipe_file(recipe.name)
    content = file.read_bytes() if file.is_file() else b""
    if data_sha256(content) != recipe.sha256:
        raise DataError(
            f"recipes/{file.name} was changed while its trials were trained, so it stays as it is: type the same command again "
            "for a sweep over the recipe as it is now"
        )
    old_text = content.decode("utf-8")
    atomic_write(file, best.trial.text, file.stat().st_mode & 0o777)
    return diff_lines(recipe.name, old_text, best.trial.text)


# ---------------------------------------------------------------- printed


def show_plan(plan: "SweepPlan", place: "RunPlace", workers: int | None, as_json: bool) -> None:
    """Print what would be trained, and where; None: as many at a time as the cores of a cluster hold."""
    from aeops.cli.outputs import open_console
    from aeops.sweeps.outcome import SweepOutcome, TrialOutcome, to_document
    from aeops.sweeps.words import METRIC_NAMES

    if as_json:
        outcome = SweepOutcome(plan, list(map(TrialOutcome, plan.trials)), is_complete=False)
        document = to_document(outcome) | {"on": place.text, "workers": workers}
        print(json.dumps(document, indent=1, ensure_ascii=False))
        return
    console = open_console(soft_wrap=True)
    for trial in plan.trials:
        console.print(f"trial {trial.number:<4} {settings_text(plan, trial.number)}")
    console.print(f"chosen     {draw_text(plan)}")
    for rung in plan.rungs:
        epochs = rung.epochs(plan.trials[0].recipe)
        console.print(f"rung       {rung.keep} and the recipe as it is: {epochs} epochs")
    console.print(f"compared   by the {METRIC_NAMES[plan.metric]}")
    count = "as many as its cores hold" if workers is None else workers
    console.print(f"workers    {count}, of {plan.threads} threads each, on {place.text}")


def settings_text(plan: "SweepPlan", number: int) -> str:
    """Return the settings of a trial in one line."""
    from aeops.sweeps.words import value_text

    text = ", ".join(f"{key}={value_text(value)}" for key, value in plan.trials[number].settings.items())
    return f"{text} (the recipe as it is)" if number == 0 else text


def draw_text(plan: "SweepPlan") -> str:
    """Return how the trials were chosen."""
    if plan.seed is None:
        return f"all {plan.combinations} combinations"
    return f"{len(plan.trials) - 1} of {plan.combinations:,} combinations, drawn with the seed {plan.seed}"


def show_outcome(project: Project, outcome: "SweepOutcome", record: "SweepRecord", diff: list[str], seconds: float) -> None:
    """Print the table, what is missing, the change of the recipe and where everything is."""
    from aeops.cli.outputs import open_console
    from aeops.sweeps.outcome import best_settings

    console, plan = open_console(soft_wrap=True), outcome.plan
    console.print(outcome_table(outcome))
    console.print(f"chosen     {draw_text(plan)}")
    for line in diff:
        console.print(line)
    name = plan.recipe.name
    if not outcome.is_complete:
        missing = ", ".join(map(str, outcome.missing))
        console.print(f"missing    trials {missing} of this round: the recipe stays as it is; type the same command to go on")
    elif outcome.best is not None and best_settings(outcome):
        console.print(f"best       trial {outcome.best.trial.number}, now in recipes/{name}.yaml; nothing is promoted")
        console.print(f"next       ae run {name}")
    elif outcome.best is not None:
        console.print(f"best       the recipe as it is: recipes/{name}.yaml stays as it was")
    console.print(f"took       {seconds:.1f} s")
    console.print(f"picture    {record.picture}")
    console.print(f"mlflow     run {record.run_id} in the experiment `{name} sweeps`")


def outcome_table(outcome: "SweepOutcome") -> "Table":
    """Return the trials from the best to those without a result, one row each."""
    from rich.table import Table

    from aeops.sweeps.axes import BY_ERROR
    from aeops.sweeps.words import METRIC_NAMES, value_text

    plan = outcome.plan
    better = "lower" if plan.metric == BY_ERROR else "higher"
    table = Table(title=f"{plan.recipe.name}: {METRIC_NAMES[plan.metric]}, {better} is better", title_justify="left")
    table.add_column("trial", justify="right")
    for axis in plan.axes:
        table.add_column(axis.key, justify="right")
    for rung in plan.rungs:
        table.add_column(f"{rung.epochs(plan.trials[0].recipe)} epochs", justify="right")
    table.add_column("state")
    for trial in outcome.ranking:
        settings = [value_text(trial.trial.settings[axis.key]) for axis in plan.axes]
        values = list(map("{:.5g}".format, trial.values)) + [""] * (len(plan.rungs) - len(trial.values))
        table.add_row(str(trial.trial.number), *settings, *values, state_text(trial))
    return table


def state_text(trial: "TrialOutcome") -> str:
    """Return a trial's state with what belongs to it: that it is the recipe as it is, or why it failed."""
    words = trial.state
    if trial.trial.number == 0:
        words += ", the recipe as it is"
    if trial.reason is not None:
        reason = " ".join(trial.reason.split())
        words += f": {reason if len(reason) <= MAX_REASON else reason[:MAX_REASON] + '...'}"
    return words
