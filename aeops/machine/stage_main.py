"""What every stage's `main` does around its pure function: dies with its parent, and tells errors to people.

A stage is started as a process (by DVC, by a flow, by hand). Its exit code is the error's kind; where AE_ERROR_FILE is
set, the error is written there too, so that whoever started the stage can raise it again, whatever ran in between.
"""

import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from aeops.errors import KINDS, AeError, as_ae_error

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Asks the kernel to kill this process when the one that started it dies: a stage must not outlive its run."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def run_stage(work: Callable[[], None]) -> None:
    """Runs a stage's work as a process's main: returns, or exits with the error's code after one clear message."""
    die_with_parent()
    try:
        work()
    except Exception as error:
        known = as_ae_error(error)
        if known is None:
            raise
        if place := os.environ.get("AE_ERROR_FILE"):
            Path(place).write_text(json.dumps({"kind": known.kind, "message": str(known)}), encoding="utf-8")
        print(f"{known.kind} error: {known}", file=sys.stderr)
        sys.exit(known.exit_code)


def raise_stage_error(error_file: Path) -> None:
    """Raises the error that a stage left in `error_file`, if it left one."""
    if error_file.is_file():
        left = json.loads(error_file.read_text(encoding="utf-8"))
        raise KINDS.get(left["kind"], AeError)(left["message"])
