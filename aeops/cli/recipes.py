"""`ae recipes`: list the project's recipes."""

import argparse
from typing import Any

from aeops.cli.outputs import add_json_option, print_json


def add_command(commands: Any) -> None:
    """Add `ae recipes` to the commands of the parser."""
    command = commands.add_parser("recipes", help="list the recipes of the project")
    add_json_option(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print each recipe with its purpose and its data, and whether it has run; of one with mistakes, how many."""
    from aeops.cli.outputs import NARROW, open_console, open_table
    from aeops.errors import UsageError
    from aeops.project import find_project
    from aeops.recipe.reader import recipe_names

    project = find_project()
    facts = [recipe_facts(project, name) for name in recipe_names(project)]
    if arguments.json:
        print_json(facts)
        return 0
    if not facts:
        raise UsageError(
            f"no recipe in {project.recipes}: type `ae new NAME --from PATH`, or write one: `ae docs recipe-reference`"
        )
    console = open_console()
    table = open_table(console, f"recipes of {project.root}")
    columns = {"recipe": "recipe", "purpose": "purpose", "kind": "kind", "dataset": "dataset", "last run": "last_verdict"}
    if console.width < NARROW:  # they would leave a few characters a line to what the recipe is about
        columns = {"recipe": "recipe", "purpose": "purpose", "last run": "last_verdict"}
    for title in (*columns, "about"):
        table.add_column(title, no_wrap=title != "about")
    for one in facts:
        about = one["about"] if one["mistakes"] == 0 else f"{one['mistakes']} mistakes: ae recipe check {one['recipe']}"
        table.add_row(*(one[key] or "-" for key in columns.values()), about)
    console.print(table)
    return 0


def recipe_facts(project: Any, name: str) -> dict[str, Any]:
    """Return a recipe's facts: recipe, purpose, kind, dataset, about (its first sentence), last_verdict and mistakes."""
    from aeops.errors import UsageError
    from aeops.gate.evidence import read_verdict
    from aeops.recipe.reader import load_recipe

    verdict_file = project.artifacts(name) / "verdict.json"
    verdict = read_verdict(verdict_file)["verdict"] if verdict_file.is_file() else None
    facts = {"recipe": name, "purpose": "", "kind": "", "dataset": "", "about": "", "last_verdict": verdict, "mistakes": 0}
    try:
        recipe = load_recipe(project, name)
    except UsageError as error:
        return facts | {"mistakes": len(str(error).splitlines())}
    about = " ".join(recipe.about.split()).split(". ")[0].rstrip(".")
    return facts | {
        "purpose": recipe.purpose,
        "kind": recipe.fit.input.kind,
        "dataset": recipe.data.dataset,
        "about": about,
    }
