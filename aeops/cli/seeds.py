"""`ae seeds RECIPE`: how much its metrics differ between trainings that differ in their seed alone."""

import argparse
import time
from typing import TYPE_CHECKING, Any

from aeops.cli.outputs import add_json_option, print_json
from aeops.cli.stopped_runs import notice_of_stop
from aeops.project import Project, find_project

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from aeops.gate.seed_record import SeedRecord
    from aeops.recipe.reader import Recipe

DEFAULT_COUNT = 5


def add_command(commands: Any) -> None:
    """Add `ae seeds` to the commands of the parser."""
    command = commands.add_parser("seeds", help="train a recipe with several seeds: mean and spread of its metrics, margins")
    command.add_argument("recipe", help="name of a file in recipes/, such as digits")
    count_help = f"trainings, 2 or more (default: {DEFAULT_COUNT})"
    command.add_argument("-n", type=int, default=DEFAULT_COUNT, metavar="COUNT", help=count_help)
    command.add_argument("--first-seed", type=int, default=0, metavar="SEED", help="of the first training (default: 0)")
    add_json_option(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train and measure with each seed that has not been measured yet, write the record and print it.

    Nothing is registered, and no champion changes.

    Returns:
        0.
    """
    start_time = time.monotonic()
    from aeops.machine.run_watch import RunWatch

    with RunWatch(notice_of_stop("seeds", arguments.recipe)):
        from aeops.data.dvc import require_path_without_braces
        from aeops.evaluation.before_training import require_named_files
        from aeops.machine.access import require_writable_checkout
        from aeops.machine.environment import prepare_environment, require_disk_space
        from aeops.machine.lock import RunUse, run_lock
        from aeops.recipe.reader import load_recipe
        from aeops.seeds.seed_measurement import measure_seeds
        from aeops.seeds.seed_runs import choose_seeds

        project = find_project()
        recipe = load_recipe(project, arguments.recipe)
        seeds = choose_seeds(recipe, arguments.n, arguments.first_seed)
        require_path_without_braces(project)
        require_named_files(recipe, project)
        require_disk_space(project)
        require_writable_checkout(project)
        prepare_environment(project)
        with run_lock(project, f"ae seeds {recipe.name}", RunUse(recipe.name, recipe.data.dataset)):
            record = measure_seeds(project, recipe, seeds)
    if arguments.json:
        print_json({**record, "margins": margin_lines(recipe, record), "record": str(project.seed_record(recipe.name))})
    else:
        show_record(project, recipe, record, time.monotonic() - start_time)
    return 0


def show_record(project: Project, recipe: "Recipe", record: "SeedRecord", seconds: float) -> None:
    """Print each metric that differs between the seeds, the margins that follow, and where the record is."""
    from aeops.cli.outputs import open_console

    console = open_console(soft_wrap=True)
    console.print(metrics_table(record, console))
    same_count = sum(not summary["sd"] for summary in record["metrics"].values())
    if same_count:
        console.print(f"same       {same_count} numbers do not differ, such as counts and baselines")
    for line in margin_lines(recipe, record):
        console.print(f"margin     {line}")
    pairs = record["equal_pairs"]
    if pairs["count"]:
        names = ", ".join(f"{name} {count}" for name, count in pairs["refused_by_rule"].items())
        console.print(f"pairs      {pairs['refused']} of {pairs['count']} pairs of these equal models are refused ({names})")
    console.print(f"took       {seconds:.1f} s")
    file = project.seed_record(recipe.name).relative_to(project.root)
    console.print(f"record     {file}: commit it with the recipe")


def metrics_table(record: "SeedRecord", console: "Console") -> "Table":
    """Return the metrics that differ between the seeds, one row each; a narrow console has no room for the extremes."""
    from aeops.cli.outputs import NARROW, open_table

    seeds = record["seeds"]
    title = f"{record['recipe']}: {len(seeds)} trainings with the seeds {', '.join(map(str, seeds))}"
    table = open_table(console, title)
    table.add_column("metric", overflow="fold")
    is_narrow = console.width < NARROW
    for name in ("mean", "sd") if is_narrow else ("mean", "sd", "min", "max"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("95 % interval of the mean", justify="right", no_wrap=is_narrow)
    for path, summary in record["metrics"].items():
        if summary["sd"]:
            low, high = summary["interval"]
            numbers = [summary["mean"], summary["sd"]]
            if not is_narrow:
                numbers += [summary["min"], summary["max"]]
            table.add_row(path, *map("{:.4g}".format, numbers), f"{low:.4g} to {high:.4g}")
    return table


def margin_lines(recipe: "Recipe", record: "SeedRecord") -> list[str]:
    """Return each rule against the champion with its margin, and what was measured where that is not its margin."""
    from aeops.gate.comparison import format_difference
    from aeops.gate.margins import MARGIN_FACTOR, RECIPE, resolve_margins
    from aeops.gate.seed_record import measure_key
    from aeops.seeds.seed_measurement import spread_of_seeds

    lines = []
    margins = resolve_margins(recipe.gate, spread_of_seeds(record["seeds"], record["spread"]))
    for name, margin in margins.items():
        rule = recipe.gate[name]
        measure = str(rule.champion)
        line = f"{name}: {format_difference(measure, margin.value).lstrip('+')}"
        key = measure_key(measure, rule.by)
        if margin.source == RECIPE and key in record["spread"]:
            measured = MARGIN_FACTOR * record["spread"][key]["sd"]
            line += f", as the recipe says; measured {format_difference(measure, measured).lstrip('+')}"
            if measured > margin.value:
                line += ": the recipe's is smaller, so models that are equally good will be refused"
        elif margin.source != RECIPE:
            line += f", {margin.description.removeprefix('the margin is ')}"
        lines.append(line)
    return lines
