"""Find an interpreter with the packages of the recorded lock: this one, else one in an environment that uv makes."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from packaging.requirements import InvalidRequirement

from aeops.errors import DataError
from aeops.files import atomic_write, file_sha256
from aeops.machine.child_process import tied_command
from aeops.machine.terminal import print_progress
from aeops.project import Project
from aeops.provenance.packages import lock_differences

MAX_NAMED = 3  # packages that a message names
READY_FILE = ".ready"  # in an environment that is whole


def python_for(project: Project, lock: Path | None, recorded_python: str) -> str:
    """Return the interpreter to rebuild with.

    Args:
        project: whose state folder keeps the environments that are made.
        lock: the recorded requirements.lock; None where the run had none.
        recorded_python: its version, such as 3.11.9, of which the first two numbers have to agree.

    Raises:
        DataError: the packages here are others, and uv is not there or cannot install the lock.
    """
    minor_version = ".".join(recorded_python.split(".")[:2]) or _current_minor_version()
    differences = []
    if minor_version != _current_minor_version():
        differences.append(f"Python {platform.python_version()} ({recorded_python} recorded)")
    if lock is not None:
        try:
            differences += lock_differences(lock)
        except InvalidRequirement as error:
            raise DataError(f"the recorded requirements.lock cannot be read: {error}") from error
    if not differences:
        return sys.executable
    reason = "; ".join(differences[:MAX_NAMED])
    if len(differences) > MAX_NAMED:
        reason += f" and {len(differences) - MAX_NAMED} more"
    uv_program = find_uv(project)
    if uv_program is None or lock is None:
        raise DataError(
            f"the installed packages are not the recorded ones: {reason}; and there is no uv (on the PATH, in .tools/bin) "
            "to make such an environment: python3 -m pip install --target .tools uv"
        )
    return _make_environment(project, uv_program, lock, minor_version, reason)


def _current_minor_version() -> str:
    return ".".join(platform.python_version_tuple()[:2])


def find_uv(project: Project) -> str | None:
    """Return the path of a uv that runs, or None: a name on the PATH may be a shim of a removed tool."""
    for program in (shutil.which("uv"), str(project.root / ".tools" / "bin" / "uv")):
        if program and Path(program).is_file() and _is_runnable(program):
            return program
    return None


def _is_runnable(uv_program: str) -> bool:
    return subprocess.run([uv_program, "--version"], capture_output=True, check=False).returncode == 0


def _make_environment(project: Project, uv_program: str, lock: Path, minor_version: str, reason: str) -> str:
    """Return the interpreter of `<home>/rebuild/env-<lock>-<Python>`, made unless it is there whole."""
    folder = project.home / "rebuild" / f"env-{file_sha256(lock)[:16]}-{minor_version}"
    python = folder / "bin" / "python"
    if not (folder / READY_FILE).is_file():
        print_progress(f"making the recorded environment in {folder}: {reason}")
        base_python = minor_version
        if minor_version == _current_minor_version():
            base_python = sys.executable
        _run_uv(uv_program, "venv", "--quiet", "--allow-existing", "--python", base_python, str(folder), lock=lock)
        _run_uv(uv_program, "pip", "sync", "--quiet", "--compile-bytecode", "--python", str(python), str(lock), lock=lock)
        os.sync()  # tens of thousands of files: one by one that would take a minute
        atomic_write(folder / READY_FILE, "")
    return str(python)


def _run_uv(uv_program: str, *arguments: str, lock: Path) -> None:
    environment = os.environ | _find_links()
    process = subprocess.run(tied_command([uv_program, *arguments]), env=environment, capture_output=True, text=True, check=False)
    if process.returncode != 0:
        message_lines = list(filter(None, map(str.strip, process.stderr.splitlines())))
        raise DataError(f"the recorded lock cannot be installed ({lock.name}, uv {arguments[0]}): {' '.join(message_lines[:4])}")


def _find_links() -> dict[str, str]:
    """Return the variable that names pip's folder of wheels (a CPU build of torch, say): uv does not read pip's settings."""
    if os.environ.get("UV_FIND_LINKS"):
        return {}
    links = os.environ.get("PIP_FIND_LINKS") or _pip_find_links()
    if not links:
        return {}
    return {"UV_FIND_LINKS": links}


def _pip_find_links() -> str:
    if shutil.which("python3") is None:
        return ""
    command = ["python3", "-m", "pip", "config", "get", "global.find-links"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode != 0:
        return ""
    return process.stdout.strip()
