"""Locks between processes, which the kernel frees when their holder dies; one of them allows one run at a time in a workspace.

That lock's file names its holder, who empties it at a normal end: a name in a free lock file is that of a killed process.
"""

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypedDict

from ae_models.atomic_files import make_folder
from aeops.errors import InfrastructureError
from aeops.machine.process_identity import parse_identity, this_process
from aeops.project import Project

_POLL_SECONDS = 1.0  # between two tries of a process that waits
_NOTIFY_SECONDS = 60.0  # between two messages of a process that waits
_BRIEF_SECONDS = 0.3  # that a process which only checks the lock may hold it

_own_locks: dict[Path, int] = {}  # of this process, so that a command and the flow it calls may both take the lock


class LockHolder(TypedDict, total=False):
    """The process that holds a workspace, as the lock file stores it; empty where none does.

    Attributes:
        process: `ProcessIdentity.text`.
        purpose: the command or flow.
        since: seconds since 1970.
    """

    pid: int
    process: str
    purpose: str
    since: float


@contextmanager
def run_lock(
    project: Project, purpose: str, wait: float = 0.0, notify: Callable[[str], None] = lambda message: None
) -> Iterator[None]:
    """Hold the workspace for one run; the same process may take it again.

    Args:
        purpose: the command or flow, for messages.
        wait: seconds to wait for the present holder; 0 fails at once (within 0.3 s).
        notify: called with a message about the holder now and then while waiting.

    Raises:
        InfrastructureError: another process holds it; names it, since when, and what to do.
    """
    file = _lock_file(project)
    if file in _own_locks:
        yield
        return
    make_folder(file.parent)
    with file.open("a+", encoding="utf-8") as lock:
        _wait_for_lock(lock, purpose, wait, notify)
        _own_locks[file] = os.getpid()
        try:
            yield
        finally:
            del _own_locks[file]
            lock.truncate(0)


@contextmanager
def file_lock(project: Project, name: str, on_wait: Callable[[], None] | None = None) -> Iterator[int]:
    """Wait for a lock between processes, then hold it; the kernel frees it when its holder dies.

    Args:
        name: of the lock, `.ae/locks/<name>.lock`.
        on_wait: called once where another process holds it.

    Yields:
        The descriptor of the lock: a child process that inherits it holds the lock, too, for as long as it lives.
    """
    make_folder(project.locks_folder)
    with (project.locks_folder / f"{name}.lock").open("a", encoding="utf-8") as lock:
        if not try_flock(lock):
            if on_wait is not None:
                on_wait()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


@contextmanager
def reader_lock(project: Project, name: str) -> Iterator[None]:
    """Hold off whoever takes `file_lock` of that name, without writing: for a person who may only read the state folder."""
    try:
        lock = (project.locks_folder / f"{name}.lock").open("r", encoding="utf-8")
    except FileNotFoundError:  # nobody has ever taken it
        yield
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def try_flock(lock: IO[str] | int, operation: int = fcntl.LOCK_EX) -> bool:
    """Take the lock of an open file or descriptor; return False where another process holds it.

    Args:
        operation: LOCK_EX, or LOCK_SH of a file that is open for reading alone.
    """
    try:
        fcntl.flock(lock, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def workspace_holder(project: Project) -> LockHolder | None:
    """Return the other process that holds the workspace at this moment; None where `run_lock` would not wait."""
    file = _lock_file(project)
    if file in _own_locks or not file.is_file():
        return None
    with file.open("r", encoding="utf-8") as lock:
        if try_flock(lock, fcntl.LOCK_SH):
            return None
        return _read_holder(lock)


def was_holder_killed(project: Project) -> bool:
    """Return True where the last holder was killed and nobody has taken the lock or called `clear_killed_holder` since."""
    file = _lock_file(project)
    if not file.is_file():
        return False
    with file.open("r", encoding="utf-8") as lock:
        identity = parse_identity(_read_holder(lock).get("process", ""))
    return identity is not None and identity.is_dead()


def clear_killed_holder(project: Project) -> None:
    """Record that the remains of a killed holder are cleared up; the lock of a living one is left alone."""
    file = _lock_file(project)
    if file.is_file():
        with file.open("r+", encoding="utf-8") as lock:
            if try_flock(lock):
                lock.truncate(0)


def _lock_file(project: Project) -> Path:
    return project.locks_folder / "run.lock"


def _wait_for_lock(lock: IO[str], purpose: str, wait: float, notify: Callable[[str], None]) -> None:
    start_time, wait = time.monotonic(), max(wait, _BRIEF_SECONDS)
    last_message = -_NOTIFY_SECONDS
    while not try_flock(lock):
        waiting_time = time.monotonic() - start_time
        if waiting_time >= wait:
            raise InfrastructureError(_refusal_message(lock, wait))
        if wait > _BRIEF_SECONDS and waiting_time - last_message >= _NOTIFY_SECONDS:
            last_message = waiting_time
            minutes = (wait - waiting_time) / 60
            notify(f"{purpose} waits: {_describe_holder(lock)} holds this workspace; up to {minutes:.0f} more minutes")
        time.sleep(min(_POLL_SECONDS, wait - waiting_time))
    process = this_process()
    lock.seek(0)
    lock.truncate()
    json.dump(LockHolder(pid=process.pid, process=process.text, purpose=purpose, since=time.time()), lock)
    lock.flush()


def _read_holder(lock: IO[str]) -> LockHolder:
    """Return the holder; empty where none is named, or the file is damaged: the lock itself is the kernel's."""
    lock.seek(0)
    try:
        document = json.loads(lock.read())
    except (ValueError, RecursionError):
        return {}
    if not isinstance(document, dict):
        return {}
    holder = LockHolder()
    for key, value_type in (("pid", int), ("process", str), ("purpose", str), ("since", int | float)):
        if isinstance(document.get(key), value_type):
            holder[key] = document[key]  # type: ignore[literal-required]
    return holder


def _describe_holder(lock: IO[str]) -> str:
    holder = _read_holder(lock)
    start_time = time.strftime("%H:%M:%S", time.localtime(holder.get("since", time.time())))
    return f"`{holder.get('purpose', 'unknown')}`, process {holder.get('pid', 'unknown')}, since {start_time}"


def _refusal_message(lock: IO[str], waiting_time: float) -> str:
    pid = _read_holder(lock).get("pid", "unknown")
    duration = ""
    if waiting_time > _BRIEF_SECONDS:
        duration = f" after {waiting_time / 60:.0f} minutes of waiting"
    return (
        f"another run holds this workspace{duration}: {_describe_holder(lock)}. "
        f"One run at a time: wait for it to end (or stop it: kill {pid}), then type the command again"
    )
