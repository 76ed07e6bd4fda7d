"""Temporary folders that a later process removes where their owner was killed.

    with ScratchFolder() as folder:     # the path, as `tempfile.TemporaryDirectory` gives it
        ...

    /tmp/ae-tmp-k3j9x0ab/owner.lock     held by the owner for as long as it lives: the kernel frees it, however that ends
    /tmp/ae-tmp-k3j9x0ab/d/             the folder

The first scratch folder of a process removes those of others that were killed, and so does `ae prune`. A lock, and no process id,
says who lives: ids mean nothing where containers share a folder of temporary files.
"""

import fcntl
import os
import shutil
import stat
import tempfile
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from aeops.machine.lock import try_flock

PREFIX = "ae-tmp-"
LOCK_FILE, CONTENT = "owner.lock", "d"
SPARED_SECONDS = 600.0  # a younger folder stays: its lock may not be taken yet, or children of a killed owner are about to end

_swept_by: list[int] = []  # process ids: a fork sweeps for itself


class ScratchFolder:
    """A temporary folder of this process, removed at the end of its block, by `cleanup`, or with this object.

    Attributes:
        name: its path.
    """

    def __init__(self) -> None:
        if os.getpid() not in _swept_by:
            _swept_by[:] = [os.getpid()]
            remove_abandoned()
        folder = tempfile.mkdtemp(prefix=PREFIX)
        lock = os.open(Path(folder) / LOCK_FILE, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        self.name = os.path.join(folder, CONTENT)
        os.mkdir(self.name, 0o700)
        self._finalizer = weakref.finalize(self, _remove_own, folder, lock, os.getpid())

    def __enter__(self) -> str:
        return self.name

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.cleanup()

    def cleanup(self) -> None:
        """Remove the folder; a second call does nothing."""
        self._finalizer()


def _remove_own(folder: str, lock: int, owner: int) -> None:
    """Remove a folder and free its lock; in a fork of its owner do nothing."""
    if os.getpid() != owner:
        return
    try:
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)
    finally:
        os.close(lock)


def find_abandoned() -> list[Path]:
    """Return the scratch folders of this user whose owner was killed, but for those of the last minutes."""
    abandoned = []
    with suppress(OSError):
        for entry in os.scandir(tempfile.gettempdir()):
            if entry.name.startswith(PREFIX):
                with held_if_abandoned(Path(entry.path)) as is_abandoned:
                    if is_abandoned:
                        abandoned.append(Path(entry.path))
    return sorted(abandoned)


def remove_abandoned() -> None:
    """Remove the scratch folders of this user whose owner was killed; what cannot be removed stays for the next time."""
    for folder in find_abandoned():
        with held_if_abandoned(folder) as is_abandoned:
            if is_abandoned:
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def held_if_abandoned(folder: Path) -> Iterator[bool]:
    """Yield whether a scratch folder has no living owner; if so, nobody else removes it until the block ends."""
    if not _is_old_and_own(folder):
        yield False
        return
    try:
        lock = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:  # it is gone, or its owner was killed before it had a lock
        yield folder.is_dir()
        return
    try:
        yield try_flock(lock)
    finally:
        os.close(lock)


def _is_old_and_own(folder: Path) -> bool:
    try:
        status = folder.lstat()
    except OSError:  # removed meanwhile
        return False
    is_own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
    return is_own and time.time() - status.st_mtime >= SPARED_SECONDS
