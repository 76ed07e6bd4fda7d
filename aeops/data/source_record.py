"""What the last accepted reading of a source saw of its files, so that the next one reads only what is new.

    <state>/source-records/digits.json            of the reading whose samples were accepted
    <state>/source-records/digits.incoming.json   of one that is not validated yet

A file is as it was where size, times and inode are, and where it was not written just before the record was (a clock's tick
could hide a change). Without a record everything is read: it costs time and changes nothing. Standard library only.
"""

import dataclasses
import json
import os
from array import array
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from ae_models.names import names_not_in
from aeops.data.own_code import own_source_sha256
from aeops.data.stage_code import stage_sha256
from aeops.files import atomic_write, data_sha256, file_sha256, replace_file
from aeops.machine.stored_json import read_json_if_whole
from aeops.project import Project
from aeops.recipe.reader import Recipe

FORMAT = 2
KEYS = ("format", "settings_sha256", "content_sha256", "written_ns", "files")
SETTLED_NS = 2_000_000_000  # a file that was written so shortly before the record may have changed within the same tick
READING_STAGES = ("ingest", "validate")  # whose code decides what becomes of a sample

STAMP_NUMBERS = 4
STAMP_TYPE = "q"  # of these numbers in an array: 64 bits with a sign
LARGEST_INODE = 2**63 - 1  # that is stored; of larger numbers the other bits show another file just as well
Stamp = tuple[int, ...]  # bytes, time of the content and of the file's entry (ns), inode


class FileRecord(NamedTuple):
    """One file of a source.

    Attributes:
        stamp: see `file_stamp`.
        sha256: of its bytes.
        samples: how many samples it gave; None where the source does not say.
    """

    stamp: Stamp
    sha256: str
    samples: int | None = None


@dataclass(frozen=True)
class RecordedFiles:
    """The files of a source, in columns, as there may be hundreds of thousands.

    Attributes:
        roles: of the files, each once.
        stamps: the four numbers of each file's stamp, one file after another.
        sha256: of their bytes.
        samples: how many samples each gave; None where the source does not say.
    """

    roles: list[str] = field(default_factory=list)
    stamps: "array[int]" = field(default_factory=lambda: array(STAMP_TYPE))
    sha256: list[str] = field(default_factory=list)
    samples: list[int | None] = field(default_factory=list)

    def add(self, role: str, stamp: Iterable[int], sha256: str, samples: int | None = None) -> None:
        """Add one file."""
        self.roles.append(role)
        self.stamps.extend(stamp)
        self.sha256.append(sha256)
        self.samples.append(samples)

    def get(self, role: str) -> FileRecord | None:
        """Return a file by its role; None where there is no such file. No file is added afterwards."""
        place = self._places.get(role)
        if place is None:
            return None
        stamp = tuple(self.stamps[place * STAMP_NUMBERS : (place + 1) * STAMP_NUMBERS])
        return FileRecord(stamp, self.sha256[place], self.samples[place])

    @property
    def checksums(self) -> dict[str, str]:
        """SHA-256 of the files, by their roles."""
        return dict(zip(self.roles, self.sha256, strict=True))

    @cached_property
    def _places(self) -> dict[str, int]:
        return {role: place for place, role in enumerate(self.roles)}


@dataclass(frozen=True)
class SourceRecord:
    """A reading of a source.

    Attributes:
        settings_sha256: see `reading_settings`.
        content_sha256: of the dataset that was accepted from it; empty while it is not validated.
        written_ns: when the reading began, ns since 1970.
        files: those that were read, and those that had not changed.
        oldest_day: ISO day of the first ingest of the oldest sample, where the recipe keeps samples by that.
        left_out: SHA-256 of contents that were read and not accepted -> the ids that they were given.
        judged: what people had decided, as `Judged.digests`.
    """

    settings_sha256: str
    content_sha256: str
    written_ns: int
    files: RecordedFiles = field(default_factory=RecordedFiles)
    oldest_day: str | None = None
    left_out: Mapping[str, list[str]] = field(default_factory=dict)
    judged: Mapping[str, str] = field(default_factory=dict)

    def unchanged(self, role: str, stamp: Stamp | None) -> FileRecord | None:
        """Return what is known of a file; None where it is another one now, or may be."""
        known = self.files.get(role)
        if known is None or stamp is None or known.stamp != stamp or stamp[1] > self.written_ns - SETTLED_NS:
            return None
        return known


def file_stamp(path: Path | str) -> Stamp | None:
    """Return what shows that a file is the same as before without reading it; None where there is none."""
    try:
        return status_stamp(os.stat(path))
    except OSError:
        return None


