"""`ae rebuild RECIPE@VERSION`: rebuild a registered version from its record and compare it with the registered one."""

import argparse
from typing import TYPE_CHECKING, Any

from aeops.cli.outputs import add_json_option, print_json

if TYPE_CHECKING:
    from aeops.project import Project
    from aeops.provenance.rebuild.differences import ComparedItem
    from aeops.provenance.rebuild.execute import RebuildResult
    from aeops.registry.store import Store


def add_command(commands: Any) -> None:
    """Add `ae rebuild` to the commands of the parser."""
    command = commands.add_parser("rebuild", help="rebuild a registered version from its record and compare the two")
    command.add_argument("version", metavar="RECIPE@VERSION", help="such as digits@7 or digits@champion")
    command.add_argument("--keep", action="store_true", help="keep the folder of the rebuild")
    add_json_option(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the comparison and its verdict.

    Returns:
        0 if the rebuild is identical or equivalent, else the exit code of the gate.
    """
    recipe, version = split_version(arguments.version)
    from aeops.errors import GateError
    from aeops.machine.environment import require_disk_space
    from aeops.project import find_project
    from aeops.provenance.rebuild.execute import SUCCESS_VERDICTS, rebuild
    from aeops.registry.store import open_store

    project = find_project()
    require_disk_space(project)
    store = open_store(project)
    require_registered(project, store, recipe)
    result = rebuild(project, store, recipe, version, keep_files=arguments.keep)
    if arguments.json:
        print_json(comparison_document(result))
    else:
        print_comparison(result)
    if result.comparison.verdict in SUCCESS_VERDICTS:
        return 0
    return GateError.exit_code


def split_version(text: str) -> tuple[str, str]:
    """Return the two halves of RECIPE@VERSION.

    Raises:
        UsageError: the text has another form.
    """
    from aeops.errors import UsageError

    recipe, _, version = text.partition("@")
    if not recipe or not version or "'" in recipe:
        raise UsageError(f"expected RECIPE@VERSION, such as digits@7 or digits@champion, got {text!r}")
    return recipe, version


def require_registered(project: "Project", store: "Store", recipe: str) -> None:
    """Require a recipe that the registry or the project has.

    Raises:
        UsageError: neither has it; the message suggests a near match.
    """
    from aeops.cli.recipe_names import require_recipe_name

    if store.model(recipe) is None:
        require_recipe_name(project, recipe)


def comparison_document(result: "RebuildResult") -> dict[str, Any]:
    """Return the output of --json: the verdict with its reasons, and each compared value."""
    return {
        "version": result.name,
        "verdict": result.comparison.verdict,
        "reasons": list(result.comparison.reasons),
        "items": list(map(_item_document, result.comparison.items)),
        "seconds": result.seconds,
        "scratch_folder": str(result.scratch_folder) if result.scratch_folder is not None else None,
    }


def _item_document(item: "ComparedItem") -> dict[str, Any]:
    return {"name": item.name, "registered": item.recorded_text, "rebuilt": item.rebuilt_text, "same": item.is_same}


def print_comparison(result: "RebuildResult") -> None:
    """Print the compared values as a table, then the time taken and the verdict."""
    from rich.table import Table

    from aeops.cli.outputs import durations_text, open_console, styled_text

    table = Table(title=f"{result.name}: registered and rebuilt", title_justify="left")
    table.add_column("what")
    for name in ("registered", "rebuilt"):
        table.add_column(name, justify="right")
    table.add_column("same?")
    for row in result.comparison.items:
        same_text = styled_text("yes")
        if not row.is_same:
            same_text = styled_text(("no", "bold red"))
        table.add_row(row.name, row.recorded_text, row.rebuilt_text, same_text)
    console = open_console(soft_wrap=True)
    console.print(table)
    console.print(f"took       {durations_text(result.seconds.items())}")
    console.print(styled_text("verdict    ", (result.comparison.verdict, "bold")))
    for sentence in result.comparison.reasons:
        console.print(f"           - {sentence}")
    if result.scratch_folder is not None:
        console.print(f"left in    {result.scratch_folder}")
