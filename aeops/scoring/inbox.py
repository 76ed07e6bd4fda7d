"""The folder that new files come to: where it is, what lies in it, and what is known of it already.

Only contents count. A file's SHA-256 is remembered beside its size and times (`seen.json`), so that a folder which keeps its
files for months is not read again each time; without that file all is read once more, and the outcome is the same.
"""

import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aeops.data.sources.days import LABELS, is_finished
from aeops.data.sources.files import source_folder
from aeops.files import atomic_write, file_sha256, write_json
from aeops.project import Project
from aeops.recipe.reader import Recipe

QUIET = 3.0  # seconds since a file was last written to, before it is taken to be whole
BEING_WRITTEN = "it is still being written; left for the next run"


@dataclass(frozen=True)
class Stamp:
    """What of a file changes whenever it is written to."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


@dataclass(frozen=True)
class Found:
    """A file of the inbox.

    Attributes:
        name: its path in the inbox, with slashes.
    """

    name: str
    place: Path
    stamp: Stamp


def inbox_of(project: Project, recipe: Recipe) -> Path:
    """The recipe's inbox, which need not be there; one that the recipe names is looked for as sources are.

    Raises:
        DataError: no folder of that name anywhere.
    """
    given = recipe.scoring.inbox
    if given is None:
        return project.home / "inbox" / recipe.name
    return source_folder(project, given, f"make it, or correct scoring.inbox in recipes/{recipe.name}.yaml")


def stamp_of(place: Path) -> Stamp:
    told = place.stat()
    return Stamp(told.st_size, told.st_mtime_ns, told.st_ctime_ns, told.st_ino)


def files_in(inbox: Path) -> Iterator[Found]:
    """Every file that may hold samples, those of subfolders included, by name; hidden and unfinished ones and labels are none."""
    for folder, folders, names in os.walk(inbox):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            place = Path(folder) / name
            if is_finished(name) and not name.endswith(LABELS) and place.is_file():
                yield Found(place.relative_to(inbox).as_posix(), place, stamp_of(place))


def is_quiet(stamp: Stamp) -> bool:
    """Whether nobody has written to the file for a while. One of the future has a clock of its own, and is as good as old."""
    return abs(time.time() - stamp.mtime_ns / 1e9) >= QUIET


def printable(name: str) -> str:
    """A file's name as text that can be written anywhere; bytes that are no UTF-8 are spelt out."""
    return name.encode("utf-8", "backslashreplace").decode()


# ---------------------------------------------------------------- what is remembered


class Seen:
    """The contents of the files that were there last time, so that what has not moved is not read again."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._before: dict[str, dict[str, Any]] = {}
        if file.is_file():
            with suppress(ValueError):  # cut short by a power cut: all is read once more
                self._before = json.loads(file.read_text(encoding="utf-8"))
        self._now: dict[str, dict[str, Any]] = {}

    def sha256(self, found: Found) -> str:
        """The content's hash; raises OSError where the file cannot be read."""
        known = self._before.get(found.name)
        stamp = asdict(found.stamp)
        if known is None or known["stamp"] != stamp:
            known = {"stamp": stamp, "sha256": file_sha256(found.place), "call": None}
        self._now[found.name] = known
        return str(known["sha256"])

    def call(self, found: Found) -> str | None:
        """The call that its content was found in."""
        known: str | None = self._now[found.name]["call"]
        return known

    def remember(self, found: Found, call: str) -> None:
        self._now[found.name] = self._now[found.name] | {"call": call}

    def is_new(self, found: Found) -> bool:
        """Whether the file was not there, or not like this, last time."""
        before = self._before.get(found.name)
        return before is None or before["stamp"] != self._now[found.name]["stamp"]

    def save(self) -> None:
        if self._now != self._before:
            write_json(self._file, self._now)


def read_refused(file: Path) -> dict[str, dict[str, str]]:
    """What was refused so far: the content's SHA-256 -> its line of refused.jsonl."""
    if not file.is_file():
        return {}
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return {line["sha256"]: line for line in lines}


def write_refused(file: Path, refused: Iterable[dict[str, str]]) -> None:
    """All lines anew, whole or not at all: half a line would be one that nobody can read."""
    atomic_write(file, "".join(f"{json.dumps(line)}\n" for line in refused))
