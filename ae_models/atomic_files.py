"""Atomic writes: a file or folder is the old one or the new one, whole, also after a kill or a power cut. Standard library only.

It is written under a temporary name beside its own, synced to the disk, then renamed. One process at a time may write a path.
"""

import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = [
    "CLOCK_RESOLUTION",
    "append_synced",
    "atomic_folder",
    "atomic_path",
    "atomic_write",
    "json_text",
    "make_folder",
    "recover_folder",
    "replace_file",
    "replace_folder",
    "set_default_modes",
    "sync_file",
    "sync_folder",
    "sync_tree",
    "temporary_path",
]

# Seconds by which the time of a file may lie before the clock's when it was written: the kernel stamps files by a clock that it
# moves every few milliseconds, and some file systems store whole seconds, or every second one.
CLOCK_RESOLUTION = 2.0


# ---------------------------------------------------------------- one file


def temporary_path(path: Path) -> Path:
    """Return the name under which `path` is written before it is renamed."""
    return path.with_name(f".{path.name}.tmp")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path whose file replaces `path` when the block ends well, and is removed when it does not.

    Missing parent folders are made. What a killed process left under the temporary name is removed first.

    Raises:
        OSError: the file cannot be written; `path` is as it was.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with atomic_path(Path(folder) / "notes.txt") as tmp_path:
    ...         _ = tmp_path.write_text("whole")
    ...     [path.name for path in Path(folder).iterdir()]
    ['notes.txt']
    """
    make_folder(path.parent)
    tmp_path = temporary_path(path)
    tmp_path.unlink(missing_ok=True)
    try:
        yield tmp_path
        replace_file(tmp_path, path)
    finally:
        tmp_path.unlink(missing_ok=True)


def atomic_write(path: Path, data: bytes | str, mode: int = 0o666) -> None:
    """Write bytes, or a text in UTF-8, as a whole.

    Args:
        path: the file; missing parent folders are made.
        data: its content.
        mode: its permissions, less those that the umask takes away.

    Raises:
        OSError: the file cannot be written; it is as it was.
    """
    content = data.encode() if isinstance(data, str) else data
    with atomic_path(path) as tmp_path:
        descriptor = os.open(tmp_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)


def replace_file(new_path: Path, path: Path) -> None:
    """Sync the file `new_path` to the disk and rename it to `path`, on the same disk."""
    sync_file(new_path)
    os.replace(new_path, path)
    sync_folder(path.parent)


def append_synced(path: Path, data: bytes, end: int | None = None) -> None:
    """Append to a file and wait until the disk has both the data and the file's name. Missing parent folders are made.

    Args:
        end: where the new data begins; what lies beyond is cut off. None for the end of the file.

    Raises:
        OSError: it cannot be written.
    """
    make_folder(path.parent)
    with path.open("ab") as stream:
        if end is not None:
            stream.truncate(end)
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    sync_folder(path.parent)


# ---------------------------------------------------------------- on the disk


def make_folder(folder: Path) -> None:
    """Make a folder and its missing parents, and put their names on the disk: what is synced in one is lost with its name."""
    missing_folders = []
    for path in (folder, *folder.parents):
        if path.is_dir():
            break
        missing_folders.append(path)
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing_folders:
        sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Put the content of a file on the disk; its name is that of its folder (`sync_folder`)."""
    _sync_path(path)


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on the disk, so that a file made or renamed in it is still there after a power cut."""
    _sync_path(folder)


def sync_tree(path: Path, top: Path, since: float = 0.0) -> None:
    """Put on the disk what another program has written: `path`, all that it holds, and the names of its folders up to `top`.

    Args:
        path: a file, or a folder.
        top: a folder above it, or `path` itself.
        since: seconds since the epoch, as `time.time` gives them; files and folders that were not changed since then are left
            out.

    Raises:
        OSError: something cannot be read.
    """
    since -= CLOCK_RESOLUTION
    for folder, _, file_names in os.walk(path):
        for name in file_names:
            _sync_if_changed(Path(folder, name), since)
        _sync_if_changed(Path(folder), since)
    if path.is_file():
        _sync_if_changed(path, since)
    for parent in path.parents:
        if not parent.is_relative_to(top):
            break
        _sync_if_changed(parent, since)


def _sync_if_changed(path: Path, since: float) -> None:
    with suppress(FileNotFoundError):  # another process, which works in the same folder, has removed it meanwhile
        status = path.lstat()
        if status.st_ctime >= since and (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            _sync_path(path)


def _sync_path(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---------------------------------------------------------------- one folder


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces `folder` when the block ends well, and is removed when it does not.

    Missing parent folders are made. What a killed process left is cleared up first.

    Raises:
        OSError: a file cannot be written; `folder` is as it was.
    """
    tmp_path = temporary_path(folder)
    recover_folder(tmp_path, folder)
    make_folder(tmp_path)
    try:
        yield tmp_path
        replace_folder(tmp_path, folder)
    finally:
        recover_folder(tmp_path, folder)


def replace_folder(new_folder: Path, folder: Path) -> None:
    """Sync `new_folder` with all it holds to the disk and rename it to `folder`, on the same disk; the old one is removed.

    Its files and folders get the modes that the umask gives to new ones: some libraries make files for their owner alone, and
    another user may have to serve them.

    A folder cannot be replaced by one rename. Killed between the two, this leaves the old folder whole beside `new_folder`:
    `recover_folder` puts it back.
    """
    set_default_modes(new_folder)
    sync_tree(new_folder, new_folder)
    make_folder(folder.parent)
    old_folder, removed_folder = _old_folders(new_folder)
    if folder.exists():
        os.rename(folder, old_folder)
    os.rename(new_folder, folder)
    sync_folder(folder.parent)
    if old_folder.exists():
        os.rename(old_folder, removed_folder)  # or `recover_folder` could take a half-removed folder for the old one
        shutil.rmtree(removed_folder)


def recover_folder(new_folder: Path, folder: Path) -> None:
    """Clear up after a `replace_folder` that was killed: `folder` is the old one or the new one, whole; the rest is removed."""
    old_folder, removed_folder = _old_folders(new_folder)
    if old_folder.is_dir() and not folder.exists():
        os.rename(old_folder, folder)
        sync_folder(folder.parent)
    for path in (new_folder, old_folder, removed_folder):
        shutil.rmtree(path, ignore_errors=True)


def set_default_modes(folder: Path) -> None:
    """Give a folder and all it holds the modes of new ones, which follow from the umask or from a default ACL."""
    new_folder = folder / ".new"
    new_folder.mkdir()
    folder_mode = stat.S_IMODE(new_folder.stat().st_mode)
    new_folder.rmdir()
    for path in (folder, *folder.rglob("*")):
        mode = folder_mode if path.is_dir() else folder_mode & 0o666
        if not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) != mode:
            path.chmod(mode)


def _old_folders(new_folder: Path) -> tuple[Path, Path]:
    """Return where the replaced folder goes, first whole, then to be removed."""
    return new_folder.with_name(f"{new_folder.name}.old"), new_folder.with_name(f"{new_folder.name}.removed")


# ---------------------------------------------------------------- formats


def json_text(document: Any) -> str:
    r"""Return two-space JSON in declared order with a final newline; NaN and infinity are refused.

    >>> json_text({"rows": 3})
    '{\n  "rows": 3\n}\n'
    """
    return json.dumps(document, indent=2, allow_nan=False) + "\n"
