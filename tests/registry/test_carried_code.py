"""The code that a logged model carries: complete, under a package of its own, its imports rewritten and nothing else."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT

from aeops.errors import UsageError
from aeops.kinds import KIND_INFOS
from aeops.registry.carried_code import carried_files, package_name, rewrite_imports, write_carried_code

MODULES = frozenset({"aeops", "aeops.errors", "aeops.kinds", "aeops.kinds.image", "ae_models.tokens"})


def test_every_kind_of_data_is_carried() -> None:
    assert {f"aeops.kinds.{kind}" for kind in KIND_INFOS} <= carried_files(ROOT).keys()


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A folder with the packages, to be changed."""
    for package in ("ae_models", "aeops"):
        shutil.copytree(ROOT / package, tmp_path / "code" / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "code"


@pytest.mark.parametrize(
    ("source", "rewritten"),
    [
        ("from aeops.errors import DataError, UsageError\n", "from new.aeops.errors import DataError, UsageError\n"),
        ("def load():\n    from ae_models import tokens\n", "def load():\n    from new.ae_models import tokens\n"),
        ("from aeops.errors import (\n    DataError,\n)\n", "from new.aeops.errors import (\n    DataError,\n)\n"),
        ("import aeops.errors as errors, json\n", "import new.aeops.errors as errors, json\n"),
        ("é = 1; from aeops.errors import DataError\n", "é = 1; from new.aeops.errors import DataError\n"),
        (
            "NAMES = {'a': 'aeops.errors', 'b': 'ae_models.tokens'}\n",
            "NAMES = {'a': 'new.aeops.errors', 'b': 'new.ae_models.tokens'}\n",
        ),
        ("load(f'aeops.kinds.{name}')\n", "load(f'new.aeops.kinds.{name}')\n"),
        ("import os\nfrom aeopsy.errors import x\nfrom . import aeops\nlog('aeops.other', 'aeops.errors are')\n", None),
        ('"""About aeops.errors.\n\nfrom aeops.errors import x\n"""\n# from aeops.errors import y\n', None),
    ],
)
def test_only_names_of_modules_are_rewritten(source: str, rewritten: str | None) -> None:
    assert rewrite_imports(source, "new", MODULES) == (rewritten or source)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import aeops.errors\n", r"line 1: expected `from \.\.\. import \.\.\.`, got `import aeops\.errors`"),
        ("from \\\n    aeops.errors import x\n", r"line 1: expected the name aeops\.errors in the line"),
    ],
)
def test_what_cannot_be_rewritten_is_refused(source: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        rewrite_imports(source, "new", MODULES)


def test_everything_that_the_model_imports_is_carried_and_loads_from_the_package_alone(tmp_path: Path) -> None:
    package, served_model = write_carried_code(ROOT, tmp_path / "code")
    modules = sorted(carried_files(ROOT))
    assert {"aeops.bundle.detector", "aeops.bundle.answers", "aeops.errors", "ae_models.checksums"} <= set(modules)
    names = [f"{package.name}.{name}" for name in modules]
    script = (
        f"import importlib, sys; [importlib.import_module(name) for name in {names!r}]; "
        f"print([name for name in sys.modules if name.split('.')[0] in ('aeops', 'ae_models', 'torch')])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path / "code", capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert f"from {package.name}.aeops.bundle.detector import Detector" in served_model.read_text(encoding="utf-8")


def test_the_package_is_named_by_its_content(code: Path) -> None:
    name = package_name(ROOT)
    assert package_name(code) == name
    file = code / "aeops" / "bundle" / "answers.py"
    file.write_text(file.read_text() + "\n# changed\n")
    assert package_name(code) != name
