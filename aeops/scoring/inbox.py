"""List the files of the inbox, the folder for new files, and remember what they hold.

Only contents count. A file's SHA-256 is remembered beside its size and times (`seen.json`), so that a folder which keeps its
files for months is not read again each time; without that file everything is read once more, with the same result.
"""

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypedDict

from aeops.data.sources.days import LABELS_SUFFIX, is_finished
from aeops.data.sources.files import source_folder
from aeops.files import atomic_write, file_sha256, write_json
from aeops.kinds.folders import list_files
from aeops.machine.stored_json import read_json_if_whole, read_json_lines_if_whole
from aeops.project import Project
from aeops.recipe.reader import Recipe
from aeops.scoring.run_summary import RefusalRecord

QUIET_SECONDS = 3.0  # since a file was last written to, before it counts as complete
BEING_WRITTEN_REASON = "it is still being written; left for the next run"


@dataclass(frozen=True)
class FileStamp:
    """Properties of a file of which one changes whenever it is written to."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


@dataclass(frozen=True)
class InboxFile:
    """A file of the inbox.

    Attributes:
        name: its path relative to the inbox, with slashes.
        path: its path.
        fingerprint: as it was listed.
    """

    name: str
    path: Path
    fingerprint: FileStamp

    @property
    def printable_name(self) -> str:
        """`name` as `printable_name` spells it."""
        return printable_name(self.name)


class SeenEntry(TypedDict):
    """What seen.json holds of a file; `call` is the call that its content was recorded in."""

    stamp: dict[str, int]
    sha256: str
    call: str | None


def inbox_folder(project: Project, recipe: Recipe) -> Path:
    """Return the recipe's inbox, which need not exist; one that the recipe names is looked up as sources are.

    Raises:
        DataError: no folder of that name anywhere.
    """
    folder_name = recipe.scoring.inbox
    if folder_name is None:
        return project.home / "inbox" / recipe.name
    return source_folder(project, folder_name, f"make it, or correct scoring.inbox in recipes/{recipe.name}.yaml")


def read_fingerprint(path: Path) -> FileStamp:
    """Return the present fingerprint of a file.

    Raises:
        FileNotFoundError: the file is gone.
    """
    status = path.stat()
    return FileStamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


@dataclass(frozen=True)
class InboxListing:
    """What an inbox holds.

    Attributes:
        files: those that may hold samples, by name; hidden and unfinished files and labels are left out.
        problems: printable names of what could not be listed -> the reason.
    """

    files: list[InboxFile]
    problems: dict[str, str]


def list_inbox(inbox: Path) -> InboxListing:
    """List an inbox with its subfolders, those that links lead to as well."""
    listing = list_files(inbox)
    files, problems = [], {}
    for name, reason in listing.problems.items():
        problems[printable_name(name)] = reason
    for path in listing.files:
        if not is_finished(path.name) or path.name.endswith(LABELS_SUFFIX):
            continue
        name = path.relative_to(inbox).as_posix()
        try:
            files.append(InboxFile(name, path, read_fingerprint(path)))
        except OSError as error:  # gone meanwhile
            problems[printable_name(name)] = f"it cannot be read ({error.strerror})"
    return InboxListing(files, problems)


def printable_name(name: str) -> str:
    """Return a file's name as text that can be written anywhere, with bytes that are not UTF-8 spelt out."""
    return name.encode("utf-8", "backslashreplace").decode()


def is_quiet(fingerprint: FileStamp) -> bool:
    """Return whether the file was not written to for a while; a time in the future comes from another clock and counts as old."""
    return abs(time.time() - fingerprint.mtime_ns / 1e9) >= QUIET_SECONDS


# ---------------------------------------------------------------- what earlier runs found


class SeenFiles:
    """The contents of the files of the last run, so that unchanged files are not read again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Damaged, as by a power cut, everything is read once more.
        self._last_entries: dict[str, SeenEntry] = read_json_if_whole(path) or {}
        self._entries: dict[str, SeenEntry] = {}

    def sha256(self, file: InboxFile) -> str:
        """Return the SHA-256 of a file's content.

        Raises:
            OSError: the file cannot be read.
        """
        entry = self._last_entries.get(file.name)
        stamp = asdict(file.fingerprint)
        if entry is None or entry["stamp"] != stamp:
            entry = {"stamp": stamp, "sha256": file_sha256(file.path), "call": None}
        self._entries[file.name] = entry
        return entry["sha256"]

    def call(self, file: InboxFile) -> str | None:
        """Return the call that the content was recorded in; `sha256` was called for the file before."""
        return self._entries[file.name]["call"]

    def remember_call(self, file: InboxFile, call: str) -> None:
        """Note the call that the content was recorded in."""
        entry = self._entries[file.name].copy()
        entry["call"] = call
        self._entries[file.name] = entry

    def is_new(self, file: InboxFile) -> bool:
        """Return whether the file did not exist in the last run, or has changed since."""
        last_entry = self._last_entries.get(file.name)
        return last_entry is None or last_entry["stamp"] != self._entries[file.name]["stamp"]

    def save(self) -> None:
        """Write the file, where anything has changed."""
        if self._entries != self._last_entries:
            write_json(self._path, self._entries)


def read_refusals(path: Path) -> dict[str, RefusalRecord]:
    """Return the refusals so far: SHA-256 of the content -> its line of refused.jsonl.

    A content whose line is damaged is read and refused once more.
    """
    refusal_records: dict[str, RefusalRecord] = {}
    for record in read_json_lines_if_whole(path, "sha256", "name", "reason", "run"):
        refusal_records[record["sha256"]] = record
    return refusal_records


def write_refusals(path: Path, refusal_records: Iterable[RefusalRecord]) -> None:
    """Write all lines, as a whole or not at all: an incomplete line could not be read."""
    atomic_write(path, "".join(f"{json.dumps(record)}\n" for record in refusal_records))
