"""One run at a time in a workspace: a lock that the kernel frees when its holder dies.

The file says who holds it, and is emptied by a holder that ends well: what stands in a free one names a process that was killed.
"""

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from aeops.errors import InfrastructureError
from aeops.machine.process_identity import parse, this_process
from aeops.project import Project

LOOK_EVERY = 1.0  # seconds between two tries of one who waits
TELL_EVERY = 60.0  # seconds between two lines of one who waits
GLANCE = 0.3  # seconds that somebody who only looks may have it

_held: dict[Path, int] = {}  # this process's own locks, so that a command and the flow it calls may both ask


@contextmanager
def run_lock(
    project: Project, purpose: str, wait: float = 0.0, tell: Callable[[str], None] = lambda says: None
) -> Iterator[None]:
    """Holds the workspace for one run; asking again in the same process is allowed.

    Args:
        wait: seconds to wait for whoever holds it; 0 refuses at once (within `GLANCE`).
        tell: called now and then while waiting, with who holds it.

    Raises:
        InfrastructureError: another process holds it; says which, since when, and what to do.
    """
    file = lock_file(project)
    if file in _held:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+", encoding="utf-8") as lock:
        take(lock, purpose, wait, tell)
        _held[file] = os.getpid()
        try:
            yield
        finally:
            del _held[file]
            lock.truncate(0)


def lock_file(project: Project) -> Path:
    return project.locks / "run.lock"


def take(lock: IO[str], purpose: str, wait: float, tell: Callable[[str], None]) -> None:
    began, wait = time.monotonic(), max(wait, GLANCE)
    told = -TELL_EVERY
    while not tried(lock):
        waited = time.monotonic() - began
        if waited >= wait:
            raise InfrastructureError(held_by(lock, wait))
        if wait > GLANCE and waited - told >= TELL_EVERY:
            told = waited
            tell(f"{purpose} waits: {holder_of(lock)} holds this workspace; up to {(wait - waited) / 60:.0f} more minutes")
        time.sleep(min(LOOK_EVERY, wait - waited))
    process = this_process()
    write_holder(lock, {"pid": process.pid, "process": process.text, "purpose": purpose, "since": time.time()})


def tried(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read_holder(lock: IO[str]) -> dict[str, Any]:
    lock.seek(0)
    return dict(json.loads(lock.read() or "{}"))


def write_holder(lock: IO[str], holder: dict[str, Any]) -> None:
    lock.seek(0)
    lock.truncate()
    json.dump(holder, lock)
    lock.flush()


def holder_of(lock: IO[str]) -> str:
    holder = read_holder(lock)
    since = time.strftime("%H:%M:%S", time.localtime(holder.get("since", time.time())))
    return f"`{holder.get('purpose', 'unknown')}`, process {holder.get('pid', 'unknown')}, since {since}"


def held_by(lock: IO[str], waited: float) -> str:
    """What one is told who cannot have it."""
    pid = read_holder(lock).get("pid", "unknown")
    so_long = f" after {waited / 60:.0f} minutes of waiting" if waited > GLANCE else ""
    return (
        f"another run holds this workspace{so_long}: {holder_of(lock)}. "
        f"One run at a time: wait for it to end (or stop it: kill {pid}), then type the command again"
    )


def is_free(project: Project) -> bool:
    """Whether nobody else holds the workspace at this moment: `run_lock` would not wait."""
    file = lock_file(project)
    if file in _held or not file.is_file():
        return True
    with file.open("r+", encoding="utf-8") as lock:
        return tried(lock)


def left_behind(project: Project) -> bool:
    """Whether the last holder of the workspace was killed, and nobody has held it or `settle`d it since."""
    file = lock_file(project)
    if not file.is_file():
        return False
    with file.open("r", encoding="utf-8") as lock:
        holder = parse(str(read_holder(lock).get("process", "")))
    return holder is not None and holder.is_dead()


def settle(project: Project) -> None:
    """Notes that what a killed holder left has been seen to; leaves the lock of a living one alone."""
    file = lock_file(project)
    if file.is_file():
        with file.open("r+", encoding="utf-8") as lock:
            if tried(lock):
                lock.truncate(0)
