"""Public members: each module's `__all__` is complete, no name stands in two modules, and the guide names files that exist."""

import ast
import importlib
import re
from collections import defaultdict
from pathlib import Path

import pytest

import ae_models.spec

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "ae_models").rglob("*.py")
    if path.name not in ("__init__.py", "__main__.py")
)
NOT_DEFINED_HERE = {"ae_models.onnx_runtime": {"onnxruntime"}}  # a module that exports another one


def source_file(module: str) -> Path:
    return ROOT / Path(*module.split(".")).with_suffix(".py")


def defined_names(module: str) -> set[str]:
    """Public classes and functions that a module defines."""
    definitions = ast.parse(source_file(module).read_text(encoding="utf-8")).body
    names = {node.name for node in definitions if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    return {name for name in names if not name.startswith("_")}


def assigned_names(module: str) -> set[str]:
    """Public constants and types that a module assigns."""
    names = set()
    for node in ast.parse(source_file(module).read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        for target in targets:
            names |= {name.id for name in ast.walk(target) if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)}
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_exports_each_public_name_that_it_defines_and_no_other(module: str) -> None:
    exported = set(importlib.import_module(module).__all__)
    assert exported - NOT_DEFINED_HERE.get(module, set()) == defined_names(module) | assigned_names(module)


@pytest.mark.parametrize("module", MODULES)
def test_exports_are_sorted_and_unique(module: str) -> None:
    def group(name: str) -> int:
        return 0 if name.isupper() else 1 if name[0].isupper() else 2

    exported = list(importlib.import_module(module).__all__)
    assert exported == sorted(set(exported), key=lambda name: (group(name), name))


def test_the_spec_package_exports_every_spec() -> None:
    for module in MODULES:
        if module.startswith("ae_models.spec."):
            specs = {name for name in defined_names(module) if name.endswith(("Spec", "Config"))}
            assert specs <= set(ae_models.spec.__all__), module
    assert all(hasattr(ae_models.spec, name) for name in ae_models.spec.__all__)


def test_no_class_or_function_name_stands_in_two_modules() -> None:
    modules = defaultdict(list)
    for module in MODULES:
        for name in defined_names(module):
            modules[name].append(module)
    assert {name: homes for name, homes in modules.items() if len(homes) > 1} == {}


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "ae_models" / "py.typed").is_file()


def test_the_guide_to_a_new_part_names_files_and_tables_that_exist() -> None:
    guide = ae_models.spec.__doc__
    assert guide is not None
    rows = re.findall(r"^\| an? (\w+) \| (\S+) \| (\S+), `(\w+)` \|$", guide, re.MULTILINE)
    assert len(rows) == len(ae_models.spec.PART_SPECS)
    for _, settings_file, work_file, table in rows:
        assert (ROOT / settings_file).is_file()
        work = importlib.import_module(work_file.removesuffix(".py").replace("/", "."))
        kinds = list(getattr(work, table))
        assert kinds in [list(specs) for specs in ae_models.spec.PART_SPECS.values()]


@pytest.mark.parametrize("module", [module for module in MODULES if module.startswith("ae_models.spec.")])
def test_a_spec_module_imports_the_standard_library_alone(module: str) -> None:
    """Also inside functions: a recipe is checked in a light process."""
    heavy = re.compile(
        r"^\s*(?:from|import) (torch|numpy|scipy|pytorch_lightning|safetensors|onnx|onnxruntime|yaml)\b", re.MULTILINE
    )
    assert heavy.search(source_file(module).read_text(encoding="utf-8")) is None
