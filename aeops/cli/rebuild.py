"""`ae rebuild RECIPE@VERSION`: makes a registered version again from its record, and says whether it is the same."""

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aeops.project import Project
    from aeops.provenance.rebuild.execute import RebuildResult
    from aeops.registry.store import Store


def add_command(commands: Any) -> None:
    """Add `ae rebuild` to the commands of the parser."""
    command = commands.add_parser("rebuild", help="make a registered version again from its record, and say whether it is the same")
    command.add_argument("version", metavar="RECIPE@VERSION", help="such as digits@7 or digits@champion")
    command.add_argument("--keep", action="store_true", help="leave what was rebuilt where it is, for a look")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Prints what was compared and the verdict; returns 0 where it is identical or equivalent, else the gate's exit code."""
    recipe, which = recipe_and_version(arguments.version)
    from aeops.errors import GateError
    from aeops.machine.environment import require_disk_space
    from aeops.project import find_project
    from aeops.provenance.rebuild.execute import SUCCESS_VERDICTS, rebuild
    from aeops.registry.store import open_store

    project = find_project()
    require_disk_space(project)
    store = open_store(project)
    require_registered(project, store, recipe)
    done = rebuild(project, store, recipe, which, keep=arguments.keep)
    show(done)
    return 0 if done.likeness.verdict in SUCCESS_VERDICTS else GateError.exit_code


def recipe_and_version(given: str) -> tuple[str, str]:
    """The two halves of RECIPE@VERSION; raises UsageError where it has another form."""
    from aeops.errors import UsageError

    recipe, _, which = given.partition("@")
    if not recipe or not which or "'" in recipe:
        raise UsageError(f"{given!r} given; RECIPE@VERSION is allowed, such as digits@7 or digits@champion")
    return recipe, which


def require_registered(project: "Project", store: "Store", recipe: str) -> None:
    """Raises UsageError with near matches for a name that neither the registry nor the project knows."""
    from aeops.cli.recipe_names import require_known

    if store.model(recipe) is None:
        require_known(project, recipe)


def show(done: "RebuildResult") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{done.name}: registered and rebuilt", title_justify="left")
    table.add_column("what")
    for name in ("registered", "rebuilt"):
        table.add_column(name, justify="right")
    table.add_column("same?")
    for row in done.likeness.rows:
        table.add_row(row.what, row.recorded, row.rebuilt, "yes" if row.same else "[bold red]no[/]")
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    console.print("took       " + ", ".join(f"{stage} {took:.1f} s" for stage, took in done.seconds.items()))
    console.print(f"verdict    [bold]{done.likeness.verdict}[/]")
    for sentence in done.likeness.says:
        console.print(f"           - {sentence}", markup=False)
    if done.scratch is not None:
        console.print(f"left in    {done.scratch}", markup=False)
