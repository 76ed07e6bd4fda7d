"""`ae ledger [list [RECIPE]]`: print the decisions of all recipes, a line each.

`ae ledger verify [RECIPE]`: check that every line is there, unchanged, and that the champion is the one of the ledger.

`ae ledger head [RECIPE]` prints what to keep elsewhere, so that a ledger which was replaced altogether is found, too.
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aeops.cli.outputs import add_json_option, print_json

if TYPE_CHECKING:
    from aeops.project import Project
    from aeops.registry.store import Store


def add_command(commands: Any) -> None:
    """Add `ae ledger` to the commands of the parser."""
    command = commands.add_parser("ledger", help="list the ledger of a recipe, or of all; verify it; print its head")
    ledger_commands = command.add_subparsers(dest="action", metavar="ACTION", help="(default: list)")
    listing = ledger_commands.add_parser("list", help="list every decision, a line each")
    command.set_defaults(recipe=None)
    full_help = "with the evidence, the account and the whole reason of each entry"
    for lister in (command, listing):
        lister.add_argument("--full", action="store_true", help=full_help)
        lister.set_defaults(run=run_list)
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
    for subcommand in (command, listing, verify):
        add_json_option(subcommand)
    for subcommand in (listing, verify, head):
        subcommand.add_argument("recipe", nargs="?", help="name of a recipe, such as digits (default: every recipe)")


def run_list(arguments: argparse.Namespace) -> int:
    """Print the entries of each ledger; return 0.

    Raises:
        UsageError: an unknown recipe, or no ledger.
        DataError: a ledger is not intact.
    """
    from aeops.cli.history import history_document, print_entries
    from aeops.errors import UsageError
    from aeops.project import find_project
    from aeops.registry import ledger

    project = find_project()
    names = selected_names(project, arguments.recipe, set(ledger.recipes_with_ledger(project)))
    entries_by_name = {name: ledger.read_entries(project, name) for name in names}
    if not any(entries_by_name.values()):
        raise UsageError(f"no ledger yet: `ae run {arguments.recipe or 'RECIPE'}` writes its first entry")
    if arguments.json:
        print_json([history_document(name, entries, None) for name, entries in entries_by_name.items()])
        return 0
    for name, entries in entries_by_name.items():
        print_entries(name, entries, is_full=arguments.full)
    return 0


def run_verify(arguments: argparse.Namespace) -> int:
    """Print one line for each recipe, or its problems; return 0 if every ledger is intact, else the data exit code."""
    from aeops.errors import DataError
    from aeops.project import find_project
    from aeops.recipe.reader import recipe_names
    from aeops.registry import ledger
    from aeops.registry.store import open_store

    project = find_project()
    with_ledger = set(ledger.recipes_with_ledger(project))
    names = selected_names(project, arguments.recipe, {*recipe_names(project), *with_ledger})
    store = open_store(project)
    documents = [verify_ledger(store, name, arguments.head) for name in names]
    if arguments.json:
        print_json(documents)
    else:
        named = []
        for document in documents:
            if document["problems"] or arguments.recipe or document["recipe"] in with_ledger:
                named.append(document)
        print_verified(named, len(documents) - len(named))
    return DataError.exit_code if any(document["problems"] for document in documents) else 0


def verify_ledger(store: "Store", name: str, head_file: Path | None) -> dict[str, Any]:
    """Return recipe, entries, champion, problems and notes of a ledger; entries and champion of an intact one only."""
    from aeops.registry import ledger, promotion

    problems = [*promotion.find_problems(store, name), *find_head_problems(store.project, name, head_file)]
    document: dict[str, Any] = {"recipe": name, "entries": None, "champion": None, "problems": problems, "notes": []}
    if problems:
        return document
    entries = ledger.read_entries(store.project, name)
    facts = {"entries": len(entries), "champion": ledger.champion_at(entries), "notes": list(ledger.find_wrong_clocks(entries))}
    return document | facts


def print_verified(documents: list[dict[str, Any]], unused: int) -> None:
    """Print one line for each ledger, or its problems; how many recipes have none."""
    from aeops.cli.outputs import count_text

    for document in documents:
        if document["problems"]:
            print(f"{document['recipe']}: faulty")
            for problem in document["problems"]:
                print(f"  - {problem}")
            continue
        print(f"{document['recipe']}: {ledger_summary(document)}")
        for sentence in document["notes"]:
            print(f"  note: {sentence}")
    if unused:
        print(f"{count_text(unused, 'recipe')} without a ledger yet")


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


def ledger_summary(document: dict[str, Any]) -> str:
    """Return the number of an intact ledger's lines and its champion."""
    from aeops.cli.outputs import count_text

    if not document["entries"]:
        return "no ledger yet"
    return f"whole, {count_text(document['entries'], 'line')}, champion {document['champion'] or 'none'}"
