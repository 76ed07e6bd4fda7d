"""`ae retire RECIPE`: no champion any more, on the record."""

import argparse
from typing import Any


def add_command(commands: Any) -> None:
    """Add `ae retire` to the commands of the parser."""
    command = commands.add_parser("retire", help="take the champion away: nothing is served until there is another")
    command.add_argument("recipe", help="name of a recipe, such as digits")
    command.add_argument("--why", required=True, metavar="TEXT", help="kept in the ledger")
    command.add_argument("--by", metavar="NAME", help="who does it (default: AE_BY, else the login name)")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Takes the alias away and prints how to get it back."""
    from aeops.cli.recipe_names import require_known
    from aeops.project import find_project
    from aeops.registry import ledger, promotion
    from aeops.registry.store import open_store

    project, recipe = find_project(), arguments.recipe
    require_known(project, recipe)
    who = ledger.current_actor() if arguments.by is None else arguments.by
    line = promotion.retire(open_store(project), recipe, who=who, why=arguments.why)
    print(f"champion   none (before: {line.from_version or 'none'}), by {line.who}: line {line.number} of the ledger")
    print(f"next       stop what serves version {line.version} | take it back: ae rollback {recipe} --why TEXT")
    return 0
