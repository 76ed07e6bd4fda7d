"""The recipes of params.yaml: dvc.yaml repeats its stages for each of them. A recipe's first run writes its line."""

import json
import re
from collections.abc import Mapping
from typing import Any

from aeops.data.own_code import OWN_STAGES, stage_suffixes
from aeops.errors import UsageError
from aeops.files import atomic_write
from aeops.machine.lock import PROJECT_FILES_LOCK, file_lock
from aeops.plugins import own_parts
from aeops.project import Project
from aeops.recipe.reader import Recipe, load_recipe
from aeops.recipe.yaml_reader import read_yaml

PARAMS_FILE = "params.yaml"
RECIPES_TEXT = re.compile(r"^recipes:[^\n]*\n(?:[ \t]+[^\n]*\n)*", re.MULTILINE)


def list_recipe(project: Project, recipe: Recipe) -> bool:
    """Let params.yaml name the recipe with its dataset, and no recipe whose file is gone; return whether the file has changed.

    Its other lines stay as they are.

    Raises:
        UsageError: params.yaml is no YAML, or holds something else than a mapping.
    """
    with file_lock(project, PROJECT_FILES_LOCK):
        return _list_recipe(project, recipe)


def _list_recipe(project: Project, recipe: Recipe) -> bool:
    file = project.root / PARAMS_FILE
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    listed = listed_recipes(project)
    kept = {name: entry for name, entry in listed.items() if project.recipe_file(name).is_file() or name == recipe.name}
    wanted = kept | {recipe.name: recipe_entry(project, recipe)}
    for name in kept.keys() - {recipe.name}:
        wanted[name] = _refreshed_entry(project, name, kept[name])
    if wanted == listed:
        return False
    atomic_write(file, with_recipes(text, wanted))
    return True


def recipe_entry(project: Project, recipe: Recipe) -> dict[str, Any]:
    """Return what params.yaml says of a recipe: its dataset, and in a project with plugins the hashes of its own code.

    Raises:
        UsageError: a plugin cannot be imported, or declares something of another form.
    """
    entry: dict[str, Any] = {"dataset": recipe.data.dataset}
    if own_parts(project.root).declared_by:
        entry["own"] = stage_suffixes(project.root, recipe)
    return entry


def _refreshed_entry(project: Project, name: str, entry: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of a recipe that is not the one to run; as it was, or without own code, where that has mistakes."""
    try:
        return recipe_entry(project, load_recipe(project, name))
    except UsageError:
        has_plugins = bool(own_parts(project.root).declared_by)
        own = {"own": entry.get("own") or dict.fromkeys(OWN_STAGES, "")} if has_plugins else {}
        return {"dataset": entry.get("dataset")} | own


def listed_recipes(project: Project) -> dict[str, dict[str, Any]]:
    """Return the recipes of params.yaml with what it says of each, such as `{"dataset": "digits"}`; empty without any.

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
    entries = {}
    for name, entry in recipes.items():
        entries[str(name)] = dict(entry) if isinstance(entry, Mapping) else {}
    return entries


def unknown_recipes(project: Project) -> list[str]:
    """Return the recipes of params.yaml that the project has no file for: DVC cannot read its stages until the next run.

    Raises:
        UsageError: as `listed_recipes` does.
    """
    return sorted(name for name in listed_recipes(project) if not project.recipe_file(name).is_file())


def with_recipes(text: str, recipes: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the text of params.yaml with these recipes and what it says of each.

    >>> print(with_recipes("# why\\nrecipes:\\n  old: {dataset: a}\\ncode: {}\\n", {"new": {"dataset": "b"}}), end="")
    # why
    recipes:
      new: {dataset: b}
    code: {}
    """
    lines = ["recipes:", *(f"  {name}: {_entry_text(entry)}" for name, entry in recipes.items())]
    block = "\n".join(lines) + "\n"
    if RECIPES_TEXT.search(text):
        return RECIPES_TEXT.sub(lambda _: block, text, count=1)
    return block + text


def _entry_text(entry: Mapping[str, Any]) -> str:
    """Return an entry in one line.

    >>> _entry_text({"dataset": "a", "own": {"train": ":1a2b", "calibrate": ""}})
    '{dataset: a, own: {train: ":1a2b", calibrate: ""}}'
    """
    texts = []
    for key, value in entry.items():
        texts.append(f"{key}: {_entry_text(value)}" if isinstance(value, Mapping) else f"{key}: {_value_text(key, value)}")
    return f"{{{', '.join(texts)}}}"


def _value_text(key: str, value: Any) -> str:
    return str(value) if key == "dataset" else json.dumps(value)
