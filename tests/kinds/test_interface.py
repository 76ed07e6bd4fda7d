"""Every kind of data offers what the Protocol asks for, and nobody but its module asks which kind it is."""

import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ae_models.spec import INPUT_KINDS
from aeops.data.sources.catalogue import SOURCE_MODULES
from aeops.kinds import KIND_INFOS, module_name
from aeops.kinds.interface import DataKind, load_kind
from aeops.recipe.sources import SOURCE_SPECS

ROOT = Path(__file__).parents[2]
METHODS = [name for name, member in vars(DataKind).items() if inspect.isfunction(member) and not name.startswith("_")]
CONSTANTS = [name for name in DataKind.__annotations__ if name.isupper()]
BRANCHES = (
    r"[=!]= ?(TEXT|IMAGE|SERIES|TABLE)\b",
    r"\bof_text\b",
    r'kind [=!]= "(image|series|text|table)"',
    r"isinstance\([^)]*Source\b",
)
BRANCH = re.compile("|".join(BRANCHES))


def lacks(kind: Any) -> list[str]:
    """What of the Protocol a kind has not, or has with other parameters."""
    missing = [name for name in CONSTANTS if not hasattr(kind, name)]
    for name in METHODS:
        expected = list(inspect.signature(getattr(DataKind, name)).parameters)[1:]
        found = getattr(kind, name, None)
        if found is None or list(inspect.signature(found).parameters) != expected:
            missing.append(name)
    return missing


def test_the_kinds_are_those_that_a_recipe_may_name() -> None:
    assert tuple(KIND_INFOS) == INPUT_KINDS


@pytest.mark.parametrize("name", KIND_INFOS)
def test_a_kind_has_all_of_the_protocol(name: str) -> None:
    kind = load_kind(name)
    assert len(METHODS) > 20
    assert len(CONSTANTS) > 5
    assert lacks(kind) == []


def test_a_kind_that_lacks_a_method_or_has_another_parameter_is_found() -> None:
    members = {name: getattr(load_kind("image"), name) for name in (*METHODS, *CONSTANTS)}
    del members["statistics"]
    members["errors"] = lambda target: target
    assert lacks(SimpleNamespace(**members)) == ["statistics", "errors"]


def test_a_kind_that_there_is_not_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"image \(channels, height, width\), series .*, table .*, text .*, got 'cloud'"):
        module_name("cloud")


def product_files(*folders: str) -> list[Path]:
    endings = (".py", ".j2", ".js")
    return [file for folder in folders for file in sorted((ROOT / folder).rglob("*")) if file.suffix in endings]


def test_nobody_asks_which_kind_or_which_source_it_is() -> None:
    recipe = ROOT / "aeops" / "recipe"
    homes = (ROOT / "aeops" / "kinds", recipe / "reader.py", recipe / "relations.py")
    files = [file for file in product_files("aeops", "flows") if not any(file.is_relative_to(home) for home in homes)]
    assert len(files) > 200
    found = []
    for file in files:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            if BRANCH.search(line):
                found.append(f"{file.relative_to(ROOT)}:{number}: {line.strip()}")
    assert found == []


# ---------------------------------------------------------------- what is light


def modules_after(statement: str) -> set[str]:
    script = f"import sys; {statement}; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_a_recipe_knows_the_kinds_and_loads_none() -> None:
    loaded = modules_after("import aeops.recipe.reader")
    assert "aeops.kinds" in loaded
    assert not loaded & {module_name(kind) for kind in KIND_INFOS}
    assert not loaded & {"numpy", "pandas", "pyarrow", "PIL", "torch", "mlflow", "great_expectations", "tokenizers"}


@pytest.mark.parametrize("name", KIND_INFOS)
def test_a_kind_loads_numpy_alone(name: str) -> None:
    loaded = modules_after(f"import {module_name(name)}")
    assert "numpy" in loaded
    heavy = {"pandas", "pyarrow", "PIL", "torch", "mlflow", "great_expectations", "jinja2", "tokenizers", "onnxruntime"}
    assert not loaded & heavy
    assert {one for one in loaded if one.startswith("aeops.")} <= {"aeops.errors"} | {
        one for one in loaded if one.startswith("aeops.kinds")
    }


# ---------------------------------------------------------------- what a new one needs


def listed_files(start: str) -> list[str]:
    """The files of the list in docs/architecture.md that follows the paragraph that starts so."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    _, _, rest = text.partition(start)
    assert rest, start
    return re.findall(r"^- `([^`]+)`", rest.partition("\n\n")[0], re.MULTILINE)


def test_the_list_of_files_for_a_new_kind_names_all_that_name_the_newest_kind() -> None:
    files = listed_files("**A kind of data is one module**")
    for name in KIND_INFOS:
        for file in files:
            assert (ROOT / file.replace("KIND", name)).exists(), file
    naming = set()
    for file in product_files("aeops", "flows"):
        if re.search(r"""(?<!\w)(SERIES|["']series["'])(?!\w)""", file.read_text(encoding="utf-8")):
            naming.add(file.relative_to(ROOT).as_posix())
    assert naming <= {file.replace("KIND", "series") for file in files}, naming


def test_the_list_of_files_for_a_new_source_names_all_that_name_one() -> None:
    files = listed_files("**A source is its spec and its module.**")
    assert len(files) == 2
    for kind, module in SOURCE_MODULES.items():
        own = {file.replace("SOURCE", kind.replace("-", "_")) for file in files}
        assert f"{module.replace('.', '/')}.py" in own
        assert all((ROOT / file).is_file() for file in own)
    naming = set()
    for file in product_files("aeops", "flows"):
        if re.search(r"\b(DaysSource|NpzSource)\b", file.read_text(encoding="utf-8")):
            naming.add(file.relative_to(ROOT).as_posix())
    assert naming <= {"aeops/recipe/sources.py", "aeops/data/sources/days.py", "aeops/data/sources/npz.py"}
    assert set(SOURCE_MODULES) == set(SOURCE_SPECS)
