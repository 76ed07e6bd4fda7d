"""Finds a project's own parts, sources and studies, by its ae.yaml and by the entry points of installed packages."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ae_models.own_parts import register_part, set_loader
from aeops.errors import UsageError
from aeops.plugins.declaration_checks import declaration_mistakes, taken_names
from aeops.plugins.declarations import OwnParts, Part, Source, Study

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

SETTINGS_FILE = "ae.yaml"
LISTS = {"AE_PARTS": "ae.parts", "AE_SOURCES": "ae.sources", "AE_STUDIES": "ae.studies"}  # name in a module -> entry points
_roots: list[Path] = []  # of the project that this process works for, one at most


def use_project(root: Path) -> None:
    """Let this process know the own parts of the project in a folder; nothing is imported until one is asked for."""
    if _roots != [root]:
        _roots[:] = [root]
        set_loader(partial(_register, root))


def current_parts() -> OwnParts:
    """Return the own parts of the project that this process works for; none where it works for none.

    Raises:
        UsageError: as `own_parts` does.
    """
    return own_parts(_roots[0]) if _roots else OwnParts()


@cache
def own_parts(root: Path) -> OwnParts:
    """Return what the project in a folder adds, by its ae.yaml and by what is installed.

    Raises:
        UsageError: with every module that is missing or fails, every declaration of another form, and every name that is taken.
    """
    found, mistakes = [], []
    for name in _named_plugins(root):
        try:
            found += _with_name(_declared_by(root, name), name)
        except UsageError as error:
            mistakes.append(str(error))
    for entry_point in _entry_points():
        name = f"{entry_point.module}:{entry_point.attr}"
        try:
            found += _with_name(_as_list(_load(root, name), name), name)
        except UsageError as error:
            mistakes.append(f"{error} (entry point {entry_point.group} of an installed package)")
    found = _without_repeats(found)
    for declared, name in found:
        for mistake in declaration_mistakes(declared):
            mistakes.append(f"{name}: {mistake}")
    mistakes += taken_names(found)
    if mistakes:
        raise UsageError("\n".join(mistakes))
    groups: dict[str, list[Any]] = {"parts": [], "sources": [], "studies": []}
    for declared, _ in found:
        groups[declared.group].append(declared)
    return OwnParts(tuple(groups["parts"]), tuple(groups["sources"]), tuple(groups["studies"]), tuple(found))


def _register(root: Path) -> None:
    for part in own_parts(root).parts:
        register_part(part)


# ---------------------------------------------------------------- finding them


def _with_name(declared: Iterable[Part | Source | Study], name: str) -> list[tuple[Part | Source | Study, str]]:
    """Return what a plugin declares, each with the plugin's name."""
    return [(one, name) for one in declared]


def _without_repeats(found: Sequence[tuple[Part | Source | Study, str]]) -> list[tuple[Part | Source | Study, str]]:
    """Return each object once, in the place of the last that found it and with the name of the first."""
    by_id = {}
    for declared, name in reversed(found):
        by_id[id(declared)] = (declared, name)
    return list(by_id.values())[::-1]


def _named_plugins(root: Path) -> list[str]:
    """Return `plugins` of ae.yaml; other mistakes in the file are reported by `aeops.recipe.project_settings`."""
    import yaml

    file = root / SETTINGS_FILE
    if not file.is_file():
        return []
    try:
        document = yaml.safe_load(file.read_bytes())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{SETTINGS_FILE}: not readable as YAML: {' '.join(str(error).split())[:200]}") from error
    names = document.get("plugins") if isinstance(document, dict) else None
    return list(map(str, names)) if isinstance(names, list) else []


def _entry_points() -> "list[EntryPoint]":
    """Return the entry points of installed packages; reading those of all takes 0.1 s, so only where a file names a group."""
    if not any(map(_names_a_group, _all_entry_point_files())):
        return []
    from importlib.metadata import entry_points

    found: list[EntryPoint] = []
    for group in LISTS.values():
        found += sorted(entry_points(group=group), key=lambda point: point.value)
    return found


def _all_entry_point_files() -> Iterator[Path]:
    for entry in filter(None, sys.path):
        yield from _entry_point_files(Path(entry))


def _entry_point_files(folder: Path) -> list[Path]:
    """Return the files of a folder of packages; none of one that this user may not read, out of which nothing can be imported."""
    try:
        return list(folder.glob("*.dist-info/entry_points.txt"))
    except PermissionError:
        return []


def _names_a_group(file: Path) -> bool:
    content = file.read_bytes()
    return any(f"[{group}]".encode() in content for group in LISTS.values())


def _declared_by(root: Path, name: str) -> Iterator[Part | Source | Study]:
    """Yield what an entry of `plugins` declares: a module's lists, or the object or list `module:object`."""
    if ":" in name:
        yield from _as_list(_load(root, name), name)
        return
    module = _import(root, name)
    lists = [getattr(module, list_name) for list_name in LISTS if hasattr(module, list_name)]
    if not lists:
        raise UsageError(f"the plugin {name}: expected one of {', '.join(LISTS)} in {module.__file__}, got none")
    for declared in lists:
        yield from _as_list(declared, name)


def _as_list(declared: Any, name: str) -> list[Part | Source | Study]:
    items = list(declared) if isinstance(declared, list | tuple) else [declared]
    for item in items:
        if type(item) not in (Part, Source, Study):
            raise UsageError(f"the plugin {name}: expected Part(...), Source(...) or Study(...) of aeops.plugins, got {item!r}")
    return items


def _load(root: Path, name: str) -> Any:
    module_name, _, attribute = name.partition(":")
    module = _import(root, module_name)
    if not hasattr(module, attribute):
        raise UsageError(f"the plugin {name}: {module.__file__} has no {attribute}")
    return getattr(module, attribute)


def _import(root: Path, name: str) -> Any:
    """Import a module of the project, else an installed one.

    Raises:
        UsageError: there is none, or it fails; names the line.
    """
    import importlib

    if str(root) not in sys.path:
        sys.path.append(str(root))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise UsageError(f"the plugin {name}: no such module in {root} or among the installed packages") from error
        raise UsageError(f"the plugin {name} cannot be imported: {_describe(error)}") from error
    except Exception as error:
        raise UsageError(f"the plugin {name} cannot be imported: {_describe(error)}") from error


def _describe(error: Exception) -> str:
    import traceback

    last = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if last.filename.startswith("<") else f"{text} ({last.filename}, line {last.lineno})"
