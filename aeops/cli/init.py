"""`ae init [FOLDER]`: make a project of a folder, with what every other command needs."""

import argparse
import shlex
from pathlib import Path
from typing import Any


def add_command(commands: Any) -> None:
    """Add `ae init` to the commands of the parser."""
    command = commands.add_parser("init", help="make a project of a folder: recipes, settings, and what DVC and Prefect need")
    command.add_argument("folder", nargs="?", type=Path, default=Path(), help="may be a git repository (default: this folder)")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Make or complete the project; print what was written and what to type next.

    Raises:
        UsageError: something is in the way; names all of it, and nothing was written.
        DataError: git is not installed, or cannot make a repository.
    """
    from aeops.data.new_project import create_project

    made = create_project(arguments.folder)
    if made.written:
        print(f"project    {made.root}")
        print(f"wrote      {', '.join(made.written)}")
    else:
        print(f"{made.root} is a project already: nothing was changed")
    for note in made.notes:
        print(f"note       {note}")
    steps = ["type `ae new NAME --from PATH` (or write a recipe to recipes/NAME.yaml)", "`ae run NAME`"]
    if made.root != Path.cwd():
        steps.insert(0, f"type `cd {shlex.quote(str(made.root))}`")
    print(f"next       {', then '.join(steps)}")
    return 0
