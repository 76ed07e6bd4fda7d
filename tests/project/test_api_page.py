"""docs/api.md is generated: it must be of today's code, and what it shows must have docstrings."""

import ast
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from checkout import ROOT


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_api", ROOT / "docs" / "generate_api.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_that_of_the_code(generator: ModuleType) -> None:
    page = Path(generator.PAGE).read_text(encoding="utf-8")
    assert page == generator.build_page(), "type: python docs/generate_api.py"


def test_every_public_definition_on_the_page_has_a_docstring(generator: ModuleType) -> None:
    for module in generator.MODULES:
        definitions = generator.definitions(module)
        assert definitions, module
        missing = [name for name, node in definitions.items() if not ast.get_docstring(node)]
        assert not missing, (module, missing)


def test_names_that_a_package_collects_from_its_modules_are_on_the_page(generator: ModuleType) -> None:
    names = generator.definitions("ae_models.spec")
    assert {"FitSpec", "InputSpec", "ConvEncoderSpec", "SplitConformalThresholdSpec"} <= names.keys()
    assert "high: float = bounded_field(255.0)" in generator.signature(names["InputSpec"])
