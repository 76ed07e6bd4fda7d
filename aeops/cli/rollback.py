"""`ae rollback RECIPE`: a former champion is champion again, at once and on the record."""

import argparse
from typing import Any


def add_command(commands: Any) -> None:
    """Add `ae rollback` to the commands of the parser."""
    command = commands.add_parser("rollback", help="make a former champion the champion again")
    command.add_argument("recipe", help="name of a recipe, such as digits")
    command.add_argument("--to", metavar="VERSION", help="a version that was champion (default: the one before this one)")
    command.add_argument("--why", required=True, metavar="TEXT", help="kept in the ledger")
    command.add_argument("--by", metavar="NAME", help="who does it (default: AE_BY, else the login name)")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Moves the alias and prints what was moved."""
    from aeops.cli.recipe_names import require_known
    from aeops.project import find_project
    from aeops.recipe.reader import load_recipe
    from aeops.registry import ledger, promotion
    from aeops.registry.store import open_store
    from aeops.registry.trust import trusted_bundle

    project, recipe = find_project(), arguments.recipe
    require_known(project, recipe)
    store = open_store(project)

    def admit(version: str) -> None:
        if project.recipe_file(recipe).is_file():  # else nothing can be served, and nothing requires a signature
            trusted_bundle(project, store, load_recipe(project, recipe, with_keys=True), version)

    who = ledger.current_actor() if arguments.by is None else arguments.by
    line = promotion.rollback(store, recipe, arguments.to, who=who, why=arguments.why, admit=admit)
    previous = line.from_version or "none"
    print(f"champion   {recipe} {line.to_version} (before: {previous}), by {line.who}: line {line.number} of the ledger")
    print(f"next       restart what serves: `ae serve {recipe}` goes on with the version it began with | ae history {recipe}")
    return 0
