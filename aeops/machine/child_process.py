"""Starting the heavy work as processes that cannot outlive us, and hearing what went wrong in them."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from aeops.errors import InfrastructureError
from aeops.machine.stage_main import raise_stage_error

POLL_SECONDS = 0.2
# Runs a module as aeops.machine.run_child does, for a folder that holds another version of this project.
RUN_WITHOUT_PROJECT = """
import ctypes, runpy, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9)
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


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
    other_version: bool = False,
) -> str:
    """Runs `python -m <arguments>` in `root` until it ends; `meanwhile` is called a few times a second.

    Args:
        python: the interpreter, of this environment or another one.
        other_version: `root` holds another version of this project, of whose modules only the one named is run.

    Returns:
        What it printed, stdout and stderr as they came; the file `log` has it too, while it comes.

    Raises:
        AeError: what a stage inside it reported, else InfrastructureError with the last lines of the output.
    """
    with Child(arguments, root=root, home=home, log=log, python=python, other_version=other_version) as child:
        return child.end(meanwhile)


class Child:
    """A process `python -m <arguments>` on a leash, until it is closed; see `run_module` for the arguments."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        root: Path,
        home: Path,
        log: Path,
        python: str = sys.executable,
        other_version: bool = False,
    ) -> None:
        self.arguments, self.log = list(arguments), log
        log.parent.mkdir(parents=True, exist_ok=True)
        self.scratch = tempfile.TemporaryDirectory(prefix="ae-")
        self.error_file = Path(self.scratch.name) / "error.json"
        launcher = ["-c", RUN_WITHOUT_PROJECT] if other_version else ["-m", "aeops.machine.run_child"]
        self.process = subprocess.Popen(
            [python, *launcher, *arguments],
            cwd=root,
            env=environment(home, python) | {"AE_ERROR_FILE": str(self.error_file)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.pieces: list[bytes] = []
        self.copier = threading.Thread(target=copy_output, args=(self.process, log, self.pieces), daemon=True)
        self.copier.start()

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kills it where it has not ended."""
        self.process.kill()  # its own children follow it: each is on a leash
        self.process.wait()
        self.scratch.cleanup()

    def end(self, meanwhile: Callable[[], None] | None = None, told: str = "") -> str:
        """Waits for its end; returns and raises as `run_module` does.

        Args:
            told: what it reads from its standard input.
        """
        assert self.process.stdin is not None
        with suppress(BrokenPipeError), self.process.stdin as stream:  # one that died already says why by its exit code
            stream.write(told.encode())
        while self.process.poll() is None:
            if meanwhile is not None:
                meanwhile()
            time.sleep(POLL_SECONDS)
        self.copier.join()
        if meanwhile is not None:
            meanwhile()
        output = b"".join(self.pieces).decode("utf-8", errors="replace")
        if self.process.returncode != 0:
            raise_stage_error(self.error_file)
            raise InfrastructureError(failure(self.arguments, self.process.returncode, output, self.log))
        return output


class Ahead:
    """A process that may begin ahead of its turn: it imports a module, which takes seconds, and waits for `run`.

    Not wanted after all, it ends with its block. See `run_module` for the arguments.
    """

    def __init__(self, module: str, *, root: Path, home: Path, log: Path) -> None:
        self.module, self.root, self.home, self.log = module, root, home, log
        self.child: Child | None = None

    def __enter__(self) -> "Ahead":
        return self

    def __exit__(self, *_: object) -> None:
        if self.child is not None:
            self.child.close()

    def begin(self) -> Child:
        """Starts the process, unless it is."""
        self.child = self.child or Child([AHEAD, self.module], root=self.root, home=self.home, log=self.log)
        return self.child

    def run(self, arguments: Sequence[str]) -> str:
        """Calls the module's `main` with these arguments of its command line; returns and raises as `run_module` does."""
        child = self.begin()
        child.arguments = [self.module, *arguments]
        return child.end(told=json.dumps(child.arguments) + "\n")


def copy_output(child: subprocess.Popen[bytes], log: Path, pieces: list[bytes]) -> None:
    """Copies the child's output to the log and to `pieces` until it ends."""
    assert child.stdout is not None
    with log.open("wb") as file, child.stdout as stream:
        while piece := os.read(stream.fileno(), 65536):
            pieces.append(piece)
            file.write(piece)
            file.flush()


def failure(arguments: Sequence[str], code: int, output: str, log: Path) -> str:
    """One message for a process that died without saying what a person can do."""
    lines = [line for line in output.splitlines() if line.strip()][-5:]
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return f"`python -m {' '.join(arguments)}` {how}; all it printed is in {log}; its last lines:\n" + "\n".join(lines)


AHEAD = "--ahead"
