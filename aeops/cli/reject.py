"""`ae reject RECIPE VERSION --by NAME --why TEXT`: turn away a version that waits for approval."""

import argparse
from typing import Any

from aeops.cli.decide import add_arguments, decide_and_print


def add_command(commands: Any) -> None:
    """Add `ae reject` to the commands of the parser."""
    command = commands.add_parser("reject", help="turn away a version that waits for approval")
    add_arguments(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Reject the version; return the exit code."""
    return decide_and_print(arguments, "reject")
