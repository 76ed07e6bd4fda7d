"""`ae plan RECIPE`: which stages a run would run, and why. It runs nothing."""

import argparse
from typing import TYPE_CHECKING, Any

from aeops.cli.outputs import add_json_option, print_json
from aeops.project import Project, find_project

if TYPE_CHECKING:
    from aeops.provenance.run_plan import StagePlan


def add_command(commands: Any) -> None:
    """Add `ae plan` to the commands of the parser."""
    command = commands.add_parser("plan", help="say which stages a run would run, and why; runs nothing")
    command.add_argument("recipe", help="name of a file in recipes/, such as digits")
    add_settings(command)
    add_json_option(command)
    command.set_defaults(run=run)


def add_settings(command: argparse.ArgumentParser) -> None:
    """Add the options that change a recipe."""
    set_help = "a setting for the recipe, such as train.epochs=5 or model.encode.widths=[8,16]; may be repeated"
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=set_help)
    command.add_argument("--seed", type=int, help="the same as --set train.seed=SEED")


def read_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that were typed: path of a key -> value.

    Raises:
        UsageError: with each that has another form.
    """
    from aeops.errors import UsageError
    from aeops.recipe.edit import parse_setting

    settings: dict[str, Any] = {}
    mistakes = []
    for typed in arguments.set:
        try:
            path, value = parse_setting(typed)
        except UsageError as error:
            mistakes.append(f"--set: {error}")
            continue
        if path == "recipe":
            mistakes.append("--set: recipe is the name of the file: copy the file to give it another name")
        settings[path] = value
    if mistakes:
        raise UsageError("\n".join(mistakes))
    if arguments.seed is not None:
        settings["train.seed"] = arguments.seed
    return settings


def run(arguments: argparse.Namespace) -> int:
    """Print the plan of a run; raises as `show_plan` does."""
    show_plan(find_project(), arguments.recipe, read_settings(arguments), as_json=arguments.json)
    return 0


def show_plan(project: Project, name: str, settings: dict[str, Any], as_json: bool = False) -> None:
    """Print which lines of the recipe the settings change, and what a run would then do.

    Raises:
        UsageError: no such recipe, or mistakes in it with these settings.
    """
    from aeops.cli.recipe_change import changed_text, diff_lines
    from aeops.data.own_code import stage_suffixes
    from aeops.provenance.run_plan import plan_run
    from aeops.recipe.reader import load_recipe
    from aeops.recipe.yaml_reader import parse_yaml

    recipe = load_recipe(project, name)
    text = project.recipe_file(name).read_text(encoding="utf-8")
    new_text = changed_text(name, text, settings)
    raw_recipe = parse_yaml(new_text.encode(), f"{name}.yaml")
    own_code = stage_suffixes(project.root, recipe)
    plans = plan_run(project, name, raw_recipe, raw_recipe["data"]["dataset"], own_code)
    if as_json:
        print_json({plan.stage: plan.reasons for plan in plans})
        return
    for line in diff_lines(name, text, new_text):
        print(line)
    print("\n".join(plan_lines(name, plans)))


def plan_lines(name: str, plans: "list[StagePlan]") -> list[str]:
    """Return a line for each stage, and one for what is read at each run."""
    lines = ["ingest     the source is read and validated; what follows is planned for data that stays as it is"]
    for plan in plans:
        lines.append(f"{plan.stage:<10} {f'runs: {plan.reasons[0]}' if plan.reasons else 'is up to date'}")
        lines += [f"{'':<10}       {reason}" for reason in plan.reasons[1:]]
    if not any(plan.reasons for plan in plans):
        lines.append(f"Every stage of {name} is up to date: with the same data a run trains nothing.")
    return lines
