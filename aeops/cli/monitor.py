"""`ae monitor RECIPE`: one look at the champion: its signals as a table, and whether they ask for a retrain. Starts none."""

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aeops.monitoring.verdict import MonitoringVerdict


def add_command(commands: Any) -> None:
    """Add `ae monitor` to the commands of the parser."""
    command = commands.add_parser("monitor", help="look whether the champion still sees what it was calibrated on")
    command.add_argument("recipe", help="name of a file in recipes/, such as digits")
    command.add_argument(
        "--as-of",
        metavar="TIME",
        help="look as if it were then: an ISO date (its first moment) or time; without a zone, this machine's is meant",
    )
    command.add_argument("--json", action="store_true", help="print verdict.json, nothing else")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Prints what was found; an alarm is a result and no failure."""
    import json
    from datetime import UTC, datetime

    from aeops.cli.history import moment
    from aeops.machine.environment import prepare_environment
    from aeops.monitoring.check import run_check
    from aeops.project import find_project
    from aeops.recipe.reader import load_recipe

    project = find_project()
    recipe = load_recipe(project, arguments.recipe)
    prepare_environment(project)
    now = datetime.now(UTC) if arguments.as_of is None else moment(arguments.as_of)
    found = run_check(project, recipe, now, force_drift=True)
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        show(found, project)
    return 0


def show(found: "MonitoringVerdict", project: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    from aeops.monitoring import paths

    console, recipe = Console(highlight=False, markup=False), found["recipe"]
    table = Table(title=f"{recipe} {found['version'] or ''}: as of {found['as_of'][:16]} UTC", title_justify="left")
    for name in ("signal", "verdict", "says", "counts"):
        table.add_column(name)
    for one in found["signals"]:
        style = "bold red" if one["verdict"] == "alarm" else None
        table.add_row(one["name"], one["verdict"], one["says"], "yes" if one["counts"] else "no", style=style)
    console.print(table)
    for closing in closing_lines(found):
        console.print(closing, soft_wrap=True)
    for name, file in (("page", paths.page_file(project, recipe)), ("drift", paths.drift_file(project, recipe))):
        if file.is_file():
            console.print(f"{name:<10} {file}", soft_wrap=True)


def closing_lines(found: "MonitoringVerdict") -> list[str]:
    decision = found["decision"]
    lines = [f"retrain    {'due' if decision['retrain'] else 'no'}: {'; '.join(decision['why'])}"]
    return [*lines, f"type       {decision['command']}"] if decision["retrain"] else lines
