"""A process that has loaded the libraries, and runs others in forks of itself, without their imports: `ae`, and pytest's workers.

What a run starts is a fork, too: its modules, DVC, and DVC's stages. Each fork loads the project's own code afresh from the
folder it runs in, so that a rebuild of another commit runs that commit's code. The server calculates nothing itself, as
OpenMP's threads do not live on in a fork.

Clients are tests/forked_python.py and `run_in_fork`. A request is a line of JSON on a Unix socket, with the file descriptors
of stdin, stdout and stderr; the answer is the exit code. A client that hangs up ends what it asked for.
"""

import atexit
import functools
import gc
import importlib
import json
import os
import runpy
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from forked import DATABASES, Fork
from forked_python import ADDRESS, ask, wait_for_exit_code

from aeops.machine.run_child import PRELOAD_OPTION

FORK_OPTIONS = {"cwd", "env", "stdin", "stdout", "stderr", "start_new_session"}
STAGES = tuple(f"aeops.stages.{name}" for name in ("validate", "prepare", "train", "calibrate", "evaluate", "gate", "compare"))
OF_TESTS = ("flask", "httpx", "hypothesis", "litserve", "model_signing", "nltk", "schemathesis.pytest.plugin", "skimage.metrics")
LIBRARIES = (*STAGES, "aeops.registry.killed_runs", "mlflow", *DATABASES, "sklearn.ensemble", *OF_TESTS)
# Loaded in each fork: the project's code, and what looks at its surroundings as it is loaded or may be loaded only once.
LOADED_AFRESH = ("ae_models", "aeops", "flows", "forked", "forked_python", "dvc", "prefect", "prometheus_client")


class ForkServer:
    """This file as a process, and how to ask it. It ends when the process that started it does."""

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="forks-")
        self.address = f"{self.folder}/socket"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.address)
            listener.listen()
            command = [sys.executable, __file__, str(listener.fileno())]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[listener.fileno()])

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        shutil.rmtree(self.folder)


@functools.cache
def fork_server_address() -> str:
    """Return the socket of the server that all processes of pytest-xdist share, or of this process's own, started now."""
    if ADDRESS in os.environ:
        return os.environ[ADDRESS]
    server = ForkServer()
    atexit.register(server.close)
    return server.address


def run_in_fork(
    kind: str, *arguments: str, cwd: Path, env: Mapping[str, str], timeout: float = 600
) -> subprocess.CompletedProcess[str]:
    """Run a module ("module", its name first) or a script ("code", its text first) with arguments, and wait for its end.

    Raises:
        TimeoutExpired: it took longer than so many seconds, and was killed.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        with open(os.devnull, "rb") as stdin:
            files = [file.fileno() for file in (stdin, output, errors)]
            connection = ask(fork_server_address(), kind, list(arguments), str(cwd), dict(env), files)
        with connection:
            connection.settimeout(timeout)
            try:
                code = wait_for_exit_code(connection)
            except TimeoutError:
                raise subprocess.TimeoutExpired(arguments, timeout, read_from_start(output), read_from_start(errors)) from None
        return subprocess.CompletedProcess(arguments, code, read_from_start(output), read_from_start(errors))


def read_from_start(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


# ---------------------------------------------------------------- in the server and its forks


def forget_own_code() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in LOADED_AFRESH]:
        del sys.modules[name]


def run_module(arguments: Sequence[str]) -> None:
    """Do what `python -m MODULE ARGUMENT...` does in the current folder, with forks for the modules that it starts."""
    forget_own_code()
    sys.path[0] = os.getcwd()
    sys.argv = list(arguments)
    subprocess.Popen = ForkingPopen  # type: ignore[misc]
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


def run_code(arguments: Sequence[str]) -> None:
    """Do what `python -c CODE ARGUMENT...` does in the current folder, with forks for the modules that it starts."""
    forget_own_code()
    code, *others = arguments
    sys.path[0] = os.getcwd()
    sys.argv = ["-c", *others]
    subprocess.Popen = ForkingPopen  # type: ignore[misc]
    exec(code, {"__name__": "__main__"})


class ForkingPopen(subprocess.Popen[Any]):
    """`subprocess.Popen`, but for a module that a run or DVC starts, which is a fork."""

    def __new__(cls, command: Any, *_: Any, **options: Any) -> Any:
        started = started_module(command) if isinstance(command, list) else None
        options = {name: value for name, value in options.items() if name not in ("close_fds", "shell")}
        if started is None or not options.keys() <= FORK_OPTIONS:
            return super().__new__(cls)
        return Fork(lambda: run_module(started), **options)


def started_module(command: Sequence[str]) -> list[str] | None:
    """Return module and arguments that a command starts by `aeops.machine.run_child`, by its script, or by DVC's shell."""
    if len(command) < 3:
        return None
    program, option, *words = command
    if program == sys.executable and option == "-m" and words[0].endswith(".run_child"):
        return words if words[1] == PRELOAD_OPTION else words[1:]
    if program == sys.executable and option == "-c" and "runpy.run_module(" in words[0]:  # another version's; tied to a pid
        return words[2:]
    if option == "-c" and words[0].startswith("sh .dvc/stage "):
        stage, *arguments = shlex.split(words[0])[2:]
        return [f"aeops.stages.{stage.partition(':')[0]}", *arguments]
    return None


def be_worker(arguments: Sequence[str]) -> None:
    """Do what `python ARGUMENT... -c CODE` does for pytest-xdist, which starts its workers so; what they start is real."""
    gc.enable()
    forget_own_code()
    sys.stdin, sys.stdout, sys.stderr = (open(number, mode, buffering=1, closefd=False) for number, mode in enumerate("rww"))  # noqa: SIM115
    sys.argv = ["-c"]
    exec(arguments[arguments.index("-c") + 1], {"__name__": "__main__"})


RUNNERS: dict[str, Callable[[Sequence[str]], None]] = {"module": run_module, "code": run_code, "worker": be_worker}


def serve(listener: socket.socket) -> None:
    """Answer requests, each in a fork, until stdin is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the clients, and with them what they asked for
    gc.disable()  # a sixth of the imports would be collections
    for name in LIBRARIES:
        importlib.import_module(name)
    from mlflow.utils import requirements_utils

    requirements_utils._init_modules_to_packages_map()  # of the metadata of all packages, which MLflow reads to save a model
    gc.collect()
    gc.freeze()
    gc.enable()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no fork waits to be asked for its exit code
    while listener in select.select([listener, 0], [], [])[0]:
        connection, _ = listener.accept()
        with connection:
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                listener.close()
                answer(connection)
                os._exit(0)


def answer(connection: socket.socket) -> None:
    """Do what a request asks for in a fork of this fork; end it when the client hangs up."""
    line, files, _, _ = socket.recv_fds(connection, 1, 3)
    while not line.endswith(b"\n"):
        line += connection.recv(1 << 20)
    request = json.loads(line)

    def child() -> None:
        connection.close()
        RUNNERS[request["kind"]](request["arguments"])

    stdin, stdout, stderr = files
    fork = Fork(child, cwd=Path(request["cwd"]), env=request["env"], stdin=stdin, stdout=stdout, stderr=stderr)
    for file in files:
        os.close(file)
    ended = os.pidfd_open(fork.pid)
    if ended in select.select([connection, ended], [], [])[0]:
        connection.sendall(b"%d\n" % fork.wait())
    else:
        fork.kill()
        fork.wait()


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
