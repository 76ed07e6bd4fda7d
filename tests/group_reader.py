"""A process that runs commands of `ae` as another user of the owner's group.

Root starts it: the interpreter and the packages may lie in root's home, where others cannot read. It runs each kind of command
once as root, which loads all modules, gives up root's rights for good, and then answers lines of JSON.
"""

import contextlib
import faulthandler
import io
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

READER, GROUP = 65534, 0  # a user who owns nothing here, in the owner's group
SECONDS = 200  # for the commands of one request; then the process prints its stacks and ends


@dataclass(frozen=True)
class Answer:
    """Exit code of a command, and what it printed."""

    code: int | str
    text: str


class GroupReader:
    """The process, as a test sees it. Use as a context manager.

    Args:
        root: a project in which it runs `commands` as root. They may write there.
        commands: what loads all modules.
        errors: an open file, for what the process prints past its answers.
    """

    def __init__(self, root: Path, commands: Sequence[str], errors: IO[str]) -> None:
        environment = {name: value for name, value in os.environ.items() if name not in ("MLFLOW_TRACKING_URI", "AE_HOME")}
        self._errors = errors
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment | {"COLUMNS": "160"},
        )
        self.run(root, commands)

    def __enter__(self) -> "GroupReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=60)

    def run(self, root: Path, commands: Sequence[str], **settings: str) -> list[Answer]:
        """Run commands in a project, with these variables of the environment."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({"root": str(root), "commands": commands, "settings": settings}), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            raise AssertionError(f"the process gave no answer; it printed: {self._errors.read()}")
        return [Answer(code, text) for code, text in json.loads(line)]


def typed(command: Sequence[str]) -> tuple[int | str, str]:
    """Run a command in this process; return its exit code, or that it ended in a traceback, and what it printed."""
    from aeops.cli.main import main

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            return main(command), printed.getvalue()
        except Exception:  # noqa: BLE001  # the tests compare it with the exit code that they expect
            traceback.print_exc()
            return "a traceback", printed.getvalue()


def answer_requests() -> None:
    """Answer the first request as root, and all others as the reader."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print past sys.stdout
    os.umask(0o027)
    variables = dict(os.environ)
    for line in sys.stdin:
        request = json.loads(line)
        os.environ.clear()
        os.environ.update(variables | request["settings"])
        os.chdir(request["root"])
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        done = [typed(command.split()) for command in request["commands"]]
        faulthandler.cancel_dump_traceback_later()
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(GROUP, GROUP, GROUP)
            os.setresuid(READER, READER, READER)
        print(json.dumps(done), file=answers, flush=True)


if __name__ == "__main__":
    import aeops.provenance.last_run
    import aeops.stack.startup  # noqa: F401  # used by commands that are not run as root

    answer_requests()
