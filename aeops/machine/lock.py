"""Locks between processes, which the kernel frees when their holder dies.

A run holds what it uses for as long as it works: its recipe, its dataset, and a share of the workspace, which `ae prune` and its
like hold alone. So two recipes run at once where they share nothing. The file of a lock names its holder, who empties it at a
normal end: a name in a free lock file is that of a killed process.
"""

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypedDict

from ae_models.atomic_files import make_folder
from aeops.errors import InfrastructureError
from aeops.machine.process_identity import parse_identity, this_process
from aeops.project import Project

PROJECT_FILES_LOCK = "project-files"  # held by who changes params.yaml, dvc.yaml or prefect.yaml, as runs may work at once
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


@dataclass(frozen=True)
class RunUse:
    """What a run uses for as long as it works, and another run may not."""

    recipe: str
    dataset: str


@dataclass(frozen=True)
class _Claim:
    """A lock that a run needs.

    Attributes:
        file: of the lock.
        operation: LOCK_EX, or LOCK_SH beside others.
        what: it stands for, in messages.
    """

    file: Path
    operation: int
    what: str


def _claims(project: Project, use: RunUse | None) -> list[_Claim]:
    """Return the locks of a run, in the order in which every process takes them; the whole workspace for None."""
    if use is None:
        return [_Claim(_workspace_file(project), fcntl.LOCK_EX, "this workspace")]
    return [
        _Claim(_workspace_file(project), fcntl.LOCK_SH, "this workspace"),
        _Claim(project.locks_folder / f"run-{use.recipe}.lock", fcntl.LOCK_EX, f"the recipe {use.recipe}"),
        _Claim(project.locks_folder / f"dataset-{use.dataset}.lock", fcntl.LOCK_EX, f"data/{use.dataset}"),
    ]


@contextmanager
def run_lock(
    project: Project,
    purpose: str,
    use: RunUse | None = None,
    wait: float = 0.0,
    notify: Callable[[str], None] = lambda message: None,
) -> Iterator[None]:
    """Hold what a run uses; the same process may take it again.

    Args:
        purpose: the command or flow, for messages.
        use: the recipe and the dataset; None: the whole workspace, while no run is in progress.
        wait: seconds to wait for the present holder; 0 fails at once (within 0.3 s).
        notify: called with a message about the holder now and then while waiting.

    Raises:
        InfrastructureError: another process holds it; names it, since when, and what to do.
    """
    claims = _claims(project, use)
    if claims[-1].file in _own_locks or _workspace_file(project) in _own_locks:
        yield
        return
    make_folder(project.locks_folder)
    with ExitStack() as held:
        for claim in claims:
            held.enter_context(_held(project, claim, purpose, wait, notify))
        yield


@contextmanager
def _held(project: Project, claim: _Claim, purpose: str, wait: float, notify: Callable[[str], None]) -> Iterator[None]:
    with claim.file.open("a+", encoding="utf-8") as lock:
        _wait_for_lock(project, lock, claim, purpose, wait, notify)
        if claim.operation == fcntl.LOCK_SH:
            yield
            return
        _write_holder(lock, purpose)
        _own_locks[claim.file] = os.getpid()
        try:
            yield
        finally:
            del _own_locks[claim.file]
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


def is_file_locked(project: Project, name: str) -> bool:
    """Return whether a process holds `file_lock` of that name at this moment."""
    try:
        lock = (project.locks_folder / f"{name}.lock").open("r", encoding="utf-8")
    except FileNotFoundError:
        return False
    with lock:
        return not try_flock(lock, fcntl.LOCK_SH)


@contextmanager
def unwaited_file_lock(project: Project, name: str) -> Iterator[bool]:
    """Hold `file_lock` of that name where no other process does; yields whether it is held."""
    make_folder(project.locks_folder)
    with (project.locks_folder / f"{name}.lock").open("a", encoding="utf-8") as lock:
        yield try_flock(lock)


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


