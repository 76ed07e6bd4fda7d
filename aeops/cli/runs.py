"""`ae runs [RECIPE]`: the last runs of the recipes, and what each came to."""

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from aeops.cli.outputs import add_json_option, print_json

if TYPE_CHECKING:
    from aeops.registry.runs import RunInfo

DEFAULT_COUNT = 20


def add_command(commands: Any) -> None:
    """Add `ae runs` to the commands of the parser."""
    command = commands.add_parser("runs", help="list the last runs, of a recipe or of all, and what each came to")
    command.add_argument("recipe", nargs="?", help="name of a recipe, such as digits (default: every recipe)")
    command.add_argument("-n", type=int, default=DEFAULT_COUNT, metavar="N", help=f"of each recipe (default: {DEFAULT_COUNT})")
    add_json_option(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the runs, the newest first, and the one that is in progress; return 0.

    Raises:
        UsageError: an unknown recipe, or a count below 1.
    """
    from aeops.cli.recipe_names import require_recipe_name
    from aeops.errors import UsageError
    from aeops.machine.lock import runs_in_progress
    from aeops.project import find_project
    from aeops.recipe.reader import recipe_names
    from aeops.registry.store import open_store

    project = find_project()
    if arguments.n < 1:
        raise UsageError(f"-n: expected 1 or more, got {arguments.n}")
    names = recipe_names(project)
    if arguments.recipe is not None:
        require_recipe_name(project, arguments.recipe)
        names = [arguments.recipe]
    store = open_store(project)
    runs = [run for name in names for run in store.runs(name, arguments.n)]
    runs.sort(key=lambda one: one.started_at, reverse=True)
    in_progress = [{"purpose": holder.get("purpose"), "pid": holder.get("pid")} for holder in runs_in_progress(project)]
    if arguments.json:
        rows = [asdict(one) | {"started_at": one.started_at.isoformat(), "url": store.run_url(one.run_id)} for one in runs]
        print_json({"in_progress": in_progress, "runs": rows})
        return 0
    for holder in in_progress:
        print(f"in progress: `{holder['purpose']}` in process {holder['pid']}")
    print_runs(runs, arguments.recipe)
    return 0


def print_runs(runs: list["RunInfo"], recipe: str | None) -> None:
    """Print a line for each run; `recipe` is the one that was named."""
    from aeops.cli.outputs import open_console, open_table
    from aeops.machine.step_report import format_seconds

    if not runs:
        name = recipe or "RECIPE"
        print(f"no run whose data was accepted: `ae run {name}` makes the first; what an earlier one printed: ae logs {name}")
        return
    console = open_console()
    table = open_table(console, "runs, times in UTC")
    for name in ("recipe", "started", "took", "ended as", "version", "verdict"):
        table.add_column(name)
    for one in runs:
        took = "" if one.seconds is None else format_seconds(one.seconds)
        table.add_row(one.recipe, f"{one.started_at:%Y-%m-%d %H:%M}", took, one.status, one.version, one.verdict)
    console.print(table)
    console.print("what a run did, and one that ended before its data was accepted: ae logs RECIPE", soft_wrap=True)