def status_stamp(status: os.stat_result) -> Stamp:
    """Return the stamp of a file by what the system says of it."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino & LARGEST_INODE


def record_files(
    paths: Mapping[str, Path],
    stamps: Mapping[str, Stamp | None],
    last: SourceRecord | None,
    checksums: Mapping[str, str] = MappingProxyType({}),
    samples: Mapping[str, int] = MappingProxyType({}),
) -> RecordedFiles:
    """Return files with their SHA-256, which is computed where a file is not as it was.

    Args:
        paths: of the files, by their roles.
        stamps: from before they were read: one that is written meanwhile has another one the next time, and is read again.
        last: the record of the last accepted reading.
        checksums: SHA-256 of files that were computed already.
        samples: how many samples each file gave, where that is known.
    """
    files = RecordedFiles()
    for role, stamp in stamps.items():
        if stamp is not None:
            files.add(role, stamp, checksums.get(role) or known_sha256(last, role, paths[role]), samples.get(role))
    return files


def reading_settings(recipe: Recipe, project: Project) -> str:
    """Return a SHA-256 over all that decides what a source's files become: the recipe's sections and the code of the stages."""
    sections = [dataclasses.asdict(section) for section in (recipe.data, recipe.validate, recipe.fit.input)]
    sections[0]["source"]["kind"] = recipe.data.source.kind
    code = [stage_sha256(project.root, stage) for stage in READING_STAGES]
    return data_sha256(json.dumps([sections, recipe.label_names, code, own_source_sha256(project.root, recipe)], default=str))


def has_expired(project: Project, recipe: Recipe, today: date) -> bool:
    """Return whether a sample of the accepted dataset is older than the recipe keeps it, by the day of its first ingest."""
    record = read_record(project, recipe.data.dataset) if recipe.data.keep_days is not None else None
    if record is None or record.oldest_day is None or recipe.data.keep_days is None:
        return False
    return date.fromisoformat(record.oldest_day) <= today - timedelta(days=recipe.data.keep_days)


# ---------------------------------------------------------------- on disk


def accepted_file(project: Project, dataset: str) -> Path:
    """Return the record of the reading that data/<dataset> came from."""
    return project.home / "source-records" / f"{dataset}.json"


def incoming_file(project: Project, dataset: str) -> Path:
    """Return the record of the reading that is not validated yet."""
    return project.home / "source-records" / f"{dataset}.incoming.json"


def read_record(project: Project, dataset: str) -> SourceRecord | None:
    """Return the record of the last accepted reading; None where there is none."""
    document = read_json_if_whole(accepted_file(project, dataset), *KEYS)
    if document is None or document["format"] != FORMAT:
        return None
    files = document["files"]
    return SourceRecord(
        document["settings_sha256"],
        document["content_sha256"],
        document["written_ns"],
        RecordedFiles(files["roles"], array(STAMP_TYPE, b64decode(files["stamps"])), files["sha256"], files["samples"]),
        document.get("oldest_day"),
        document.get("left_out", {}),
        document.get("judged", {}),
    )


def write_incoming(project: Project, dataset: str, record: SourceRecord) -> None:
    """Record a reading that is to be validated."""
    document = {
        "format": FORMAT,
        "settings_sha256": record.settings_sha256,
        "content_sha256": record.content_sha256,
        "written_ns": record.written_ns,
        "oldest_day": record.oldest_day,
        "left_out": record.left_out,
        "judged": record.judged,
        "files": {
            "roles": record.files.roles,
            "stamps": b64encode(record.files.stamps.tobytes()).decode(),  # as numbers they take seven times as long
            "sha256": record.files.sha256,
            "samples": record.files.samples,
        },
    }
    _write(incoming_file(project, dataset), document)


def _write(path: Path, document: Mapping[str, Any]) -> None:
    """Write a record in one line: it may name hundreds of thousands of files."""
    atomic_write(path, json.dumps(document))


def accept_incoming(project: Project, dataset: str, content_sha256: str, accepted_ids: Set[str]) -> None:
    """Make the record of the reading that was accepted that of the dataset.

    Args:
        project: whose state it is.
        dataset: its name.
        content_sha256: of the accepted dataset.
        accepted_ids: of its samples: the others were left out.
    """
    incoming = incoming_file(project, dataset)
    document = read_json_if_whole(incoming, *KEYS)
    if document is None:
        return
    left_out = {}
    for digest, ids in document.get("left_out", {}).items():
        if rest := names_not_in(ids, accepted_ids):
            left_out[digest] = rest
    _write(incoming, document | {"content_sha256": content_sha256, "left_out": left_out})
    replace_file(incoming, accepted_file(project, dataset))


def move_record(project: Project, dataset: str, before: str, after: str) -> None:
    """Let the record go on to a version of the dataset that was made of the one that it is of.

    Args:
        project: whose state it is.
        dataset: its name.
        before: content's SHA-256 of the version that the record has to be of; another record stays as it is.
        after: that of the new one.
    """
    file = accepted_file(project, dataset)
    document = read_json_if_whole(file, *KEYS)
    if document is not None and document["content_sha256"] == before:
        _write(file, document | {"content_sha256": after})


def known_sha256(record: SourceRecord | None, role: str, path: Path) -> str:
    """Return the SHA-256 of a source's file, which is read only where it is not as it was."""
    known = record.unchanged(role, file_stamp(path)) if record is not None else None
    return known.sha256 if known is not None else file_sha256(path)