def runs_in_progress(project: Project) -> list[LockHolder]:
    """Return the other processes that hold a recipe or the whole workspace at this moment."""
    holders = (_holder_of(file) for file in (_workspace_file(project), *_recipe_files(project)))
    return [holder for holder in holders if holder is not None]


def would_wait(project: Project, use: RunUse) -> bool:
    """Return whether another process holds what a run would use."""
    claims = _claims(project, use)
    return any(_holder_of(claim.file) is not None for claim in claims)


def was_holder_killed(project: Project) -> bool:
    """Return True where a holder was killed and nobody has taken its lock or called `clear_killed_holder` since."""
    for file in (_workspace_file(project), *_recipe_files(project)):
        if file.is_file():
            with file.open("r", encoding="utf-8") as lock:
                identity = parse_identity(_read_holder(lock).get("process", ""))
            if identity is not None and identity.is_dead():
                return True
    return False


def clear_killed_holder(project: Project) -> None:
    """Record that the remains of killed holders are cleared up; the locks of living ones are left alone."""
    for file in (_workspace_file(project), *_recipe_files(project)):
        if file.is_file():
            with file.open("r+", encoding="utf-8") as lock:
                # Whoever has a share of the workspace is not named in its file, so that a share is enough to empty it.
                if try_flock(lock, fcntl.LOCK_SH if file == _workspace_file(project) else fcntl.LOCK_EX):
                    lock.truncate(0)


def _workspace_file(project: Project) -> Path:
    return project.locks_folder / "run.lock"


def _recipe_files(project: Project) -> list[Path]:
    return sorted(project.locks_folder.glob("run-*.lock"))


def _holder_of(file: Path) -> LockHolder | None:
    """Return the other process that holds a lock alone; None where none does."""
    if file in _own_locks or not file.is_file():
        return None
    with file.open("r", encoding="utf-8") as lock:
        if try_flock(lock, fcntl.LOCK_SH):
            return None
        return _read_holder(lock)


def _wait_for_lock(
    project: Project, lock: IO[str], claim: _Claim, purpose: str, wait: float, notify: Callable[[str], None]
) -> None:
    start_time, wait = time.monotonic(), max(wait, _BRIEF_SECONDS)
    last_message = -_NOTIFY_SECONDS
    while not try_flock(lock, claim.operation):
        waiting_time = time.monotonic() - start_time
        if waiting_time >= wait:
            raise InfrastructureError(_refusal_message(_blocker(project, lock), claim, wait))
        if wait > _BRIEF_SECONDS and waiting_time - last_message >= _NOTIFY_SECONDS:
            last_message = waiting_time
            minutes = (wait - waiting_time) / 60
            holder = _describe_holder(_blocker(project, lock))
            notify(f"{purpose} waits: {holder} holds {claim.what}; up to {minutes:.0f} more minutes")
        time.sleep(min(_POLL_SECONDS, wait - waiting_time))


def _blocker(project: Project, lock: IO[str]) -> LockHolder:
    """Return who holds a lock: named in its file, or where others share the workspace, one of the runs that do."""
    return _read_holder(lock) or next(iter(runs_in_progress(project)), LockHolder())


def _write_holder(lock: IO[str], purpose: str) -> None:
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


def _describe_holder(holder: LockHolder) -> str:
    start_time = time.strftime("%H:%M:%S", time.localtime(holder.get("since", time.time())))
    return f"`{holder.get('purpose', 'unknown')}`, process {holder.get('pid', 'unknown')}, since {start_time}"


def _refusal_message(holder: LockHolder, claim: _Claim, waiting_time: float) -> str:
    duration = ""
    if waiting_time > _BRIEF_SECONDS:
        duration = f" after {waiting_time / 60:.0f} minutes of waiting"
    return (
        f"another run holds {claim.what}{duration}: {_describe_holder(holder)}. Wait for it to end (or stop it: kill "
        f"{holder.get('pid', 'unknown')}), then type the command again"
    )
