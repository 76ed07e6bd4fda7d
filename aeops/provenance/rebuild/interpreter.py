"""An interpreter with the packages of the recorded lock: this one if it has them, else one in an environment that uv makes."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from packaging.requirements import InvalidRequirement

from aeops.errors import DataError
from aeops.files import file_sha256
from aeops.project import Project
from aeops.provenance.packages import differences

NAMED = 3  # packages that a message names
READY = ".ready"  # in an environment that is whole


def python_for(project: Project, lock: Path | None, recorded_python: str) -> str:
    """Return the interpreter to rebuild with.

    Args:
        project: whose state folder keeps the environments that are made.
        lock: the recorded requirements.lock; None where the run had none.
        recorded_python: its version, such as 3.11.9, of which the first two numbers have to agree.

    Raises:
        DataError: the packages here are others, and uv is not there or cannot install the lock.
    """
    minor = ".".join(recorded_python.split(".")[:2]) or current_minor()
    faults = [] if minor == current_minor() else [f"Python {platform.python_version()} ({recorded_python} recorded)"]
    try:
        faults += differences(lock) if lock is not None else []
    except InvalidRequirement as error:
        raise DataError(f"the recorded requirements.lock cannot be read: {error}") from error
    if not faults:
        return sys.executable
    told = "; ".join(faults[:NAMED]) + (f" and {len(faults) - NAMED} more" if len(faults) > NAMED else "")
    uv = find_uv(project)
    if uv is None or lock is None:
        raise DataError(
            f"what is installed is not what is recorded: {told}; and there is no uv (on the PATH, in .tools/bin) to make such an "
            "environment: python3 -m pip install --target .tools uv"
        )
    return make_environment(project, uv, lock, minor, told)


def current_minor() -> str:
    return ".".join(platform.python_version_tuple()[:2])


def find_uv(project: Project) -> str | None:
    """A uv that runs: a name on the PATH may be a shim of a tool that is gone."""
    for found in (shutil.which("uv"), str(project.root / ".tools" / "bin" / "uv")):
        if found and Path(found).is_file() and runs(found):
            return found
    return None


def runs(uv: str) -> bool:
    return subprocess.run([uv, "--version"], capture_output=True, check=False).returncode == 0


def make_environment(project: Project, uv: str, lock: Path, minor: str, why: str) -> str:
    """Return the interpreter of `<home>/rebuild/env-<lock>-<Python>`, made unless it is there whole."""
    folder = project.home / "rebuild" / f"env-{file_sha256(lock)[:16]}-{minor}"
    python = folder / "bin" / "python"
    if not (folder / READY).is_file():
        print(f"making the recorded environment in {folder}: {why} ...", file=sys.stderr, flush=True)
        wanted = sys.executable if minor == current_minor() else minor
        call(uv, "venv", "--quiet", "--allow-existing", "--python", wanted, str(folder), lock=lock)
        call(uv, "pip", "sync", "--quiet", "--compile-bytecode", "--python", str(python), str(lock), lock=lock)
        (folder / READY).touch()
    return str(python)


def call(uv: str, *arguments: str, lock: Path) -> None:
    done = subprocess.run([uv, *arguments], env=os.environ | find_links(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()][:4]
        raise DataError(f"the recorded lock cannot be installed ({lock.name}, uv {arguments[0]}): {' '.join(said)}")


def find_links() -> dict[str, str]:
    """uv does not read pip's configuration: where pip knows a folder of wheels (a CPU build of torch, say), hand it on."""
    if os.environ.get("UV_FIND_LINKS"):
        return {}
    links = os.environ.get("PIP_FIND_LINKS") or _pip_find_links()
    return {"UV_FIND_LINKS": links} if links else {}


def _pip_find_links() -> str:
    if shutil.which("python3") is None:
        return ""
    command = ["python3", "-m", "pip", "config", "get", "global.find-links"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
