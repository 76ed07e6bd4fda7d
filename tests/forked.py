"""Processes that are forks of this one: what this one has imported, which takes other processes seconds, is loaded in them.

For tests in which a process matters for its end, its signals, its locks or its output. What a process imports, and that it
starts at all, is asked of a fresh one.
"""

import gc
import os
import runpy
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

from aeops.cli.main import main
from aeops.machine.run_child import PRELOAD_OPTION

DATABASES = ("mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store")
MODULE_RUNNER = ["-m", "aeops.machine.run_child"]


def close_databases() -> None:
    """Close this process's idle connections to MLflow's databases: SQLite's are of no use, and of harm, in a fork."""
    for name in DATABASES:
        if name in sys.modules:
            for engine in sys.modules[name].SqlAlchemyStore._engine_map.values():
                engine.dispose()


class Fork:
    """A child of this process that calls a function, with as much of `subprocess.Popen` as is asked of it.

    Args:
        work: called in the child; what it returns is the exit code, None for 0.
        cwd: its folder.
        env: its environment.
        stdin, stdout, stderr: as for `Popen`; PIPE, STDOUT (for stderr) or an open file. What is left out is inherited.
        start_new_session: let it lead a session of its own.
    """

    def __init__(
        self,
        work: Callable[[], int | None],
        *,
        cwd: Path,
        env: Mapping[str, str],
        stdin: int | IO[Any] | None = None,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
        start_new_session: bool = False,
    ) -> None:
        self.stdin: IO[bytes] | None = None
        self.stdout: IO[bytes] | None = None
        self.returncode: int | None = None
        close_databases()
        with ExitStack() as childs_ends:
            descriptors: dict[int, int] = {}
            if stdin == subprocess.PIPE:
                reading, writing = os.pipe()
                self.stdin = os.fdopen(writing, "wb")
                descriptors[0] = childs_ends.enter_context(os.fdopen(reading, "rb")).fileno()
            elif stdin is not None:
                descriptors[0] = stdin if isinstance(stdin, int) else stdin.fileno()
            if stdout == subprocess.PIPE:
                reading, writing = os.pipe()
                self.stdout = os.fdopen(reading, "rb")
                descriptors[1] = childs_ends.enter_context(os.fdopen(writing, "wb")).fileno()
            elif stdout is not None:
                descriptors[1] = stdout if isinstance(stdout, int) else stdout.fileno()
            if stderr == subprocess.STDOUT:
                descriptors[2] = descriptors[1]
            elif stderr is not None:
                descriptors[2] = stderr if isinstance(stderr, int) else stderr.fileno()
            self.pid = os.fork()
            if self.pid == 0:
                self._work(work, cwd, env, descriptors, start_new_session)

    @staticmethod
    def _work(
        work: Callable[[], int | None], cwd: Path, env: Mapping[str, str], descriptors: Mapping[int, int], session: bool
    ) -> None:
        """Be the child; does not return."""
        code = 1
        try:
            gc.disable()  # a collection would touch, and so copy, all memory shared with the parent
            if session:
                os.setsid()
            for target, source in descriptors.items():
                os.dup2(source, target)
            sys.stdin, sys.stdout, sys.stderr = (
                os.fdopen(os.dup(number), mode, buffering=1) for number, mode in enumerate("rww")
            )
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            os.environ.clear()
            os.environ.update(env)
            os.chdir(cwd)
            code = work() or 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:  # noqa: BLE001  # nothing of pytest's may run in the fork
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float = 400) -> int:
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.01)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def communicate(self) -> tuple[None, None]:
        self.wait()
        return None, None

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start_module(command: Sequence[str], **options: Any) -> Fork:
    """Run what `aeops.machine.child_process` starts, `python -m aeops.machine.run_child MODULE ARGUMENT...`, in a fork."""
    assert command[1:3] == MODULE_RUNNER

    def work() -> None:
        sys.argv = list(command[3:])
        if sys.argv[0] == PRELOAD_OPTION:
            sys.argv = list(command[2:])
            sys.modules.pop("aeops.machine.run_child", None)
            runpy.run_module("aeops.machine.run_child", run_name="__main__")
            return
        sys.modules.pop(sys.argv[0], None)
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)

    return Fork(work, **options)


def subprocess_in_forks() -> SimpleNamespace:
    """Return what stands in the place of the module `subprocess` where modules are to run in forks."""
    return SimpleNamespace(**vars(subprocess) | {"Popen": start_module})


def start_ae(*arguments: str, cwd: Path, env: Mapping[str, str], log: Path) -> Fork:
    """Run `ae` in a fork that prints to a log."""
    with log.open("wb") as file:
        return Fork(lambda: main(arguments), cwd=cwd, env=env, stdout=file, stderr=file)
