"""One run at a time in a workspace: a lock that the kernel frees when its holder dies."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from aeops.errors import InfrastructureError
from aeops.project import Project

_held: dict[Path, int] = {}  # this process's own locks, so that a command and the flow it calls may both ask


@contextmanager
def run_lock(project: Project, purpose: str) -> Iterator[None]:
    """Holds the workspace for one run; asking again in the same process is allowed.

    Raises:
        InfrastructureError: another process holds it; says which, since when, and what to do.
    """
    file = project.locks / "run.lock"
    if file in _held:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+", encoding="utf-8") as lock:
        take(lock, purpose)
        _held[file] = os.getpid()
        try:
            yield
        finally:
            del _held[file]


def take(lock: IO[str], purpose: str) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.seek(0)
        holder = json.loads(lock.read() or "{}")
        since = time.strftime("%H:%M:%S", time.localtime(holder.get("since", time.time())))
        pid = holder.get("pid", "unknown")
        raise InfrastructureError(
            f"another run holds this workspace: `{holder.get('purpose', 'unknown')}`, process {pid}, since {since}. "
            f"One run at a time: wait for it to end (or stop it: kill {pid}), then type the command again"
        ) from error
    lock.seek(0)
    lock.truncate()
    json.dump({"pid": os.getpid(), "purpose": purpose, "since": time.time()}, lock)
    lock.flush()
