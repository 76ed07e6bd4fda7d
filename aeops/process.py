"""Starting the heavy work as processes that cannot outlive us, and hearing what went wrong in them."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from aeops.errors import InfrastructureError
from aeops.stage import raise_stage_error

POLL_SECONDS = 0.2


def environment(project_home: Path, python: str = sys.executable) -> dict[str, str]:
    """The environment of every child: its Python first on the PATH, telemetry off by what this process has set."""
    bin_folder = str(Path(python).parent)
    return os.environ | {
        "PATH": os.pathsep.join([bin_folder, os.environ.get("PATH", "")]),
        "AE_HOME": str(project_home),
        "PYTHONUNBUFFERED": "1",
    }


def run_module(
    arguments: Sequence[str],
    *,
    root: Path,
    home: Path,
    log: Path,
    meanwhile: Callable[[], None] | None = None,
    python: str = sys.executable,
) -> str:
    """Runs `python -m <arguments>` in `root` until it ends; `meanwhile` is called a few times a second.

    Args:
        python: the interpreter, of this environment or another one.

    Returns:
        What it printed, stdout and stderr as they came; the file `log` has it too, while it comes.

    Raises:
        AeError: what a stage inside it reported, else InfrastructureError with the last lines of the output.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ae-") as scratch:
        error_file = Path(scratch) / "error.json"
        child = subprocess.Popen(
            [python, "-m", "aeops.leash", *arguments],
            cwd=root,
            env=environment(home, python) | {"AE_ERROR_FILE": str(error_file)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            output = watch(child, log, meanwhile)
        except BaseException:
            child.kill()  # its own children follow it: each is on a leash
            child.wait()
            raise
        if child.returncode != 0:
            raise_stage_error(error_file)
            raise InfrastructureError(failure(arguments, child.returncode, output, log))
    return output


def watch(child: subprocess.Popen[bytes], log: Path, meanwhile: Callable[[], None] | None) -> str:
    """Waits for `child`, copying its output; returns the output."""
    pieces: list[bytes] = []
    copier = threading.Thread(target=copy_output, args=(child, log, pieces), daemon=True)
    copier.start()
    while child.poll() is None:
        if meanwhile is not None:
            meanwhile()
        time.sleep(POLL_SECONDS)
    copier.join()
    if meanwhile is not None:
        meanwhile()
    return b"".join(pieces).decode("utf-8", errors="replace")


def copy_output(child: subprocess.Popen[bytes], log: Path, pieces: list[bytes]) -> None:
    """Copies the child's output to the log and to `pieces` until it ends."""
    assert child.stdout is not None
    with log.open("wb") as file:
        while piece := os.read(child.stdout.fileno(), 65536):
            pieces.append(piece)
            file.write(piece)
            file.flush()


def failure(arguments: Sequence[str], code: int, output: str, log: Path) -> str:
    """One message for a process that died without saying what a person can do."""
    lines = [line for line in output.splitlines() if line.strip()][-5:]
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return f"`python -m {' '.join(arguments)}` {how}; all it printed is in {log}; its last lines:\n" + "\n".join(lines)
