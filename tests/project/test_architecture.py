"""Promises of the project about itself: who imports whom, what is light, what is written down."""

import itertools
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from fresh_imports import LIGHT

from aeops.kinds import KIND_INFOS, module_name

ROOT = Path(__file__).parents[2]


def in_a_fresh_process(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_import_contracts_hold() -> None:
    lint = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


# What may not be loaded after each line of tests/fresh_imports.py.
HEAVY = {
    "aeops.recipe.reader": ("numpy", "pandas", "torch", "mlflow", "prefect"),
    "flows.training": (
        *("numpy", "pandas", "pyarrow", "PIL", "matplotlib", "torch", "pytorch_lightning", "tokenizers", "onnxruntime"),
        *("mlflow", "great_expectations", "evidently", *map(module_name, KIND_INFOS)),
    ),
    "aeops.monitoring.__main__": ("evidently", "torch", "great_expectations"),
    "ae_models.calibration": ("pytorch_lightning",),
}


@pytest.mark.parametrize("line", LIGHT, ids=lambda line: line[0])
def test_what_a_light_process_imports_loads_nothing_heavy(line: tuple[str, ...], loaded_modules: dict[str, list[str]]) -> None:
    loaded = set(loaded_modules[line[0]])
    assert set(line) <= loaded
    assert not set(HEAVY[line[0]]) & loaded


def test_help_loads_nothing_heavy_and_names_every_verb() -> None:
    from aeops.cli.main import COMMAND_GROUPS

    script = (
        "import sys; from aeops.cli.main import build_parser; text = build_parser().format_help(); "
        "print([m for m in ('torch', 'numpy', 'pandas', 'mlflow', 'prefect', 'rich', 'yaml') if m in sys.modules]); print(text)"
    )
    shown = in_a_fresh_process(script)
    assert shown.startswith("[]")
    names = [module.__name__.rsplit(".", 1)[1] for module in itertools.chain(*COMMAND_GROUPS.values())]
    assert sorted(names) == sorted(
        file.stem for file in (ROOT / "aeops" / "cli").glob("*.py") if "def add_command(" in file.read_text()
    )
    for name in names:
        assert re.search(rf"^    {name}(?: +|\n {{10,}})\S", shown, re.MULTILINE), f"`ae --help` says nothing about {name}"


@pytest.mark.slow
@pytest.mark.parametrize("module", ["aeops.bundle.detector", "ae_models.export"])
def test_onnxruntime_writes_nothing_into_the_home(module: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")}
    command = [sys.executable, "-c", f"import sys, {module}; assert 'onnxruntime' in sys.modules"]
    subprocess.run(command, cwd=ROOT, env=environment | {"HOME": str(tmp_path)}, check=True)
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("file", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_recipe_can_be_read_and_says_what_it_needs(file: Path) -> None:
    from aeops.recipe.reader import read_recipe

    recipe = read_recipe(file)
    assert recipe.name == file.stem
    opening = list(itertools.takewhile(lambda line: line.startswith("#"), file.read_text().splitlines()))
    assert opening[0].startswith("# Needs: ")
    assert f"Run: ae run {file.stem}" in opening[-1]


def test_the_lock_is_exact_and_names_no_index_and_no_cuda() -> None:
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line and not line.lstrip().startswith("#")]
    assert all(re.match(r"^[A-Za-z0-9._-]+(\[[a-z,]+\])?==[^ ]+( ;.*)?$", line) for line in lines), lines
    assert "torch==2.13.0" in lines
    assert not [line for line in lines if line.startswith(("nvidia-", "triton"))]


def test_the_lock_holds_every_dependency_that_pyproject_asks_for() -> None:
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [Requirement(text) for text in project["dependencies"] + project["optional-dependencies"]["dev"]]
    locked = dict(re.findall(r"^([a-z0-9._-]+)==([^ ;\n]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    for requirement in asked:
        assert requirement.specifier.contains(locked[requirement.name.lower()], prereleases=True), requirement


def test_every_command_the_readme_shows_exists() -> None:
    from aeops.cli.main import COMMAND_GROUPS

    text = (ROOT / "README.md").read_text()
    commands = {module.__name__.rsplit(".", 1)[1] for module in itertools.chain(*COMMAND_GROUPS.values())}
    shown = set(re.findall(r"(?<![.\w])ae ([a-z]+)\b", text))
    assert "run" in shown
    assert shown <= commands
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)\b", text))
    assert "run" in named
    assert named <= targets


def test_the_figures_in_the_readme_are_those_of_the_record() -> None:
    text = (ROOT / "README.md").read_text()
    record = json.loads((ROOT / "benchmarks" / "records" / "pipeline.json").read_text())
    seconds, ratios = record["seconds"], record["training_speed"]["ratios"]
    assert f"| environment ready (packages in uv's cache) | {seconds['environment_ready']:.0f} s |" in text
    assert f"| first `ae run digits` | {seconds['first_run']:.0f} s |" in text
    assert f"| second, nothing changed | {seconds['second_run_nothing_changed']:.1f} s |" in text
    assert f"| `ae --help` | {seconds['help']:.2f} s |" in text
    assert f"beside plain Lightning with a DataLoader | {ratios['ours_over_lightning']:.2f} times |" in text
    assert f"beside a bare PyTorch loop | {ratios['ours_over_loop']:.2f} times |" in text


def test_the_tree_in_the_readme_names_what_is_there() -> None:
    tree = re.search(r"```\n(ae_models/.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert tree is not None
    assert len(tree.group(1).splitlines()) > 5
    for line in tree.group(1).splitlines():
        name = line.split()[0] if line and not line.startswith(" ") else ""
        assert not name or (ROOT / name).exists(), name


def test_telemetry_of_every_library_is_off() -> None:
    from aeops.machine.library_settings import configure_libraries

    settings = configure_libraries()
    assert settings["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert settings["DO_NOT_TRACK"] == "true"
    assert settings["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert settings["DVC_NO_ANALYTICS"] == "1"


def test_what_shares_a_costly_fixture_shares_a_process(request: pytest.FixtureRequest) -> None:
    if not os.environ.get("PYTEST_XDIST_WORKER") or request.config.getoption("loadgroup", False) is not True:
        pytest.skip("the suite is not spread over processes by groups: make test does that")
    assert "@" in request.node.nodeid, "pytest-xdist no longer reads the groups of tests/conftest.py"


def test_each_layer_is_a_folder_but_for_the_three_single_modules() -> None:
    loose = {file.stem for file in (ROOT / "aeops").glob("*.py")}
    assert loose == {"__init__", "errors", "files", "project"}
