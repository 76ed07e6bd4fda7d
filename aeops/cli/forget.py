"""`ae forget RECIPE --ids FILE --why TEXT`: samples go from the data, from all that was made of it, and do not come back."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ae_models.mappings import select_keys
from aeops.cli.outputs import add_json_option, print_json
from aeops.errors import UsageError

if TYPE_CHECKING:
    from aeops.project import Project
    from aeops.recipe.reader import Recipe
    from aeops.registry.store import Store


def add_command(commands: Any) -> None:
    """Add `ae forget` to the commands of the parser."""
    command = commands.add_parser("forget", help="delete samples from the data and from all that was made of it")
    command.add_argument("recipe", help="name of a recipe that reads the data, such as digits")
    command.add_argument("--ids", type=Path, metavar="FILE", help="a text file with one id a line; without it: go on")
    command.add_argument("--why", metavar="TEXT", help="the reason, recorded in the ledger")
    command.add_argument("--by", metavar="NAME", help="who does it (default: AE_BY, else the login name)")
    add_json_option(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Forget samples, or complete a forgetting that was interrupted, and print what was done and what was not reached.

    Returns:
        0.

    Raises:
        UsageError: no ids or no reason, or nothing to go on with.
        DataError: an id that no version of the data holds. Nothing is deleted.
        InfrastructureError: the remote cannot be reached, a run is in progress, or a service is running. Nothing is deleted.
    """
    from aeops.machine.environment import prepare_environment
    from aeops.machine.lock import run_lock
    from aeops.project import find_project
    from aeops.provenance.forgetting.carry_out import carry_out, unreached
    from aeops.recipe.reader import load_recipe
    from aeops.registry.store import open_store

    project = find_project()
    recipe = load_recipe(project, arguments.recipe)
    prepare_environment(project)
    steps: list[dict[str, str]] = []

    def report(word: str, sentence: str) -> None:
        steps.append({"step": word, "done": sentence})
        if not arguments.json:
            print(f"{word:<12}{sentence}", flush=True)

    with run_lock(project, f"ae forget {recipe.name}"):
        store = open_store(project)
        pending = _begin(arguments, recipe, project, store, report)
        carry_out(project, store, pending, report)
    left = unreached(project, pending)
    if arguments.json:
        facts = select_keys(pending, ("dataset", "ids", "why", "who", "versions"))
        print_json({**facts, "steps": steps, "not_reached": left})
        return 0
    for place in left:
        print(f"{'not reached':<12}{place}")
    print(f"{'next':<12}git add data.dvc recipes && git commit | ae run {recipe.name}")
    return 0


def _begin(
    arguments: argparse.Namespace, recipe: "Recipe", project: "Project", store: "Store", report: Callable[[str, str], None]
) -> dict[str, Any]:
    """Return the record of what is to be done: one that was left, or of these samples."""
    from aeops.cli.actors import actor_name
    from aeops.data.pending_forgetting import read_pending
    from aeops.provenance.forgetting.ids_file import name_some, read_ids
    from aeops.provenance.forgetting.plan import plan_forgetting

    pending = read_pending(project, recipe.data.dataset)
    ids, repeated = read_ids(arguments.ids) if arguments.ids is not None else ([], 0)
    if pending is None and (not ids or arguments.why is None):
        raise UsageError(f"expected the ids and the reason: type `ae forget {recipe.name} --ids FILE --why TEXT`")
    if pending is not None and ids and set(ids) != set(pending["ids"]):
        raise UsageError(
            f"another forgetting of {recipe.data.dataset} was interrupted: complete it with `ae forget {recipe.name}`, then "
            "type this command again"
        )
    if repeated:
        report("note", f"{repeated:,} lines of {arguments.ids} repeat an id")
    if pending is not None:
        report("note", f"goes on with what was begun at {pending['time']} by {pending['who']}")
        return pending
    pending = plan_forgetting(project, store, recipe, ids, actor_name(arguments.by), arguments.why)
    if copies := pending["copies"]:
        report("note", f"{len(copies):,} other samples have the same content and stay: {name_some(copies)}")
    return pending
