"""`ae ledger verify [RECIPE]`: check that every line is there, unchanged, and that the champion is the one of the ledger.

`ae ledger head [RECIPE]` prints what to keep elsewhere, so that a ledger which was replaced altogether is found, too.
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aeops.project import Project
    from aeops.registry.ledger import LedgerEntry


def add_command(commands: Any) -> None:
    """Add `ae ledger` to the commands of the parser."""
    command = commands.add_parser("ledger", help="verify the ledger of a recipe, or of all; print its head")
    ledger_commands = command.add_subparsers(dest="action", metavar="ACTION", required=True)
    verify = ledger_commands.add_parser(
        "verify", help="list every line that was edited, removed or swapped, and champions moved outside ae"
    )
    verify.add_argument(
        "--head",
        type=Path,
        metavar="FILE",
        help="a file of `ae ledger head`, which the ledger has to hold",
    )
    verify.set_defaults(run=run_verify)
    head = ledger_commands.add_parser("head", help="print the newest line's hash and the champion, as JSON to keep elsewhere")
    head.set_defaults(run=run_head)
    for subcommand in (verify, head):
        subcommand.add_argument("recipe", nargs="?", help="name of a recipe, such as digits (default: every recipe)")


def run_verify(arguments: argparse.Namespace) -> int:
    """Print one line for each recipe, or its problems; return 0 if every ledger is intact, else the data exit code."""
    from aeops.errors import DataError
    from aeops.project import find_project
    from aeops.recipe.reader import recipe_names
    from aeops.registry import ledger, promotion
    from aeops.registry.store import open_store

    project = find_project()
    names = selected_names(project, arguments.recipe, {*recipe_names(project), *ledger.recipes_with_ledger(project)})
    store = open_store(project)
    exit_code = 0
    for name in names:
        problems = [*promotion.find_problems(store, name), *find_head_problems(project, name, arguments.head)]
        if not problems:
            entries = ledger.read_entries(project, name)
            print(f"{name}: {ledger_summary(entries)}")
            for sentence in ledger.find_wrong_clocks(entries):
                print(f"  note: {sentence}")
            continue
        exit_code = DataError.exit_code
        print(f"{name}: faulty")
        for problem in problems:
            print(f"  - {problem}")
    return exit_code


def run_head(arguments: argparse.Namespace) -> int:
    """Print the head of each ledger as a line of JSON; return 0.

    Raises:
        UsageError: an unknown recipe, or one without a ledger.
        DataError: a ledger is not intact.
    """
    from aeops.errors import UsageError
    from aeops.project import find_project
    from aeops.registry import ledger
    from aeops.registry.champion_anchor import build_head

    project = find_project()
    for name in selected_names(project, arguments.recipe, set(ledger.recipes_with_ledger(project))):
        entries = ledger.read_entries(project, name)
        if not entries:
            raise UsageError(f"{name} has no ledger yet: `ae run {name}` writes its first entry")
        print(json.dumps(build_head(project, name, entries).to_dict(), ensure_ascii=False, sort_keys=True))
    return 0


def selected_names(project: "Project", recipe: str | None, names: set[str]) -> list[str]:
    """Return the one recipe that was named, or all of them in order.

    Raises:
        UsageError: there is no such recipe.
    """
    from aeops.cli.recipe_names import require_recipe_name

    if recipe is None:
        return sorted(names)
    require_recipe_name(project, recipe)
    return [recipe]


def find_head_problems(project: "Project", name: str, head_file: Path | None) -> list[str]:
    """Return how a ledger differs from the head that was kept of it; an empty list where none was kept, or none is named."""
    from aeops.errors import DataError
    from aeops.registry import ledger
    from aeops.registry.champion_anchor import configured_head_file, read_heads, require_head

    head_file = head_file or configured_head_file()
    if head_file is None:
        return []
    head = read_heads(head_file).get(name)
    if head is None:
        return []
    try:
        require_head(ledger.read_content(project, name).entries, head)
    except DataError as error:
        return [str(error)]
    return []


def ledger_summary(entries: list["LedgerEntry"]) -> str:
    """Return the number of an intact ledger's lines and its champion."""
    from aeops.cli.outputs import count_text
    from aeops.registry import ledger

    if not entries:
        return "no ledger yet"
    return f"whole, {count_text(len(entries), 'line')}, champion {ledger.champion_at(entries) or 'none'}"
