"""Tie a process to the one that started it: it ends when that one does, however that one ends.

A process names itself to those that it starts in AE_PARENT_PROCESS. Without that, a process whose parent died before it could
ask the kernel for a signal would never learn of the death: it would work on, and write beside the next run.
Light on import, as it is imported before anything else.
"""

import ctypes
import os
import signal
import sys
import threading
import time

from aeops.machine.process_identity import ProcessIdentity, parse_identity, this_process

PARENT_VARIABLE = "AE_PARENT_PROCESS"  # `ProcessIdentity.text` of the nearest process above that is one of ours
_PR_SET_PDEATHSIG = 1
_CHECK_INTERVAL = 0.1  # seconds

_tied_pid: int | None = None  # of the process that has called `die_with_parent`, so that a second call does nothing


def parent_environment() -> dict[str, str]:
    """Return the variable by which a child of this process knows its parent."""
    return {PARENT_VARIABLE: this_process().text}


def die_with_parent() -> None:
    """Have this process killed when the process that started it ends; kill it now where that one has ended already.

    It also becomes the parent of what it starts itself, whatever starts that (DVC and a shell start a stage).
    """
    global _tied_pid
    if _tied_pid == os.getpid():
        return
    _tied_pid = os.getpid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # Read after the request to the kernel: a parent that is alive now cannot end unnoticed.
    parent = parse_identity(os.environ.get(PARENT_VARIABLE, ""))
    os.environ.update(parent_environment())
    if parent is None:
        return  # started by a person or a service manager
    if sys.platform == "linux" and parent.pid == os.getppid():
        return  # the kernel sees to it
    # A shell stands in between, whose death the kernel would report, and not that of the process behind it.
    _die_if_dead(parent)
    threading.Thread(target=_follow, args=(parent,), name="parent-process", daemon=True).start()


def _follow(parent: ProcessIdentity) -> None:
    while True:
        time.sleep(_CHECK_INTERVAL)
        _die_if_dead(parent)


def _die_if_dead(parent: ProcessIdentity) -> None:
    if parent.is_dead():
        os.kill(os.getpid(), signal.SIGKILL)
