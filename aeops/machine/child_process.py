"""Start heavy work as child processes that cannot outlive this one, and raise the errors that they report."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from ae_models.atomic_files import make_folder
from aeops.errors import AeError, InfrastructureError, InternalError, TransientError
from aeops.machine.entry_point import ERROR_FILE_VARIABLE, raise_child_error
from aeops.machine.parent_process import parent_environment
from aeops.machine.run_child import PRELOAD_OPTION
from aeops.machine.scratch import ScratchFolder

POLL_SECONDS = 0.2
_LAST_LINES = 5  # of the output, in a message
_TRACEBACK = "Traceback (most recent call last)"  # in the output of a process that ends by an exception
_KILL_TIMEOUT = 1.0  # seconds that a killed process may take to end
# `aeops.machine.parent_process` without an import of this project. The first argument is the pid of the process that starts it.
_DIE_WITH_PARENT = """
import ctypes, os, runpy, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9)
if os.getppid() != int(sys.argv[1]):
    os.kill(os.getpid(), 9)
sys.argv = sys.argv[2:]
"""
# Runs a module as aeops.machine.run_child does, for a folder that holds another version of this project.
RUN_WITHOUT_PROJECT = f"""{_DIE_WITH_PARENT}
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
_RUN_PROGRAM = f"""{_DIE_WITH_PARENT}
os.execvp(sys.argv[0], sys.argv)
"""

_running: "set[ChildProcess]" = set()  # of this process


def child_environment(project_home: Path, python: str = sys.executable) -> dict[str, str]:
    """Return the environment of a child process: this one's, its Python first on the PATH, state folder and parent named."""
    bin_folder = str(Path(python).parent)
    return (
        os.environ
        | parent_environment()
        | {
            "PATH": os.pathsep.join([bin_folder, os.environ.get("PATH", "")]),
            "AE_PYTHON": python,  # of the stages that DVC starts: see .dvc/stage
            "AE_HOME": str(project_home),
            "PYTHONUNBUFFERED": "1",
        }
    )


def tied_command(command: Sequence[str]) -> list[str]:
    """Return a command that runs another one, of any program, and is killed when this process ends."""
    return [sys.executable, "-c", _RUN_PROGRAM, str(os.getpid()), *command]


def require_not_killed(exit_code: int, description: str) -> None:
    """Refuse the outcome of a process that was killed by SIGKILL: it says nothing about what the process had to find out.

    Args:
        exit_code: of the process, as `subprocess` returns it.
        description: names the process in the message.

    Raises:
        TransientError: it was killed: by a person, or by the kernel for lack of memory.
    """
    if exit_code == -signal.SIGKILL:
        raise TransientError(f"{description} was killed (signal 9, such as for lack of memory); type the same command again")


def kill_children() -> None:
    """Kill every `ChildProcess` of this process that runs, with all that it has started; wait a second for their ends."""
    children = list(_running)
    for child in children:
        child.kill()
    for child in children:
        with suppress(subprocess.TimeoutExpired):
            child.process.wait(timeout=_KILL_TIMEOUT)
        child.scratch_folder.cleanup()


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
    """A process `python -m <arguments>` that ends with this process or its block; see `run_module` for the arguments.

    It leads a session of its own: a Ctrl-C in the terminal reaches this process alone, which then ends it.
    """

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
        make_folder(log.parent)
        self.scratch_folder = ScratchFolder()
        self.error_file = Path(self.scratch_folder.name) / "error.json"
        launcher = ["-m", "aeops.machine.run_child"]
        if other_version:
            launcher = ["-c", RUN_WITHOUT_PROJECT, str(os.getpid())]
        self.process = subprocess.Popen(
            [python, *launcher, *arguments],
            cwd=root,
            env=child_environment(home, python) | {ERROR_FILE_VARIABLE: str(self.error_file)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        _running.add(self)
        self.output_chunks: list[bytes] = []
        self.copier = threading.Thread(target=_copy_output, args=(self.process, log, self.output_chunks), daemon=True)
        self.copier.start()

    def __enter__(self) -> "ChildProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def is_running(self) -> bool:
        """Return False once it has ended; `wait` then says how."""
        return self.process.poll() is None

    def kill(self) -> None:
        """Kill it where it has not ended, with the processes of its session."""
        if self.process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill it where it has not ended, and wait for its end."""
        self.kill()
        self.process.wait()
        _running.discard(self)
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
        """Call the module's `main` with these arguments of its command line; returns and raises as `run_module` does.

        The process ends with that: another call, such as that of a step that is tried again, starts a new one.
        """
        child = self.start()
        child.arguments = [self.module, *arguments]
        try:
            return child.wait(stdin_text=json.dumps(child.arguments) + "\n")
        finally:
            child.close()
            self.child = None


def _copy_output(process: "subprocess.Popen[bytes]", log: Path, chunks: list[bytes]) -> None:
    """Copy the output to the log and to `chunks` until it ends."""
    assert process.stdout is not None
    log.write_bytes(b"")
    with log.open("ab") as file, process.stdout as stream:  # for appending, so that it can be emptied while it is written
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
