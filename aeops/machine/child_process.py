"""Start heavy work as child processes that cannot outlive this one, and raise the errors that they report."""

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

from aeops.errors import AeError, InfrastructureError, InternalError, TransientError
from aeops.machine.entry_point import ERROR_FILE_VARIABLE, raise_child_error

POLL_SECONDS = 0.2
PRELOAD_OPTION = "--preload"
_LAST_LINES = 5  # of the output, in a message
_TRACEBACK = "Traceback (most recent call last)"  # in the output of a process that ends by an exception
# Runs a module as aeops.machine.run_child does, for a folder that holds another version of this project.
RUN_WITHOUT_PROJECT = """
import ctypes, runpy, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9)
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def child_environment(project_home: Path, python: str = sys.executable) -> dict[str, str]:
    """Return the environment of a child process: this one's, its Python first on the PATH, the state folder named."""
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
    on_poll: Callable[[], None] | None = None,
    python: str = sys.executable,
    other_version: bool = False,
) -> str:
    """Run `python -m <arguments>` until it ends.

    Args:
        arguments: the module's name and the arguments of its command line.
        root: the folder to run it in.
        home: the project's state folder.
        log: a file that receives the output while it is printed.
        on_poll: called a few times a second while it runs, and once at its end.
        python: the interpreter, of this environment or another one.
        other_version: `root` holds another version of this project, of whose modules only the one named is run.

    Returns:
        The output, stdout and stderr in the order in which they came.

    Raises:
        AeError: the error that a stage inside it reported; else, with the last lines of the output, a TransientError where it was
            killed, an InternalError where it ended by an exception, or an InfrastructureError.
    """
    with ChildProcess(arguments, root=root, home=home, log=log, python=python, other_version=other_version) as child:
        return child.wait(on_poll)


class ChildProcess:
    """A process `python -m <arguments>` that ends with this process or its block; see `run_module` for the arguments."""

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
        self.scratch_folder = tempfile.TemporaryDirectory(prefix="ae-")
        self.error_file = Path(self.scratch_folder.name) / "error.json"
        launcher = ["-c", RUN_WITHOUT_PROJECT] if other_version else ["-m", "aeops.machine.run_child"]
        self.process = subprocess.Popen(
            [python, *launcher, *arguments],
            cwd=root,
            env=child_environment(home, python) | {ERROR_FILE_VARIABLE: str(self.error_file)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.output_chunks: list[bytes] = []
        self.copier = threading.Thread(target=_copy_output, args=(self.process, log, self.output_chunks), daemon=True)
        self.copier.start()

    def __enter__(self) -> "ChildProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill it where it has not ended."""
        self.process.kill()  # its own children follow it: each dies with its parent
        self.process.wait()
        self.scratch_folder.cleanup()

    def wait(self, on_poll: Callable[[], None] | None = None, stdin_text: str = "") -> str:
        """Wait for its end.

        Args:
            on_poll: see `run_module`.
            stdin_text: what it reads from its standard input.

        Returns:
            The output, as `run_module` does.

        Raises:
            AeError: as `run_module` does.
        """
        assert self.process.stdin is not None
        with suppress(BrokenPipeError), self.process.stdin as stream:  # one that died already says why by its exit code
            stream.write(stdin_text.encode())
        while self.process.poll() is None:
            if on_poll is not None:
                on_poll()
            time.sleep(POLL_SECONDS)
        self.copier.join()
        if on_poll is not None:
            on_poll()
        output = b"".join(self.output_chunks).decode("utf-8", errors="replace")
        if self.process.returncode != 0:
            raise_child_error(self.error_file)
            raise _failure(self.arguments, self.process.returncode, output, self.log)
        return output


class PreloadedProcess:
    """A process that may be started before its turn: it imports a module, which takes seconds, and waits for `run`.

    One that is not needed after all ends with its block. See `run_module` for the arguments.
    """

    def __init__(self, module: str, *, root: Path, home: Path, log: Path) -> None:
        self.module, self.root, self.home, self.log = module, root, home, log
        self.child: ChildProcess | None = None

    def __enter__(self) -> "PreloadedProcess":
        return self

    def __exit__(self, *_: object) -> None:
        if self.child is not None:
            self.child.close()

    def start(self) -> ChildProcess:
        """Start the process, unless it is started."""
        if self.child is None:
            self.child = ChildProcess([PRELOAD_OPTION, self.module], root=self.root, home=self.home, log=self.log)
        return self.child

    def run(self, arguments: Sequence[str]) -> str:
        """Call the module's `main` with these arguments of its command line; returns and raises as `run_module` does."""
        child = self.start()
        child.arguments = [self.module, *arguments]
        return child.wait(stdin_text=json.dumps(child.arguments) + "\n")


def _copy_output(process: "subprocess.Popen[bytes]", log: Path, chunks: list[bytes]) -> None:
    """Copy the output to the log and to `chunks` until it ends."""
    assert process.stdout is not None
    with log.open("wb") as file, process.stdout as stream:
        while chunk := os.read(stream.fileno(), 65536):
            chunks.append(chunk)
            file.write(chunk)
            file.flush()


def _failure(arguments: Sequence[str], exit_code: int, output: str, log: Path) -> AeError:
    """Return the error for a process that died without saying what a person can do."""
    outcome = f"ended with exit code {exit_code}"
    if exit_code < 0:
        outcome = f"was killed by signal {-exit_code}"
    lines = list(filter(str.strip, output.splitlines()))[-_LAST_LINES:]
    message = f"`python -m {' '.join(arguments)}` {outcome}; its output is in {log} and ends with:\n" + "\n".join(lines)
    if exit_code < 0:
        return TransientError(message)
    if _TRACEBACK in output:
        return InternalError(message)
    return InfrastructureError(message)
