"""The recorded lock decides the interpreter: this one where it agrees, one that uv makes where not, a message where neither."""

import platform
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from aeops.errors import DataError
from aeops.project import Project
from aeops.provenance.rebuild.interpreter import find_uv, python_for

ROOT = Path(__file__).parents[2]
HERE = platform.python_version()
UV = find_uv(Project(root=ROOT, home=ROOT / ".ae"))
needs_uv = pytest.mark.skipif(UV is None, reason="needs uv, which `make` brings along")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project that finds no uv but its own, and whose uv finds wheels in a folder and nowhere else."""
    monkeypatch.setenv("PATH", "/nowhere")
    for name, value in (("UV_FIND_LINKS", str(tmp_path)), ("UV_NO_INDEX", "1"), ("UV_OFFLINE", "1")):
        monkeypatch.setenv(name, value)
    return Project(root=tmp_path / "project", home=tmp_path / "home")


def lock_of(tmp_path: Path, *lines: str) -> Path:
    (tmp_path / "requirements.lock").write_text("".join(f"{line}\n" for line in lines))
    return tmp_path / "requirements.lock"


def bring_uv(project: Project) -> None:
    (project.root / ".tools" / "bin").mkdir(parents=True)
    shutil.copy(str(UV), project.root / ".tools" / "bin" / "uv")


def make_wheel(folder: Path) -> None:
    """A package `tiny` 1.5 with one module."""
    with zipfile.ZipFile(folder / "tiny-1.5-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny.py", "says = 'hello'\n")
        wheel.writestr("tiny-1.5.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.5\n")
        wheel.writestr("tiny-1.5.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("tiny-1.5.dist-info/RECORD", "")


def test_this_interpreter_serves_where_the_lock_is_what_is_installed(project: Project, tmp_path: Path) -> None:
    lock = lock_of(tmp_path, "# numbers", f"numpy=={version('numpy')}", "no-such-package==1 ; python_version < '3'")
    assert python_for(project, lock, HERE) == sys.executable
    assert python_for(project, None, HERE) == sys.executable  # a run that had no lock


def test_without_uv_every_difference_is_named_with_what_to_type(project: Project, tmp_path: Path) -> None:
    lock = lock_of(tmp_path, "numpy==1.0.0", "no-such-package==3.1")
    with pytest.raises(DataError) as caught:
        python_for(project, lock, "2.7.18")
    for told in ("(2.7.18 recorded)", "numpy", "1.0.0 locked", "no-such-package is missing", "pip install --target .tools uv"):
        assert told in str(caught.value), told


def test_a_lock_that_is_no_lock_is_told(project: Project, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"requirements\.lock cannot be read"):
        python_for(project, lock_of(tmp_path, "numpy is nice"), HERE)


@needs_uv
def test_uv_makes_the_recorded_environment_once(project: Project, tmp_path: Path) -> None:
    bring_uv(project)
    make_wheel(tmp_path)
    lock = lock_of(tmp_path, "tiny==1.5")
    python = python_for(project, lock, HERE)
    assert Path(python).is_relative_to(project.home / "rebuild")
    said = subprocess.run([python, "-c", "import tiny; print(tiny.says)"], capture_output=True, text=True, check=True)
    assert said.stdout == "hello\n"
    (tmp_path / "tiny-1.5-py3-none-any.whl").unlink()  # the second time nothing is installed
    assert python_for(project, lock, HERE) == python


@needs_uv
def test_a_lock_that_cannot_be_installed_is_told_with_uvs_words(project: Project, tmp_path: Path) -> None:
    bring_uv(project)
    with pytest.raises(DataError, match=r"the recorded lock cannot be installed .*no-such-package"):
        python_for(project, lock_of(tmp_path, "no-such-package==3.1"), HERE)


def test_a_uv_that_does_not_run_is_none(project: Project) -> None:
    shim = project.root / ".tools" / "bin" / "uv"
    shim.parent.mkdir(parents=True)
    shim.write_text("#!/bin/sh\nexit 1\n")
    shim.chmod(0o755)
    assert find_uv(project) is None
