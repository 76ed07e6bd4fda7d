"""`ae down`: stop the processes that `ae up` has started, and nothing else."""

import argparse
from typing import Any

from aeops.project import find_project


def add_command(commands: Any) -> None:
    """Add `ae down` to the commands of the parser."""
    command = commands.add_parser("down", help="stop what `ae up` has started")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Stop the local stack; return 0, also where nothing runs.

    A training that is stopped continues from its last checkpoint when it is started again.
    """
    from aeops.stack.startup import take_down

    service_names = take_down(find_project())
    if service_names:
        print(f"stopped    {', '.join(service_names)}")
    else:
        print("nothing runs here")
    return 0
