"""`ae why PREDICTION | RECIPE@VERSION`: what stands behind a score or a model, link by link, and where to look."""

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aeops.provenance.why import ChainLink


def add_command(commands: Any) -> None:
    """Add `ae why` to the commands of the parser."""
    command = commands.add_parser("why", help="say what stands behind a prediction or a version, and where to look")
    command.add_argument("what", metavar="PREDICTION | RECIPE@VERSION", help="such as 7f3a9c2e-12 (ae score prints it) or digits@7")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Prints the chain; returns 0 where every link holds, else the exit code of data errors."""
    from aeops.cli.rebuild import recipe_and_version, require_registered
    from aeops.errors import UsageError
    from aeops.predictions.prediction_store import ID
    from aeops.project import find_project
    from aeops.provenance.why import why_prediction, why_version
    from aeops.registry.store import open_store

    what = arguments.what
    if ID.fullmatch(what) is None and "@" not in what:
        raise UsageError(f"{what!r} given; a prediction such as 7f3a9c2e-12 or a version such as digits@7 is allowed")
    project = find_project()
    store = open_store(project)
    if "@" in what:
        recipe, which = recipe_and_version(what)
        require_registered(project, store, recipe)
        return show(why_version(project, store, recipe, which))
    return show(why_prediction(project, store, what))


def show(links: list["ChainLink"]) -> int:
    """Prints the links; returns the exit code."""
    from rich.console import Console

    from aeops.errors import DataError

    console = Console(highlight=False, soft_wrap=True)
    for link in links:
        console.print(f"{link.name:<11}{link.says}", markup=False)
        console.print(f"{'':<11}look: {link.look}", markup=False, style="dim")
        if link.fault:
            console.print(f"{'':<11}does not hold: {link.fault}", markup=False, style="bold red")
    broken = [link.name for link in links if link.fault]
    if broken:
        console.print(f"{len(broken)} of {len(links)} links do not hold: {', '.join(broken)}", markup=False)
    return DataError.exit_code if broken else 0
