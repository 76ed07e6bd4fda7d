"""Modules and files of this project that are named in text (commands, settings, comments, docs) exist.

Nothing else notices a renamed module there: `python -m aeops...`, dvc.yaml, prefect.yaml, deploy/, `resources.files(...)`.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from checkout import ROOT

PACKAGES = "ae_models|aeops|flows"
DOTTED = re.compile(rf"(?<![\w./-])(?:{PACKAGES})(?:\.[A-Za-z_]\w*)+")
PATH = re.compile(rf"(?<![\w./-])(?:{PACKAGES})/[\w./-]*[\w/](?![\w<*{{])")
SEARCHED = (
    *("dvc.yaml", "prefect.yaml", "Makefile", "pyproject.toml", "deploy"),  # call modules by name
    *("aeops", "ae_models", "flows", "benchmarks"),
    *("README.md", "CONTRIBUTING.md", "docs"),
)
HISTORY = ("docs/log.md",)  # speaks of what was
OTHERS = {
    "flows/filter": "an address of Prefect's API",
    "flows.get": "a variable",
    "aeops/kinds/KIND.py": "a placeholder",
    "aeops/project_files/requirements.lock": "a file of the wheel alone",
    "aeops/project_files/docs": "a folder of the wheel alone",
    "ae_models/KIND_faults.py": "a placeholder",
    "aeops/data/sources/SOURCE.py": "a placeholder",
}
SUFFIXES = ("", ".md", ".yaml", ".yml", ".toml", ".py", ".j2", ".service", ".sh", ".conf", ".txt")


def files() -> list[Path]:
    found = []
    for name in SEARCHED:
        place = ROOT / name
        found += [place] if place.is_file() else [file for file in place.rglob("*") if file.is_file()]
    return sorted(
        file
        for file in found
        if (file.suffix in SUFFIXES and "__pycache__" not in file.parts and str(file.relative_to(ROOT)) not in HISTORY)
    )


@cache
def top_level_names(file: Path) -> set[str]:
    """What a module defines or imports at its top level, and in the functions' `if TYPE_CHECKING`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
    return names


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or begins with one that has the next part."""
    place = ROOT
    for part in name.split("."):
        if (place / part / "__init__.py").is_file():
            place = place / part
        elif place.with_suffix(".py").is_file() or (place / f"{part}.py").is_file():
            file = place / f"{part}.py"
            if file.is_file():
                place = place / part
                continue
            return part in top_level_names(place.with_suffix(".py"))
        else:
            return part in top_level_names(place / "__init__.py")
    return True


def missing(text: str) -> Iterator[str]:
    for name in DOTTED.findall(text):
        if name not in OTHERS and not exists(name):
            yield name
    for path in PATH.findall(text):
        if path not in OTHERS and not (ROOT / path.rstrip(".")).exists():
            yield path


@pytest.mark.slow
def test_every_module_and_file_that_is_named_exists() -> None:
    faults = {}
    for file in files():
        if names := sorted(set(missing(file.read_text(encoding="utf-8")))):
            faults[str(file.relative_to(ROOT))] = names
    assert faults == {}


@pytest.mark.parametrize("name", ["aeops.cli.main", "aeops.errors.DataError", "flows.training.training"])
def test_names_that_exist_are_told_from_others(name: str) -> None:
    assert exists(name)
    assert list(missing(f"python -m {name}x")) == [f"{name}x"]


def test_paths_that_exist_are_told_from_others() -> None:
    text = "see aeops/errors.py, aeops/eras.py and aeops/evaluation/studies/<name>.py"
    assert list(missing(text)) == ["aeops/eras.py"]
