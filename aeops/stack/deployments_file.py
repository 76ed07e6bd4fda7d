"""The deployments of prefect.yaml, three a recipe: a recipe's first run writes its lines, and those of one that is gone go."""

import re
import sys
from typing import Any

from aeops.files import atomic_write
from aeops.machine.lock import PROJECT_FILES_LOCK, file_lock
from aeops.project import Project
from aeops.recipe.yaml_reader import parse_yaml, read_yaml_content

DEPLOYMENTS_FILE = "prefect.yaml"
SCHEDULES = {"retrain": "nightly", "score": "quarter-hourly", "monitor": "hourly"}  # deployment -> anchor of its schedule
RECIPE_OF_LINE = re.compile(r"^- \{<<: .*\bparameters: \{recipe: ([^}]+)\}.*\}\n", re.MULTILINE)


def list_deployments(project: Project, recipe: str) -> bool:
    """Let prefect.yaml deploy the recipe, and no recipe whose file is gone; return whether the file has changed.

    Its other lines stay as they are: a deployment that is there keeps its schedule. A file that was written in another way than
    this package writes it is left to its author, with a note.

    Raises:
        UsageError: prefect.yaml is no YAML.
    """
    with file_lock(project, PROJECT_FILES_LOCK):
        return _list_deployments(project, recipe)


def _list_deployments(project: Project, recipe: str) -> bool:
    file = project.root / DEPLOYMENTS_FILE
    if not file.is_file():
        return False
    content = read_yaml_content(file)
    document, text = parse_yaml(content, file.name), content.decode()
    deployed = _deployed_recipes(document)
    gone = {name for name in deployed if not project.recipe_file(name).is_file()}
    if recipe in deployed and not gone:
        return False
    new_text = RECIPE_OF_LINE.sub(lambda line: "" if line[1] in gone else line[0], text)
    if recipe not in deployed:
        new_text = f"{new_text.rstrip()}\n{_lines(recipe)}"
    written = _deployed_recipes(parse_yaml(new_text.encode(), file.name)) if _has_definitions(document) else set()
    if written != (deployed - gone) | {recipe}:
        print(f"note: {file.name} does not deploy {recipe}: add its deployments by hand to run it on a schedule", file=sys.stderr)
        return False
    atomic_write(file, new_text, file.stat().st_mode & 0o777)
    return True


def _deployed_recipes(document: Any) -> set[str]:
    """Return the recipes that deployments have as their parameter."""
    deployments = document.get("deployments") if isinstance(document, dict) else None
    if not isinstance(deployments, list):
        return set()
    recipes = set()
    for entry in deployments:
        if isinstance(entry, dict):
            parameters = entry.get("parameters")
            if isinstance(parameters, dict) and "recipe" in parameters:
                recipes.add(str(parameters["recipe"]))
    return recipes


def _has_definitions(document: Any) -> bool:
    """Return whether the anchors that a line refers to are there."""
    definitions = document.get("definitions") if isinstance(document, dict) else None
    return isinstance(definitions, dict) and {*SCHEDULES, *SCHEDULES.values()} <= definitions.keys()


def _lines(recipe: str) -> str:
    lines = []
    for name, schedule in SCHEDULES.items():
        settings = f"name: {name}-{recipe}, parameters: {{recipe: {recipe}}}, schedules: *{schedule}, tags: [{recipe}, {name}]"
        lines.append(f"- {{<<: *{name}, {settings}}}\n")
    return "".join(lines)
