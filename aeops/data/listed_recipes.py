"""The recipes of params.yaml: dvc.yaml repeats its stages for each of them. A recipe's first run writes its line."""

import re
from collections.abc import Mapping
from typing import Any

from aeops.errors import UsageError
from aeops.files import atomic_write
from aeops.project import Project
from aeops.recipe.reader import Recipe
from aeops.recipe.yaml_reader import read_yaml

PARAMS_FILE = "params.yaml"
RECIPES_TEXT = re.compile(r"^recipes:[^\n]*\n(?:[ \t]+[^\n]*\n)*", re.MULTILINE)


def list_recipe(project: Project, recipe: Recipe) -> bool:
    """Let params.yaml name the recipe with its dataset, and no recipe whose file is gone; return whether the file has changed.

    Its other lines stay as they are. Call it while holding the run lock.

    Raises:
        UsageError: params.yaml is no YAML, or holds something else than a mapping.
    """
    file = project.root / PARAMS_FILE
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    listed = listed_recipes(project)
    wanted = {name: dataset for name, dataset in listed.items() if project.recipe_file(name).is_file()}
    wanted[recipe.name] = recipe.data.dataset
    if wanted == listed:
        return False
    atomic_write(file, with_recipes(text, wanted))
    return True


def listed_recipes(project: Project) -> dict[str, Any]:
    """Return the recipes of params.yaml with their datasets; empty where there are none.

    Raises:
        UsageError: params.yaml is no YAML, or holds something else than a mapping.
    """
    file = project.root / PARAMS_FILE
    if not file.is_file():
        return {}
    document = read_yaml(file)
    if document is None:
        return {}
    if not isinstance(document, Mapping):
        raise UsageError(f"{file}: expected a mapping with the keys recipes and code, got {type(document).__name__}")
    recipes = document.get("recipes") or {}
    if not isinstance(recipes, Mapping):
        raise UsageError(f"{file}: recipes: expected lines such as `digits: {{dataset: digits}}`, got {str(recipes)[:60]!r}")
    return {str(name): entry.get("dataset") if isinstance(entry, Mapping) else None for name, entry in recipes.items()}


def unknown_recipes(project: Project) -> list[str]:
    """Return the recipes of params.yaml that the project has no file for: DVC cannot read its stages until the next run.

    Raises:
        UsageError: as `listed_recipes` does.
    """
    return sorted(name for name in listed_recipes(project) if not project.recipe_file(name).is_file())


def with_recipes(text: str, recipes: Mapping[str, str]) -> str:
    """Return the text of params.yaml with these recipes, name -> dataset.

    >>> print(with_recipes("# why\\nrecipes:\\n  old: {dataset: a}\\ncode: {}\\n", {"new": "b"}), end="")
    # why
    recipes:
      new: {dataset: b}
    code: {}
    """
    lines = ["recipes:", *(f"  {name}: {{dataset: {dataset}}}" for name, dataset in recipes.items())]
    block = "\n".join(lines) + "\n"
    if RECIPES_TEXT.search(text):
        return RECIPES_TEXT.sub(lambda _: block, text, count=1)
    return block + text
