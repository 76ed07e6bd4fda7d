"""`ae ledger verify [RECIPE]`: is every line there, as it was written, and is the champion the one that the ledger says?"""

import argparse
from typing import Any


def add_command(commands: Any) -> None:
    """Add `ae ledger` to the commands of the parser."""
    command = commands.add_parser("ledger", help="verify the ledger of a recipe, or of all")
    actions = command.add_subparsers(dest="action", metavar="ACTION", required=True)
    verify = actions.add_parser("verify", help="name every line edited, missing or swapped, and any champion moved by hand")
    verify.add_argument("recipe", nargs="?", help="name of a recipe, such as digits (default: every recipe)")
    verify.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Prints a line a recipe, or each fault; returns 0 where all is whole, else the data exit code."""
    from aeops.cli.recipe_names import require_known
    from aeops.errors import DataError
    from aeops.project import find_project
    from aeops.recipe.reader import recipe_names
    from aeops.registry import ledger, promotion
    from aeops.registry.store import open_store

    project = find_project()
    if arguments.recipe is not None:
        require_known(project, arguments.recipe)
    names = [arguments.recipe] if arguments.recipe else sorted({*recipe_names(project), *ledger.recipes_with_ledger(project)})
    store = open_store(project)
    at_fault = 0
    for name in names:
        if faults := promotion.find_problems(store, name):
            at_fault += 1
            print(f"{name}: faulty", *(f"  - {fault}" for fault in faults), sep="\n")
            continue
        lines = ledger.read_entries(project, name)
        is_whole = f"whole, {len(lines)} line{'s' if len(lines) != 1 else ''}, champion {ledger.champion_at(lines) or 'none'}"
        print(f"{name}: {is_whole if lines else 'no ledger yet'}")
    return DataError.exit_code if at_fault else 0
