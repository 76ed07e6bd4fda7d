"""`ae recipe check | explain | schema`: what a recipe may say, and whether one says it."""

import argparse
import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aeops.cli.outputs import add_json_option, print_json

if TYPE_CHECKING:
    from aeops.recipe.reader import Recipe


def add_command(commands: Any) -> None:
    """Add `ae recipe` and its subcommands to the commands of the parser."""
    command = commands.add_parser("recipe", help="check a recipe, explain its keys, or print their JSON Schema")
    subcommands = command.add_subparsers(dest="subcommand", metavar="SUBCOMMAND", required=True)
    check = subcommands.add_parser("check", help="check recipes without running anything; prints every mistake at once")
    check.add_argument("recipe", nargs="+", help="a recipe's name or file, such as digits or recipes/digits.yaml")
    add_json_option(check)
    check.set_defaults(run=run_check)
    explain = subcommands.add_parser("explain", help="say what a key may be, its default and its meaning")
    explain.add_argument("key", nargs="?", default="", help="such as train.epochs or model.encode.conv (default: the sections)")
    add_json_option(explain)
    explain.set_defaults(run=run_explain)
    schema = subcommands.add_parser("schema", help="print the JSON Schema of recipes, for editors")
    schema.add_argument("--project", action="store_true", help="that of ae.yaml, the project's own settings, in their place")
    schema.set_defaults(run=run_schema)


def run_check(arguments: argparse.Namespace) -> int:
    """Read each recipe; print what it asks for.

    Raises:
        UsageError: with every mistake of all of them.
        DataError: a file that a recipe names is missing, or another one.
    """
    from aeops.data.dvc import require_path_without_braces
    from aeops.data.suite import require_known_severities
    from aeops.errors import UsageError
    from aeops.evaluation.before_training import require_named_files, require_whole_seed_record
    from aeops.project import find_project
    from aeops.recipe.reader import load_recipe

    project, mistakes, recipes = find_project(), [], []
    require_path_without_braces(project)
    for given in arguments.recipe:
        try:
            recipe = load_recipe(project, recipe_name(project.recipes, given), with_keys=True)
            require_known_severities(recipe)
            recipes.append(recipe)
        except UsageError as error:
            mistakes.append(str(error))
    for recipe in recipes:
        require_named_files(recipe, project)
        require_whole_seed_record(recipe, project)
        if not arguments.json:
            print("\n".join(summary_lines(recipe)))
    if arguments.json:
        print_json({"recipes": list(map(recipe_document, recipes)), "mistakes": mistakes})
    if mistakes:
        raise UsageError("\n".join(mistakes))
    return 0


def recipe_name(folder: Path, given: str) -> str:
    """Return the name of a recipe that is given by its name or its file.

    Raises:
        UsageError: a file outside of the project's recipes.
    """
    from aeops.errors import UsageError

    path = Path(given)
    if path.suffix != ".yaml":
        return given
    if path.resolve().parent != folder.resolve():
        raise UsageError(f"{given}: expected a file in {folder}, where recipes are looked for: move it there")
    return path.stem


def recipe_document(recipe: "Recipe") -> dict[str, Any]:
    """Return what a recipe without mistakes asks for, with every default, as --json prints it."""
    from aeops.recipe.default_rules import unchecked_warnings

    return {
        "recipe": recipe.name,
        "purpose": recipe.purpose,
        "dataset": recipe.data.dataset,
        "source": recipe.data.source.kind,
        "fit": recipe.fit.to_dict(),
        "gate": {name: rule.to_dict() for name, rule in recipe.gate.items()},
        "notes": list(unchecked_warnings(recipe.purpose, recipe.unchecked)),
    }


def summary_lines(recipe: "Recipe") -> list[str]:
    """Return what a recipe without mistakes asks for, and which default rules its gate leaves out."""
    from aeops.recipe.default_rules import unchecked_warnings

    spec = recipe.fit
    source = f"{recipe.data.source.kind} -> data/{recipe.data.dataset}"
    shape = " x ".join(map(str, spec.input.shape))
    epochs = f"{spec.train.total_epochs} epochs" + (f" of {spec.train.members} members" if spec.train.members > 1 else "")
    lines = [
        f"{recipe.name}: no mistakes",
        f"  purpose    {recipe.purpose}",
        f"  data       {source}, {spec.input.kind} {shape}",
        f"  model      {spec.model.encode.kind} -> {spec.model.bottleneck.kind} -> {spec.model.decode.kind}, {epochs}",
        f"  score      {spec.score.kind}, threshold {spec.threshold.kind}",
        f"  gate       {', '.join(recipe.gate)}",
    ]
    return [*lines, *(f"  note       {warning}" for warning in unchecked_warnings(recipe.purpose, recipe.unchecked))]


def run_explain(arguments: argparse.Namespace) -> int:
    """Print what a key is; raise UsageError where there is none of that name, or a plugin of the project fails."""
    from aeops.recipe.reference import explain

    know_project()
    lines = explain(arguments.key)
    if arguments.json:
        print_json({"key": arguments.key, "lines": lines})
    else:
        print("\n".join(lines))
    return 0


def run_schema(arguments: argparse.Namespace) -> int:
    """Print the schema; written to recipes/recipe.schema.json, recipes name it in their first line."""
    from aeops.recipe.json_schema import project_schema, recipe_schema

    know_project()
    schema = project_schema() if arguments.project else recipe_schema()
    print(json.dumps(schema, indent=1, ensure_ascii=False))
    return 0


def know_project() -> None:
    """Let this process know the own parts of the project around the current folder; without a project there are none."""
    from aeops.errors import UsageError
    from aeops.project import find_project

    with suppress(UsageError):
        find_project()
