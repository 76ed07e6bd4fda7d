"""`ae down`: stops what `ae up` has started, and nothing else."""

import argparse
from typing import Any

from aeops.project import find_project


def add_command(commands: Any) -> None:
    """Add `ae down` to the commands of the parser."""
    command = commands.add_parser("down", help="stop what `ae up` has started")
    command.set_defaults(run=run)


def run(_arguments: argparse.Namespace) -> int:
    """Returns 0, also where nothing runs. A run that is stopped goes on at its last checkpoint when it is started again."""
    from aeops.stack.startup import take_down

    stopped = take_down(find_project())
    print(f"stopped    {', '.join(stopped)}" if stopped else "nothing runs here")
    return 0
