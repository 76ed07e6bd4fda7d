"""How large the state of a project is, and of what."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aeops.project import Project

UNITS = ("B", "kB", "MB", "GB", "TB")


@dataclass(frozen=True)
class FolderSize:
    """A folder and what it takes on the disk.

    Attributes:
        name: in the state folder; `.dvc/cache` for DVC's cache, which lies in the project.
        size_bytes: that the file system has given its files; a file with several names counts once.
        file_count: files in it, at any depth.
    """

    name: str
    size_bytes: int
    file_count: int

    def to_dict(self) -> dict[str, Any]:
        """Return the folder as `--json` prints it."""
        return {"folder": self.name, "bytes": self.size_bytes, "files": self.file_count}


def measure_state(project: Project) -> list[FolderSize]:
    """Return the folders of the state and DVC's cache, the largest first; a person who may not read one sees it as empty."""
    folders = {".dvc/cache": project.root / ".dvc" / "cache"}
    if project.home.is_dir():
        for entry in sorted(project.home.iterdir()):
            if entry.is_dir() and not entry.is_symlink():
                folders[entry.name] = entry
    seen: set[tuple[int, int]] = set()
    sizes = []
    for name, folder in folders.items():
        size_bytes = file_count = 0
        for status in _iter_file_status(folder):
            file_count += 1
            if (status.st_dev, status.st_ino) not in seen:
                size_bytes += status.st_blocks * 512  # which POSIX counts in, whatever the file system's block is
            if status.st_nlink > 1:
                seen.add((status.st_dev, status.st_ino))
        sizes.append(FolderSize(name, size_bytes, file_count))
    return sorted(sizes, key=lambda size: (-size.size_bytes, size.name))


def size_of(path: Path) -> int:
    """Return the bytes that a file, or all files in a folder, take on the disk."""
    if not path.is_dir():
        return path.lstat().st_blocks * 512
    return sum(status.st_blocks * 512 for status in _iter_file_status(path))


def newest_change(path: Path) -> float:
    """Return when a file, or the last file in a folder, was written, in seconds since the epoch."""
    return max([path.lstat().st_mtime, *(status.st_mtime for status in _iter_file_status(path))])


def _iter_file_status(folder: Path) -> Iterator[os.stat_result]:
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _iter_file_status(Path(entry.path))
        else:
            try:
                yield entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # a run goes on meanwhile
                continue


def format_bytes(count: int) -> str:
    """Return a number of bytes with three digits and its unit, of which each is a thousand of the one before.

    >>> [format_bytes(count) for count in (0, 999, 1000, 12_345, 1_234_567_890, 5 * 10**16)]
    ['0 B', '999 B', '1.00 kB', '12.3 kB', '1.23 GB', '50000 TB']
    """
    if count < 1000:
        return f"{count} B"
    value, unit = float(count), 0
    while value >= 1000 and unit < len(UNITS) - 1:
        value, unit = value / 1000, unit + 1
    digits = max(0, 2 - len(str(int(value))) + 1)
    return f"{value:.{digits}f} {UNITS[unit]}"
