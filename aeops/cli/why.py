"""`ae why PREDICTION | RECIPE@VERSION`: print the evidence behind a prediction or a version, link by link."""

import argparse
from typing import TYPE_CHECKING, Any

from aeops.cli.outputs import add_json_option, print_json

if TYPE_CHECKING:
    from aeops.provenance.why import ChainLink


def add_command(commands: Any) -> None:
    """Add `ae why` to the commands of the parser."""
    command = commands.add_parser("why", help="print the evidence behind a prediction or a version, and where it is stored")
    command.add_argument(
        "what", metavar="PREDICTION | RECIPE@VERSION", help="such as 7f3a9c2e-12 (ae score prints it) or digits@7"
    )
    add_json_option(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the chain; return 0 if every link holds, else the exit code of data errors."""
    from aeops.cli.rebuild import require_registered, split_version
    from aeops.errors import UsageError
    from aeops.predictions.prediction_store import PREDICTION_ID
    from aeops.project import find_project
    from aeops.provenance.why import why_prediction, why_version
    from aeops.registry.store import open_store

    name = arguments.what
    if PREDICTION_ID.fullmatch(name) is None and "@" not in name:
        raise UsageError(
            f"expected a prediction such as 7f3a9c2e-12 or a version such as digits@7, got {name!r}: "
            "ae show RECIPE lists versions, ae score RECIPE FILE makes predictions"
        )
    project = find_project()
    store = open_store(project)
    if "@" not in name:
        return print_links(why_prediction(project, store, name), arguments.json)
    recipe, version = split_version(name)
    require_registered(project, store, recipe)
    return print_links(why_version(project, store, recipe, version), arguments.json)


def print_links(links: list["ChainLink"], as_json: bool) -> int:
    """Print each link with its location; return the exit code."""
    from aeops.cli.outputs import open_console
    from aeops.errors import DataError

    broken_links = [link.name for link in links if link.problem]
    exit_code = DataError.exit_code if broken_links else 0
    if as_json:
        print_json({"holds": not broken_links, "links": list(map(vars, links))})
        return exit_code
    console = open_console(soft_wrap=True)
    for link in links:
        console.print(f"{link.name:<11}{link.message}")
        console.print(f"{'':<11}look: {link.location}", style="dim")
        if link.problem:
            console.print(f"{'':<11}does not hold: {link.problem}", style="bold red")
    if broken_links:
        console.print(f"{len(broken_links)} of {len(links)} links do not hold: {', '.join(broken_links)}")
    return exit_code
