"""`ae rollback RECIPE`: make a former champion the champion again, at once, and record it in the ledger."""

import argparse
from typing import Any


def add_command(commands: Any) -> None:
    """Add `ae rollback` to the commands of the parser."""
    command = commands.add_parser("rollback", help="make a former champion the champion again")
    command.add_argument("recipe", help="name of a recipe, such as digits")
    command.add_argument("--to", metavar="VERSION", help="a version that was champion (default: the one before this one)")
    command.add_argument("--why", required=True, metavar="TEXT", help="the reason, recorded in the ledger")
    command.add_argument("--by", metavar="NAME", help="who does it (default: AE_BY, else the login name)")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Move the alias and print the change."""
    from aeops.cli.actors import actor_name
    from aeops.cli.recipe_names import require_recipe_name
    from aeops.monitoring.run_notices import tell_decision
    from aeops.project import find_project
    from aeops.recipe.reader import load_recipe
    from aeops.registry import promotion
    from aeops.registry.store import open_store
    from aeops.registry.trust import require_signing_key, trusted_bundle

    project, recipe = find_project(), arguments.recipe
    require_recipe_name(project, recipe)
    store = open_store(project)

    def require_trusted(version: str) -> None:
        if project.recipe_file(recipe).is_file():  # without it nothing can be served and no signature is required
            checked = load_recipe(project, recipe, with_keys=True)
            trusted_bundle(project, store, checked, version)
            require_signing_key(store, checked)

    decided_by = actor_name(arguments.by)
    line = promotion.rollback(store, recipe, arguments.to, who=decided_by, why=arguments.why, admit=require_trusted)
    old_version = line.from_version or "none"
    print(f"champion   {recipe} {line.to_version} (before: {old_version}), by {line.who}: line {line.number} of the ledger")
    print(f"next       services follow by themselves, after the checks of every new champion: ae status | ae history {recipe}")
    tell_decision(project, line)
    return 0
