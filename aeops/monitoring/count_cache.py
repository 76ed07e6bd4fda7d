"""Cache the counts of each call's file in counts.json, so that a check reads only the files that are new.

The cache is rebuilt from the predictions whenever what it depends on has changed; it may be removed at any time.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aeops.errors import DataError
from aeops.files import atomic_write

CACHE_FORMAT = 1


@dataclass
class CountCache:
    """Counts of calls by the names of their files, as JSON holds them.

    Attributes:
        old_entries: of earlier checks.
        new_entries: those that this check used, which are written back.
    """

    old_entries: dict[str, Any]
    new_entries: dict[str, Any] = field(default_factory=dict)

    def get_or_count(self, file: Path, count: Callable[[Path], Any]) -> Any:
        """Return the cached counts of a file; call `count` where there are none or the file has changed since."""
        fingerprint = fingerprint_predictions(file)  # before it is read
        cache_entry = self.old_entries.get(file.name)
        if cache_entry is None or cache_entry["file"] != fingerprint:
            cache_entry = {"file": fingerprint, "counts": count(file)}
        self.new_entries[file.name] = cache_entry
        return cache_entry["counts"]


@contextmanager
def open_cache(path: Path, basis_sha256: str) -> Iterator[CountCache]:
    """Open the cache, and write it back at the end where an entry is new.

    Args:
        path: counts.json; a missing file is an empty cache.
        basis_sha256: of what the counts depend on besides the files; with another one the cache is empty.

    Raises:
        DataError: the file cannot be read.
    """
    cache = CountCache(_read_entries(path, basis_sha256))
    yield cache
    if cache.new_entries != cache.old_entries:
        content = {"format": CACHE_FORMAT, "basis": basis_sha256, "calls": cache.new_entries}
        atomic_write(path, json.dumps(content, separators=(",", ":")))


def _read_entries(path: Path, basis_sha256: str) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if (content["format"], content["basis"]) != (CACHE_FORMAT, basis_sha256):
            return {}
        return dict(content["calls"])
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path} cannot be read ({error}): remove it, and the next check counts again") from error


def fingerprint_predictions(file: Path) -> list[int]:
    """Return the size of a file and the time of its last change in nanoseconds, by which a change is noticed."""
    status = file.stat()
    return [status.st_size, status.st_mtime_ns]
