"""`ae down`: stops what `ae up` has started, and nothing else."""

import argparse
from typing import Any

from aeops.project import find_project


def add(verbs: Any) -> None:
    verb = verbs.add_parser("down", help="stop what `ae up` has started")
    verb.set_defaults(run=run)


def run(_arguments: argparse.Namespace) -> int:
    """Returns 0, also where nothing runs. A run that is stopped goes on at its last checkpoint when it is started again."""
    from aeops.stack.startup import take_down

    stopped = take_down(find_project())
    print(f"stopped    {', '.join(stopped)}" if stopped else "nothing runs here")
    return 0
