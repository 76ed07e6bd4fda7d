"""A process that has loaded the libraries of a run, and runs `ae` in forks of itself: whole runs without their imports.

What a run starts is a fork, too: its modules, DVC, and DVC's stages. Each fork loads the project's own code afresh from the
folder it runs in, so that a rebuild of another commit runs that commit's code. This process calculates nothing itself, as
OpenMP's threads do not live on in a fork.
"""

import atexit
import functools
import gc
import importlib
import json
import os
import runpy
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from forked import DATABASES, Fork

from aeops.machine.run_child import PRELOAD_OPTION

AE = "aeops.cli.main"
FORK_OPTIONS = {"cwd", "env", "stdin", "stdout", "stderr", "start_new_session"}
STAGES = tuple(f"aeops.stages.{name}" for name in ("validate", "prepare", "train", "calibrate", "evaluate", "gate", "compare"))
LIBRARIES = (*STAGES, "aeops.registry.killed_runs", "mlflow", *DATABASES)
# Loaded in each fork: the project's code, and what looks at its surroundings as it is loaded or may be loaded only once.
LOADED_AFRESH = ("ae_models", "aeops", "flows", "dvc", "prefect", "prometheus_client")


class ForkServer:
    """This file as a process, and how to ask it. It ends when the process that started it does."""

    def __init__(self) -> None:
        self.process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(
        self, *arguments: str, cwd: Path, env: Mapping[str, str], output: Path, errors: Path, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run `ae`; what it prints goes through the two files.

        Raises:
            TimeoutExpired: it took longer, and was killed.
        """
        request = {"arguments": arguments, "cwd": str(cwd), "env": dict(env), "timeout": timeout}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(request | {"output": str(output), "errors": str(errors)}), file=self.process.stdin, flush=True)
        code = json.loads(self.process.stdout.readline())
        if code is None:
            raise subprocess.TimeoutExpired(["ae", *arguments], timeout, output.read_bytes(), errors.read_bytes())
        return subprocess.CompletedProcess(["ae", *arguments], code, output.read_text(), errors.read_text())

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


@functools.cache
def fork_server() -> ForkServer:
    """Return the server of this process, started now unless it is: loading takes it ten seconds."""
    server = ForkServer()
    atexit.register(server.close)
    return server


# ---------------------------------------------------------------- in the server and its forks


def run_as_main(module: str, arguments: Sequence[str]) -> None:
    """Do what `python -m MODULE ARGUMENT...` does in the current folder, with forks for the modules that it starts."""
    for name in [name for name in sys.modules if name.partition(".")[0] in LOADED_AFRESH]:
        del sys.modules[name]
    sys.path[0] = os.getcwd()
    sys.argv = [module, *arguments]
    subprocess.Popen = ForkingPopen  # type: ignore[misc]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


class ForkingPopen(subprocess.Popen[Any]):
    """`subprocess.Popen`, but for a module that a run or DVC starts, which is a fork."""

    def __new__(cls, command: Any, *_: Any, **options: Any) -> Any:
        started = started_module(command) if isinstance(command, list) else None
        options = {name: value for name, value in options.items() if name not in ("close_fds", "shell")}
        if started is None or not options.keys() <= FORK_OPTIONS:
            return super().__new__(cls)
        module, *arguments = started
        return Fork(lambda: run_as_main(module, arguments), **options)


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


def serve() -> None:
    """Answer each request, a line of JSON, with the exit code of a fork; None where it took too long."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # what libraries print is no answer
        for name in LIBRARIES:
            importlib.import_module(name)
        gc.collect()
        gc.freeze()
        for line in sys.stdin:
            print(json.dumps(run_in_fork(**json.loads(line))), file=answers, flush=True)


def run_in_fork(
    arguments: Sequence[str], cwd: str, env: Mapping[str, str], output: str, errors: str, timeout: float
) -> int | None:
    with ExitStack() as files:
        stdin = files.enter_context(open(os.devnull, "rb"))
        stdout, stderr = (files.enter_context(open(name, "wb")) for name in (output, errors))
        fork = Fork(lambda: run_as_main(AE, arguments), cwd=Path(cwd), env=env, stdin=stdin, stdout=stdout, stderr=stderr)
    try:
        return fork.wait(timeout)
    except subprocess.TimeoutExpired:
        fork.kill()
        fork.wait()
        return None


if __name__ == "__main__":
    serve()
