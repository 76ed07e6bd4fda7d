"""`ae ledger verify [RECIPE]`: check that every line is there, unchanged, and that the champion is the one of the ledger."""

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aeops.registry.ledger import LedgerEntry


def add_command(commands: Any) -> None:
    """Add `ae ledger` to the commands of the parser."""
    command = commands.add_parser("ledger", help="verify the ledger of a recipe, or of all")
    ledger_commands = command.add_subparsers(dest="action", metavar="ACTION", required=True)
    verify = ledger_commands.add_parser(
        "verify", help="list every line that was edited, removed or swapped, and champions moved outside ae"
    )
    verify.add_argument("recipe", nargs="?", help="name of a recipe, such as digits (default: every recipe)")
    verify.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print one line for each recipe, or its problems; return 0 if every ledger is intact, else the data exit code."""
    from aeops.cli.recipe_names import require_recipe_name
    from aeops.errors import DataError
    from aeops.project import find_project
    from aeops.recipe.reader import recipe_names
    from aeops.registry import ledger, promotion
    from aeops.registry.store import open_store

    project = find_project()
    names = sorted({*recipe_names(project), *ledger.recipes_with_ledger(project)})
    if arguments.recipe is not None:
        require_recipe_name(project, arguments.recipe)
        names = [arguments.recipe]
    store = open_store(project)
    exit_code = 0
    for name in names:
        problems = promotion.find_problems(store, name)
        if not problems:
            print(f"{name}: {ledger_summary(ledger.read_entries(project, name))}")
            continue
        exit_code = DataError.exit_code
        print(f"{name}: faulty")
        for problem in problems:
            print(f"  - {problem}")
    return exit_code


def ledger_summary(entries: list["LedgerEntry"]) -> str:
    """Return the number of an intact ledger's lines and its champion."""
    from aeops.cli.outputs import count_text
    from aeops.registry import ledger

    if not entries:
        return "no ledger yet"
    return f"whole, {count_text(len(entries), 'line')}, champion {ledger.champion_at(entries) or 'none'}"
