"""`ae monitor RECIPE`: check the champion once; print its signals and the decision to retrain. Starts no training."""

import argparse
from typing import TYPE_CHECKING, Any

from aeops.cli.outputs import add_json_option, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from aeops.monitoring.column_record import ColumnRecord
    from aeops.monitoring.verdict import MonitoringVerdict
    from aeops.project import Project

MAX_COLUMNS = 10  # of a table, those that have moved most


def add_command(commands: Any) -> None:
    """Add `ae monitor` to the commands of the parser."""
    command = commands.add_parser("monitor", help="check that the champion still sees data like that of its calibration")
    command.add_argument("recipe", help="name of a file in recipes/, such as digits")
    command.add_argument(
        "--as-of",
        metavar="TIME",
        help="check as of that time: an ISO date (its start) or time; without a zone, this machine's zone",
    )
    add_json_option(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check the champion and print the signals; return 0, also for an alarm, which is a result."""
    from datetime import UTC, datetime

    from aeops.cli.history import parse_as_of
    from aeops.machine.environment import prepare_environment
    from aeops.monitoring.check import run_check
    from aeops.project import find_project
    from aeops.recipe.reader import load_recipe

    project = find_project()
    recipe = load_recipe(project, arguments.recipe)
    prepare_environment(project)
    as_of = datetime.now(UTC)
    if arguments.as_of is not None:
        as_of = parse_as_of(arguments.as_of)
    verdict = run_check(project, recipe, as_of, force_drift=True)
    if arguments.json:
        print_json(verdict)
    else:
        print_signals(verdict, project)
    return 0


def print_columns(columns: "Sequence[ColumnRecord]", console: "Console") -> None:
    """Print the columns of a table that have moved most, their values beside the usual ones; nothing of other samples."""
    from aeops.cli.outputs import open_table, yes_or_no
    from aeops.machine.terminal import escape_line

    if not columns:
        return
    title = "columns of the last 7 days beside calibration"
    if len(columns) > MAX_COLUMNS:
        title += f": the {MAX_COLUMNS} of {len(columns)} that have moved most"
    table = open_table(console, title)
    for name in ("column", "moved", "now", "usual", "missing", "alarm"):
        table.add_column(name, justify="right" if name == "moved" else "left")
    for column in columns[:MAX_COLUMNS]:
        style = "bold red" if column["alarm"] else None
        missing = f"{column['missing_recently']:.1%} ({column['missing_usually']:.1%})"
        cells = (
            column["column"],
            f"{column['moved']:.2f}",
            column["recent"],
            column["usual"],
            missing,
            yes_or_no(column["alarm"]),
        )
        table.add_row(*map(escape_line, cells), style=style)
    console.print(table)


def print_signals(verdict: "MonitoringVerdict", project: "Project") -> None:
    """Print the signals as a table, the decision, and the files to read."""
    from aeops.cli.outputs import open_console, open_table, yes_or_no
    from aeops.monitoring import paths

    console, recipe = open_console(), verdict["recipe"]
    time = verdict["as_of"][:16].replace("T", " ")
    table = open_table(console, f"{' '.join(filter(None, (recipe, verdict['version'])))}: as of {time} UTC")
    for name in ("signal", "verdict", "in words", "may start a retrain"):
        table.add_column(name)
    for signal in verdict["signals"]:
        style = None
        if signal["verdict"] == "alarm":
            style = "bold red"
        table.add_row(signal["name"], signal["verdict"], signal["says"], yes_or_no(signal["counts"]), style=style)
    console.print(table)
    print_columns(verdict.get("columns", []), console)
    decision = verdict["decision"]
    reasons = "; ".join(decision["why"])
    if not decision["retrain"]:
        console.print(f"retrain    no: {reasons}", soft_wrap=True)
    else:
        console.print(f"retrain    due: {reasons}", soft_wrap=True)
        console.print(f"type       {decision['command']}", soft_wrap=True)
    for name, file in (("page", paths.page_file(project, recipe)), ("drift", paths.drift_file(project, recipe))):
        if file.is_file():
            console.print(f"{name:<10} {file}", soft_wrap=True)
