"""The built wheel in a clean environment: `ae init`, `run`, `dvc repro`, `up`, `rebuild` in an empty folder, with own parts."""

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from checkout import ROOT
from documented_plugins import write_own_recipe, write_plugins
from installed_wheel import Shell

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]
OF_TORCH = ("nvidia-", "cuda-", "triton==")  # which torch's build for GPUs pins itself

Ae = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("own") / "shoes"


@pytest.fixture(scope="module")
def run(environment: Path, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ae]:
    """Runs a program of the environment in the project, in a shell that knows nothing of it."""
    shell = Shell(environment, tmp_path_factory.mktemp("home"))

    def run_program(program: str, *arguments: str, cwd: Path = root) -> "subprocess.CompletedProcess[str]":
        return shell.run(program, *arguments, cwd=cwd)

    yield run_program
    if root.is_dir():
        run_program("ae", "down")


def git(root: Path, *arguments: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    return subprocess.run(["git", *who, *arguments], cwd=root, check=True, capture_output=True, text=True).stdout


def run_whole(run: Ae, *arguments: str) -> str:
    done = run("ae", *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_wheel_brings_all_that_it_needs_at_run_time(environment: Path, run: Ae) -> None:
    site = Path(
        run(
            "python", "-c", "import aeops, pathlib; print(pathlib.Path(aeops.__file__).parent.parent)", cwd=environment
        ).stdout.strip()
    )
    assert site.is_relative_to(environment)
    for name in git(ROOT, "ls-files", "ae_models", "aeops", "flows").split():
        assert (site / name).read_bytes() == (ROOT / name).read_bytes()
    assert (site / "aeops" / "project_files" / "requirements.lock").read_bytes() == (ROOT / "requirements.lock").read_bytes()
    assert run_whole(run, "docs", "gates") == (ROOT / "docs" / "gates.md").read_text(encoding="utf-8")


def test_a_recipe_by_hand_becomes_a_champion_in_an_empty_folder(run: Ae, root: Path) -> None:
    root.mkdir()
    assert "wrote      .git, " in run_whole(run, "init")
    write_own_recipe(root)
    write_plugins(root)
    assert "small: no mistakes" in run_whole(run, "recipe", "check", "small")
    assert "prepare    runs: it has not run here" in run_whole(run, "plan", "small")
    shown = run_whole(run, "run", "small")
    assert "state      champion" in shown
    assert "ae up | ae serve small | ae show small" in shown
    assert "nothing changed" in run_whole(run, "run", "small")
    assert "Every stage of small is up to date" in run_whole(run, "plan", "small")
    assert yaml.safe_load((root / "params.yaml").read_text())["recipes"].keys() == {"small"}


def test_the_files_of_the_project_are_the_users_and_name_no_machine(environment: Path, root: Path) -> None:
    git(root, "add", "-A")
    git(root, "commit", "-qm", "shoes")
    names = set(git(root, "ls-files").split())
    assert {"dvc.yaml", "dvc.lock", "params.yaml", "prefect.yaml", "data.dvc", "requirements.lock", ".dvc/stage"} <= names
    assert not [name for name in names if name.startswith(("aeops", "ae_models", "flows", ".ae/", "data/", "artifacts/"))]
    for name in names - {"inbox/images.bin", "inbox/labels.bin"}:
        content = (root / name).read_bytes()
        assert str(root).encode() not in content, name
        assert str(environment).encode() not in content, name


def test_dvc_repro_in_a_fresh_shell_has_nothing_to_do_and_runs_what_is_gone(run: Ae, root: Path) -> None:
    done = run("python", "-m", "dvc", "repro")
    assert "Running stage" not in done.stdout
    assert "up to date" in done.stdout, done.stderr
    done = run("python", "-m", "dvc", "repro", "--single-item", "--force", "gate@small")
    assert done.returncode == 0, done.stderr
    assert "Running stage 'gate@small'" in done.stdout


def test_doctor_finds_no_fault_and_compares_with_the_lock_of_the_wheel(run: Ae) -> None:
    shown = run_whole(run, "doctor")
    assert "with the packages that it was tested with" in shown
    assert "own parts of my_parts" in shown
    assert "ready: ae run small" in shown


def test_the_stack_serves_the_champion_and_its_worker_runs_the_flows_of_the_package(run: Ae) -> None:
    ports = [f"--{name}-port={port}" for name, port in (("mlflow", 25800), ("prefect", 25801), ("page", 25802), ("score", 25803))]
    try:
        assert "score-small          http://127.0.0.1:25803" in run_whole(run, "up", *ports)
        done = run("ae", "prefect", "deployment", "run", "training/retrain-small", "--watch")
        assert done.returncode == 0, done.stdout[-2000:]
        assert "Completed" in done.stdout
        assert "images.bin" not in run_whole(run, "status")
    finally:
        run_whole(run, "down")


def test_a_change_of_an_own_part_is_planned_and_the_version_of_before_is_rebuilt_identical(run: Ae, root: Path) -> None:
    data, work = root / "my_data.py", root / "my_work.py"
    data.write_text(f"{data.read_text()}# another study\n")
    plan = run_whole(run, "plan", "small").splitlines()
    assert "calibrate  is up to date" in plan
    assert "evaluate   runs: the code of its own parts changed" in plan
    text = work.read_text()
    work.write_text("raise RuntimeError('the code of tomorrow')\n")
    for name in ("data", "artifacts", ".dvc/cache"):
        shutil.rmtree(root / name)
    assert "verdict    identical" in run_whole(run, "rebuild", "small@1")
    work.write_text(text)  # a threshold says what it promises by its own code
    assert "ae-pipeline 0.2.0" in run_whole(run, "why", "small@1")


def test_a_resolution_with_the_wheels_lock_as_constraints_takes_the_locked_versions(wheel: Path, tmp_path: Path) -> None:
    uv = shutil.which("uv") or ROOT / ".tools" / "bin" / "uv"
    if not Path(uv).is_file():
        pytest.skip("needs uv, which `make` brings along")
    constraints = tmp_path / "constraints.txt"
    content = zipfile.ZipFile(wheel).read("aeops/project_files/requirements.lock")
    constraints.write_bytes(content)
    subprocess.run([str(uv), "venv", "--quiet", "--python", sys.executable, str(tmp_path / "empty")], check=True)
    command = [str(uv), "pip", "install", "--dry-run", "--python", str(tmp_path / "empty" / "bin" / "python")]
    done = subprocess.run([*command, "--constraints", str(constraints), str(wheel)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    chosen = {line.strip(" +").partition("+")[0] for line in done.stderr.splitlines() if line.startswith(" + ")}
    locked = {line.split(" ;")[0].strip() for line in content.decode().splitlines() if "==" in line and not line.startswith("#")}
    assert len(chosen) > 150
    others = {one for one in chosen - locked if not one.startswith(("ae-pipeline", *OF_TORCH))}
    assert others == set()
