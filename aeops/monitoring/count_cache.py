"""counts.json: what earlier looks have counted in each call's file, so that a look reads only the files that are new.

Made again from the predictions whenever what it rests on has changed; it may be removed at any time.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aeops.errors import DataError

FORMAT = 1


@dataclass
class Kept:
    """The counts of calls by the names of their files, as JSON has them.

    Attributes:
        known: of earlier looks.
        used: those of this look, which stay.
    """

    known: dict[str, Any]
    used: dict[str, Any] = field(default_factory=dict)

    def of(self, file: Path, count: Callable[[Path], Any]) -> Any:
        """What was kept of a call's file, or what `count` makes of it where nothing was or the file was written since."""
        mark = mark_of(file)  # before it is read
        held = self.known.get(file.name)
        if held is None or held["file"] != mark:
            held = {"file": mark, "counts": count(file)}
        self.used[file.name] = held
        return held["counts"]


@contextmanager
def kept(place: Path, basis: str) -> Iterator[Kept]:
    """The counts in `place`, none where they rest on something else than `basis`; written again at the end where any is new.

    Raises:
        DataError: the file cannot be read.
    """
    counts = Kept(read(place, basis))
    yield counts
    if counts.used != counts.known:
        place.parent.mkdir(parents=True, exist_ok=True)
        aside = place.with_name(f".{place.name}.aside")
        held = {"format": FORMAT, "basis": basis, "calls": counts.used}
        aside.write_text(json.dumps(held, separators=(",", ":")), encoding="utf-8")
        os.replace(aside, place)


def read(place: Path, basis: str) -> dict[str, Any]:
    if not place.is_file():
        return {}
    try:
        held = json.loads(place.read_text(encoding="utf-8"))
        return dict(held["calls"]) if (held["format"], held["basis"]) == (FORMAT, basis) else {}
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{place} cannot be read ({error}): remove it, and the next look counts again") from error


def mark_of(file: Path) -> list[int]:
    """By which it is seen that a file was written again: its size and the time of its last change in nanoseconds."""
    found = file.stat()
    return [found.st_size, found.st_mtime_ns]
