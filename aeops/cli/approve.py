"""`ae approve RECIPE VERSION --by NAME --why TEXT`: make a version that waits for approval the champion."""

import argparse
from typing import Any

from aeops.cli.decide import add_arguments, decide_and_print


def add_command(commands: Any) -> None:
    """Add `ae approve` to the commands of the parser."""
    command = commands.add_parser("approve", help="make a version that waits for approval the champion")
    add_arguments(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Approve the version; return the exit code."""
    return decide_and_print(arguments, "approve")
