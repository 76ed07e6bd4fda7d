"""`ae retire RECIPE`: remove the champion and record it in the ledger."""

import argparse
from typing import Any


def add_command(commands: Any) -> None:
    """Add `ae retire` to the commands of the parser."""
    command = commands.add_parser("retire", help="remove the champion: nothing is served until there is another")
    command.add_argument("recipe", help="name of a recipe, such as digits")
    command.add_argument("--why", required=True, metavar="TEXT", help="the reason, recorded in the ledger")
    command.add_argument("--by", metavar="NAME", help="who does it (default: AE_BY, else the login name)")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Remove the alias and print how to restore it."""
    from aeops.cli.actors import actor_name
    from aeops.cli.recipe_names import require_recipe_name
    from aeops.monitoring.run_notices import tell_decision
    from aeops.project import find_project
    from aeops.registry import promotion
    from aeops.registry.store import open_store

    project, recipe = find_project(), arguments.recipe
    require_recipe_name(project, recipe)
    store = open_store(project)
    line = promotion.retire(store, recipe, who=actor_name(arguments.by), why=arguments.why)
    print(f"champion   none (before: {line.from_version or 'none'}), by {line.who}: line {line.number} of the ledger")
    undo = f"undo: ae rollback {recipe} --why TEXT"
    if not store.has_version(recipe, line.version):  # deleted in MLflow
        undo = f"ae run {recipe}"
    print(f"next       services answer 503 until there is a champion | {undo}")
    tell_decision(project, line)
    return 0
