"""`ae doctor`: is the machine, the environment, the state and every service as a run needs them? What to type where not."""

import argparse
from typing import Any


def add_command(commands: Any) -> None:
    """Add `ae doctor` to the commands of the parser."""
    command = commands.add_parser("doctor", help="check machine, versions, state and services; says what to type for each fault")
    command.set_defaults(run=run)


def run(_arguments: argparse.Namespace) -> int:
    """Prints one line a check; returns 0 where nothing is at fault, else the infrastructure exit code."""
    from rich.console import Console
    from rich.markup import escape

    from aeops.cli.health_checks import check_all
    from aeops.errors import InfrastructureError
    from aeops.machine.environment import prepare_environment
    from aeops.project import find_project

    project = find_project()
    prepare_environment(project)
    console = Console(highlight=False)
    faults = 0
    for finding in check_all(project):
        mark = {"good": "[green]good [/]", "note": "[yellow]note [/]", "fault": "[red]fault[/]"}[finding.level]
        console.print(f"{mark} {finding.what:<12} {escape(finding.says)}", soft_wrap=True)
        if finding.type_this:
            console.print(f"                   type: {escape(finding.type_this)}", soft_wrap=True)
        faults += finding.level == "fault"
    console.print(f"{faults} fault{'s' if faults != 1 else ''}" if faults else "ready: ae run digits")
    return InfrastructureError.exit_code if faults else 0
