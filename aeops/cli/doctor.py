"""`ae doctor`: check machine, environment, state and services before a run; print a command for each fault."""

import argparse
from typing import TYPE_CHECKING, Any

from aeops.cli.outputs import add_json_option, print_json

if TYPE_CHECKING:
    from rich.table import Table

    from aeops.cli.health_checks import HealthCheck


def add_command(commands: Any) -> None:
    """Add `ae doctor` to the commands of the parser."""
    command = commands.add_parser("doctor", help="check machine, versions, state and services; print what to type for each fault")
    add_json_option(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print one line for each check; return 0 if there is no fault, else the infrastructure exit code."""
    from aeops.cli.health_checks import check_all
    from aeops.cli.outputs import count_text, open_console
    from aeops.errors import InfrastructureError
    from aeops.machine.environment import prepare_environment
    from aeops.project import find_project

    project = find_project()
    prepare_environment(project)
    if arguments.json:
        checks = list(check_all(project))
        fault_count = sum(check.level == "fault" for check in checks)
        print_json({"faults": fault_count, "checks": list(map(vars, checks))})
        return InfrastructureError.exit_code if fault_count else 0
    console = open_console()
    fault_count = 0
    for check in check_all(project):
        console.print(_check_row(check))
        if check.type_this:
            console.print(f"                   type: {check.type_this}", soft_wrap=True)
        fault_count += check.level == "fault"
    if not fault_count:
        console.print("ready: this project can run")
        return 0
    console.print(count_text(fault_count, "fault"))
    return InfrastructureError.exit_code


def _check_row(check: "HealthCheck") -> "Table":
    """Return a check as a row: its message goes on below itself where the terminal is narrow."""
    from rich.table import Table

    row = Table.grid(padding=(0, 1, 0, 0))
    row.add_column(width=5, no_wrap=True, style={"good": "green", "note": "yellow", "fault": "red"}[check.level])
    row.add_column(min_width=12, no_wrap=True)
    row.add_column(overflow="fold")
    row.add_row(check.level, check.subject, check.message)
    return row
