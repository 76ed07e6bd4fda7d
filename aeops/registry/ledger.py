"""A recipe's ledger: a line for every decision about its versions, each with the hash of the line before it.

The file is `<home>/ledger/<recipe>.jsonl`. Nothing but `append` writes to it, and nothing but aeops/registry/promotion.py calls
that. What is caught and what is not stands in docs/ledger.md. Standard library only: `ae history` loads no MLflow.
"""

import getpass
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from aeops.errors import DataError, InfrastructureError, UsageError, as_ae_error
from aeops.files import data_sha256, sync_folder
from aeops.project import Project

MOVES = ("adoption", "promotion", "recalibration", "rollback", "retirement")  # events that make `to` the champion
NOTES = ("refusal", "request", "approval", "rejection")  # events that move nothing
FIRST = "0" * 64  # what the first line has as the hash of the line before it
WRITTEN = {"before": "from", "after": "to"}  # attributes whose names in the file are Python's own words


@dataclass(frozen=True)
class Line:
    """One line, in the file as canonical JSON: sorted keys, no spaces, UTF-8.

    Attributes:
        number: from 1.
        time: ISO, UTC, with microseconds; never before the line above.
        version: the version that the event is about.
        before: the champion until then; None where there was none or nothing moves (`from` in the file).
        after: the champion since; None where there is none or nothing moves (`to` in the file).
        evidence: `sha256` of the evidence document, and where known bundle_sha256, holdout_sha256, verdict.
        previous: `hash` of the line above.
        hash: SHA-256 of this line without `hash`.
    """

    number: int
    time: str
    event: str
    recipe: str
    version: str
    before: str | None
    after: str | None
    who: str
    why: str
    evidence: dict[str, str]
    previous: str
    hash: str

    @property
    def moment(self) -> datetime:
        return datetime.fromisoformat(self.time)

    @property
    def moves(self) -> bool:
        return self.event in MOVES

    def plain(self) -> dict[str, Any]:
        """Key and value as they are written."""
        return {WRITTEN.get(field.name, field.name): getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class Found:
    """What a ledger's file holds.

    Attributes:
        lines: those that can be read, in the order of the file.
        faults: everything that is wrong with them by themselves.
        torn: bytes after the last newline: a line whose writing was cut short.
    """

    lines: list[Line]
    faults: list[str]
    torn: bytes


# ---------------------------------------------------------------- asking


def ledger_file(project: Project, recipe: str) -> Path:
    return project.home / "ledger" / f"{recipe}.jsonl"


def recipes_with_ledger(project: Project) -> list[str]:
    return sorted(file.stem for file in (project.home / "ledger").glob("*.jsonl"))


def read(project: Project, recipe: str) -> list[Line]:
    """Every line; none where there is no file. A torn end was never promised and is left out.

    Raises:
        DataError: the chain does not hold; names each fault.
    """
    found = look(project, recipe)
    if found.faults:
        raise broken(project, recipe, found.faults)
    return found.lines


def champion(lines: list[Line], at: datetime | None = None) -> str | None:
    """The version that was champion at that moment (with a zone; left out: now), None where none was."""
    moves = [line for line in lines if line.moves and (at is None or line.moment <= at)]
    return moves[-1].after if moves else None


def last_move(lines: list[Line]) -> Line | None:
    return next((line for line in reversed(lines) if line.moves), None)


def champion_before(lines: list[Line]) -> str | None:
    """The champion before the present one; of a recipe whose champion was retired, that one.

    A rollback takes back what it undid: after 1, 2, 3 and a rollback to 2, the champion before is 1 and not 3.
    """
    reigns: list[str | None] = []
    for line in lines:
        if line.event == "rollback" and line.after in reigns:
            del reigns[len(reigns) - reigns[::-1].index(line.after) :]
        elif line.moves:
            reigns.append(line.after)
    return next((version for version in reversed(reigns[:-1]) if version is not None), None)


def judged(lines: list[Line], holdout_sha256: str) -> int:
    """How many different bundles this holdout has judged."""
    judgements = (line.evidence for line in lines if line.evidence.get("holdout_sha256") == holdout_sha256)
    return len({evidence["bundle_sha256"] for evidence in judgements if "bundle_sha256" in evidence})


def actor() -> str:
    """Who acts: AE_BY, else the login name."""
    if named := os.environ.get("AE_BY", "").strip():
        return named
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no entry in the password file
        return f"user {os.getuid()}"


# ---------------------------------------------------------------- reading


def look(project: Project, recipe: str) -> Found:
    """The file as it is, faulty or not; nothing where there is none."""
    file = ledger_file(project, recipe)
    with reaching(file):
        data = file.read_bytes() if file.is_file() else b""
    *whole, torn = data.split(b"\n")
    lines, faults = [], []
    for place, raw in enumerate(whole, 1):
        try:
            line = parse(raw)
            faults += [f"line {place} of the file {fault}" for fault in own_faults(line, raw, recipe)]
            lines.append(line)
        except (ValueError, RecursionError) as error:  # what JSON, UTF-8 and `parse` raise
            faults.append(f"line {place} of the file cannot be read: {error}")
    return Found(lines, [*faults, *order_faults(lines), *chain_faults(lines)], torn)


def parse(raw: bytes) -> Line:
    """Raises ValueError where it is no line; whether the line is true is another question."""
    given = json.loads(raw.decode("utf-8"))
    names = {WRITTEN.get(field.name, field.name): field.name for field in fields(Line)}
    if not isinstance(given, dict) or given.keys() != names.keys():
        raise ValueError(f"an object with exactly {', '.join(sorted(names))} is allowed")
    line = Line(**{names[key]: value for key, value in given.items()})
    texts = (line.event, line.recipe, line.version, line.who, line.why, line.previous, line.hash)
    champions = (line.before, line.after)
    if not (
        all(isinstance(value, str) for value in texts)
        and all(value is None or isinstance(value, str) for value in champions)
        and isinstance(line.evidence, dict)
        and all(isinstance(value, str) for value in line.evidence.values())
    ):
        raise ValueError("a value is of the wrong type")
    if type(line.number) is not int or line.number < 1:
        raise ValueError(f"number {line.number!r} given; 1 or more is allowed")
    if line.event not in MOVES + NOTES:
        raise ValueError(f"event {line.event!r} given; {', '.join(MOVES + NOTES)} are allowed")
    if not isinstance(line.time, str) or line.moment.utcoffset() is None:
        raise ValueError(f"time {line.time!r} given; an ISO time with a zone is allowed")
    return line


def own_faults(line: Line, raw: bytes, recipe: str) -> Iterator[str]:
    """What is wrong with a line by itself."""
    if digest(line.plain()) != line.hash:
        yield "was edited: its content does not give its hash"
    elif canonical(line.plain()) != raw:
        yield "was edited: it is not written as a ledger is"
    if line.recipe != recipe:
        yield f"is of the recipe {line.recipe}"


def order_faults(lines: list[Line]) -> Iterator[str]:
    """Numbers that are missing, there more than once, or out of their order."""
    numbers = [line.number for line in lines]
    ordered = sorted(set(numbers))
    for lower, upper in pairwise([0, *ordered]):
        if upper > lower + 1:
            yield missing(lower + 1, upper - 1)
    for number, times in Counter(numbers).items():
        if times > 1:
            yield f"number {number} is there {times} times"
    for above, below in pairwise(numbers):
        if above > below:
            yield f"number {below} stands below number {above}: lines were swapped"


def missing(first: int, last: int) -> str:
    return f"number {first} is missing" if first == last else f"numbers {first} to {last} are missing"


def chain_faults(lines: list[Line]) -> Iterator[str]:
    """Lines that do not follow the line of the number before, wherever that stands."""
    hashes = {0: FIRST} | {line.number: line.hash for line in lines}
    for line in lines:
        if line.previous != hashes.get(line.number - 1, line.previous):
            yield f"number {line.number} does not hold the hash of the number before it: one of the two was replaced"


def broken(project: Project, recipe: str, faults: list[str]) -> DataError:
    return DataError(
        f"the ledger {ledger_file(project, recipe)} does not hold: {'; '.join(faults)}. Nothing moves until it does: put back a "
        f"copy that holds, then type `ae ledger verify {recipe}`; docs/ledger.md says what to do where there is none"
    )


# ---------------------------------------------------------------- writing


def append(
    project: Project,
    recipe: str,
    *,
    event: str,
    version: str,
    before: str | None,
    after: str | None,
    who: str,
    why: str,
    evidence: Mapping[str, str],
    announce: Callable[[Line], None] | None = None,
) -> Line:
    """Adds a line; once this returns, it is on the disk. The caller holds `file_lock(project, "ledger")`.

    Args:
        announce: is told the line before it is written, so that one which nobody announced can be told from it.

    Raises:
        DataError: the ledger does not hold, or ends in a torn line.
        UsageError: `who` or `why` says nothing, or is no text.
    """
    found = look(project, recipe)
    if faults := [*found.faults, *(["it ends in a torn line"] if found.torn else [])]:
        raise broken(project, recipe, faults)
    above = found.lines[-1] if found.lines else None
    now = datetime.now(UTC)
    content = {
        "number": len(found.lines) + 1,
        # A clock that was put back must not make yesterday's champion today's.
        "time": (max(now, above.moment) if above else now).isoformat(timespec="microseconds"),
        "event": event,
        "recipe": recipe,
        "version": version,
        "from": before,
        "to": after,
        "who": said(who, "who"),
        "why": said(why, "why"),
        "evidence": dict(evidence),
        "previous": above.hash if above else FIRST,
    }
    line = parse(canonical(content | {"hash": digest(content)}))
    if announce is not None:
        announce(line)
    write(ledger_file(project, recipe), canonical(line.plain()) + b"\n")
    return line


def said(given: str, name: str) -> str:
    """The text in one piece, without spaces around it."""
    text = given.strip()
    if not text:
        option = "--by NAME" if name == "who" else "--why TEXT"
        raise UsageError(f"`{name}` is empty; the ledger keeps who moved what and why: give {option}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError(f"`{name}` is {text!r}, which is not UTF-8: type it again") from error
    return text


def canonical(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of a line's content without its hash."""
    return data_sha256(canonical({key: value for key, value in content.items() if key != "hash"}))


def write(file: Path, data: bytes) -> None:
    """Appends, and waits until the disk has it."""
    with reaching(file):
        is_new = not file.exists()
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        if is_new:
            for folder in (file.parent, file.parent.parent):
                sync_folder(folder)


def cut_torn_end(project: Project, recipe: str) -> int:
    """Cuts away what stands after the last newline; returns how many bytes that were. The caller holds the lock."""
    file = ledger_file(project, recipe)
    torn = len(look(project, recipe).torn)
    with reaching(file), file.open("r+b") as stream:
        stream.truncate(file.stat().st_size - torn)
        os.fsync(stream.fileno())
    return torn


@contextmanager
def reaching(file: Path) -> Iterator[None]:
    """Makes what the disk raises a message with what to do."""
    try:
        yield
    except OSError as error:
        raise as_ae_error(error) or InfrastructureError(
            f"cannot use the ledger {file} ({error.strerror}): make it yours to read and write, then type the same command again"
        ) from error
