"""A recipe's ledger: one entry for every decision about its versions, each with the hash of the entry before it.

The file is `<home>/ledger/<recipe>.jsonl`, one entry a line. Only `append_entry` writes to it, and only
aeops/registry/promotion.py calls that. docs/ledger.md says which changes are detected and which are not. Standard library only:
`ae history` loads no MLflow.
"""

import getpass
import json
import os
import platform
import pwd
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from ae_models.mappings import drop_keys
from aeops.errors import DataError, InfrastructureError, UsageError, as_ae_error
from aeops.files import append_synced, data_sha256
from aeops.project import Project

MOVE_EVENTS = ("adoption", "promotion", "recalibration", "rollback", "retirement")  # events that make `to` the champion
# Events that leave the champion as it is.
NOTE_EVENTS = ("refusal", "request", "approval", "rejection", "acknowledgement", "forgetting")
FIRST_HASH = "0" * 64  # in the first entry, in place of the hash of the entry before
JSON_KEYS = {"from_version": "from", "to_version": "to"}  # attributes whose key in the file differs from their name
OPTIONAL_KEYS = ("account", "clock")  # absent where they are None, as in entries that are older than they are
CLOCK_TOLERANCE = timedelta(minutes=5)  # by which the clocks of two machines may differ


@dataclass(frozen=True)
class Decision:
    """A decision about a version, before it is written to the ledger.

    Attributes:
        event: one of `MOVE_EVENTS` or `NOTE_EVENTS`.
        version: the version that the event is about.
        who: the person, or the program, that decided.
        evidence: `sha256` of the evidence document, and where known bundle_sha256, holdout_sha256, verdict.
        from_version: the champion until now; None where there was none or nothing moves.
        to_version: the champion from now on; None where there is none or nothing moves.
    """

    event: str
    recipe: str
    version: str
    who: str
    why: str
    evidence: Mapping[str, str] = field(default_factory=dict)
    from_version: str | None = None
    to_version: str | None = None


@dataclass(frozen=True)
class LedgerEntry:
    """A decision as the ledger holds it: one line of canonical JSON (sorted keys, no spaces, UTF-8).

    Attributes:
        number: from 1.
        time: ISO, UTC, with microseconds; never before the entry above.
        version: the version that the event is about.
        from_version: as in `Decision`; `from` in the file.
        to_version: as in `Decision`; `to` in the file.
        evidence: as in `Decision`.
        previous: `hash` of the entry above.
        hash: SHA-256 of this entry without `hash`.
        account: of the process that wrote it, `name@machine`, which `--by` and AE_BY do not change; None in old entries.
        clock: what the clock said, as `time`, where that was before the entry above; None elsewhere.
    """

    number: int
    time: str
    event: str
    recipe: str
    version: str
    from_version: str | None
    to_version: str | None
    who: str
    why: str
    evidence: dict[str, str]
    previous: str
    hash: str
    account: str | None = None
    clock: str | None = None

    @property
    def timestamp(self) -> datetime:
        return datetime.fromisoformat(self.time)

    @property
    def clock_timestamp(self) -> datetime:
        """What the clock said when the entry was written."""
        return datetime.fromisoformat(self.clock or self.time)

    @property
    def moves_champion(self) -> bool:
        return self.event in MOVE_EVENTS

    def to_dict(self) -> dict[str, Any]:
        """Return the entry with the keys of the file."""
        content = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name not in OPTIONAL_KEYS or value is not None:
                content[json_key(item.name)] = value
        return content


@dataclass(frozen=True)
class LedgerContent:
    """What a ledger's file holds, intact or not.

    Attributes:
        entries: those that can be read, in the order of the file.
        problems: a sentence for everything that is wrong with the file by itself.
        incomplete_end: bytes after the last newline: an entry whose writing was cut short.
    """

    entries: list[LedgerEntry]
    problems: list[str]
    incomplete_end: bytes


# ---------------------------------------------------------------- queries


def ledger_file(project: Project, recipe: str) -> Path:
    return project.home / "ledger" / f"{recipe}.jsonl"


def recipes_with_ledger(project: Project) -> list[str]:
    return sorted(file.stem for file in (project.home / "ledger").glob("*.jsonl"))


def read_entries(project: Project, recipe: str) -> list[LedgerEntry]:
    """Return every entry of a ledger; an empty list where there is no file.

    An incomplete last line is left out: its writer got no confirmation that it is stored.

    Raises:
        DataError: the chain of hashes is broken; the message names each problem.
        InfrastructureError: the file cannot be read.
    """
    content = read_content(project, recipe)
    if content.problems:
        raise broken_ledger_error(project, recipe, content.problems)
    return content.entries


def champion_at(entries: list[LedgerEntry], at: datetime | None = None) -> str | None:
    """Return the version that was champion at a time, None where there was none.

    Args:
        at: with a time zone, compared with the times of `settle_timestamps`; None for now.
    """
    if at is not None:
        entries = entries_until(entries, at)
    move = last_move(entries)
    if move is None:
        return None
    return move.to_version


def known_bundle_sha256(entries: list[LedgerEntry], version: str) -> str | None:
    """Return the SHA-256 of a version's bundle by the last entry that names it, None where none does."""
    for entry in reversed(entries):
        if version in (entry.version, entry.to_version) and "bundle_sha256" in entry.evidence:
            return entry.evidence["bundle_sha256"]
    return None


def champions(entries: list[LedgerEntry]) -> list[str]:
    """Return the version that each entry made champion, in order; one may stand several times."""
    return [entry.to_version for entry in entries if entry.to_version is not None]


def former_champions(entries: list[LedgerEntry]) -> list[str]:
    """Return every version that was champion at some time, the present one included, each once, the last one first."""
    return list(dict.fromkeys(reversed(champions(entries))))


def entries_until(entries: list[LedgerEntry], at: datetime) -> list[LedgerEntry]:
    """Return the entries that were written until a time, with a time zone, by the times of `settle_timestamps`."""
    return [entry for entry, timestamp in zip(entries, settle_timestamps(entries), strict=True) if timestamp <= at]


def last_move(entries: list[LedgerEntry]) -> LedgerEntry | None:
    """Return the last entry that changed the champion, None where there is none."""
    for entry in reversed(entries):
        if entry.moves_champion:
            return entry
    return None


def settle_timestamps(entries: list[LedgerEntry], now: datetime | None = None) -> list[datetime]:
    """Return the time of each entry, corrected where a clock was wrong; in order.

    A clock that was ahead leaves an entry in the future, and `time` of every later one is as late. What the clocks said stands
    beside it, so the fewest of them are taken to be wrong: the longest series of entries whose clocks never go back, up to the
    present, is right. Each other entry gets the time of the right one before it, or else after it.

    Args:
        now: the present, with a time zone; None for the clock's.
    """
    latest = (now or datetime.now(UTC)) + CLOCK_TOLERANCE
    timestamps = [entry.timestamp for entry in entries]
    if all(entry.clock is None for entry in entries) and (not entries or timestamps[-1] <= latest):
        return timestamps
    right_positions = _longest_ordered(entries, latest)
    if not right_positions:
        return timestamps
    last_right = min(right_positions)
    for position in range(len(entries)):
        if position in right_positions:
            last_right = position
        timestamps[position] = entries[last_right].clock_timestamp
    return timestamps


def _longest_ordered(entries: list[LedgerEntry], latest: datetime) -> set[int]:
    """Return the positions of the longest series of entries whose clocks never go back nor past `latest`; of two, the first."""
    lengths: dict[int, int] = {}
    predecessors: dict[int, int | None] = {}
    for position, entry in enumerate(entries):
        if entry.clock_timestamp > latest:
            continue
        before = [other for other in lengths if entries[other].clock_timestamp <= entry.clock_timestamp]
        predecessor = max(before, key=lengths.__getitem__, default=None)
        predecessors[position] = predecessor
        lengths[position] = 1 if predecessor is None else lengths[predecessor] + 1
    last = max(lengths, key=lengths.__getitem__, default=None)
    series = set()
    while last is not None:
        series.add(last)
        last = predecessors[last]
    return series


def find_wrong_clocks(entries: list[LedgerEntry], now: datetime | None = None) -> list[str]:
    """Return a sentence for each entry whose time is not that of `settle_timestamps` or lies ahead of the clock.

    They are no damage: the champion follows from the order of the entries, not from their times.
    """
    present = now or datetime.now(UTC)
    sentences = []
    for entry, timestamp in zip(entries, settle_timestamps(entries, present), strict=True):
        if entry.clock_timestamp > present + CLOCK_TOLERANCE:
            ahead = entry.clock_timestamp - present
            sentences.append(
                f"number {entry.number} is dated {entry.clock_timestamp:%Y-%m-%d %H:%M} UTC, {_describe_duration(ahead)} ahead "
                "of this machine's clock: one of the two clocks was wrong; set the clock right before the next decision"
            )
        elif abs(entry.clock_timestamp - timestamp) > CLOCK_TOLERANCE:
            sentences.append(
                f"number {entry.number} was written while a clock said {entry.clock_timestamp:%Y-%m-%d %H:%M} UTC, out of order "
                f"with the other entries: it counts as of {timestamp:%Y-%m-%d %H:%M} UTC"
            )
    return sentences


def _describe_duration(duration: timedelta) -> str:
    if duration >= timedelta(days=2):
        return f"{duration.days} days"
    return f"{duration / timedelta(hours=1):.1f} hours"


def champion_before(entries: list[LedgerEntry]) -> str | None:
    """Return the champion before the present one; where the champion was retired, that one.

    A rollback takes back what it undid: after 1, 2, 3 and a rollback to 2, the champion before is 1 and not 3.
    """
    champions: list[str | None] = []
    for entry in entries:
        if entry.event == "rollback" and entry.to_version in champions:
            last_position = len(champions) - 1 - champions[::-1].index(entry.to_version)
            del champions[last_position + 1 :]
        elif entry.moves_champion:
            champions.append(entry.to_version)
    for version in reversed(champions[:-1]):
        if version is not None:
            return version
    return None


def count_evaluated_bundles(entries: list[LedgerEntry], holdout_sha256: str) -> int:
    """Return how many different bundles have been evaluated on this holdout."""
    bundle_hashes = set()
    for entry in entries:
        if entry.evidence.get("holdout_sha256") == holdout_sha256 and "bundle_sha256" in entry.evidence:
            bundle_hashes.add(entry.evidence["bundle_sha256"])
    return len(bundle_hashes)


def current_actor() -> str:
    """Return the name to write into the ledger: AE_BY, else the login name."""
    if actor_name := os.environ.get("AE_BY", "").strip():
        return actor_name
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no entry in the password file
        return f"user {os.getuid()}"


def current_account() -> str:
    """Return the account of this process and its machine, as the kernel knows them: AE_BY and LOGNAME do not change it."""
    try:
        account = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user may have no entry in the password file
        account = f"user {os.getuid()}"
    return f"{account}@{platform.node() or 'unknown'}"


# ---------------------------------------------------------------- reading


def read_content(project: Project, recipe: str) -> LedgerContent:
    """Read a ledger's file without refusing a broken one; empty where there is no file.

    Raises:
        InfrastructureError: the file cannot be read.
    """
    file = ledger_file(project, recipe)
    with _file_errors(file):
        data = file.read_bytes() if file.is_file() else b""
    *complete_lines, incomplete_end = data.split(b"\n")
    entries: list[LedgerEntry] = []
    problems: list[str] = []
    for position, raw in enumerate(complete_lines, 1):
        try:
            entry = parse_entry(raw)
            problems += [f"line {position} of the file {problem}" for problem in _entry_problems(entry, raw, recipe)]
            entries.append(entry)
        except (ValueError, RecursionError) as error:  # what JSON, UTF-8 and `parse_entry` raise
            problems.append(f"line {position} of the file cannot be read: {error}")
    problems += [*_order_problems(entries), *_chain_problems(entries)]
    return LedgerContent(entries, problems, incomplete_end)


def parse_entry(raw: bytes) -> LedgerEntry:
    """Read one line of the file; its hashes are not checked.

    Raises:
        ValueError: the line is no ledger entry.
    """
    content = json.loads(raw.decode("utf-8"))
    attributes = {json_key(item.name): item.name for item in fields(LedgerEntry)}
    required_keys = attributes.keys() - set(OPTIONAL_KEYS)
    if not isinstance(content, dict) or content.keys() - set(OPTIONAL_KEYS) != required_keys:
        raise ValueError(f"expected an object with exactly {', '.join(sorted(required_keys))}, and {' and '.join(OPTIONAL_KEYS)}")
    entry = LedgerEntry(**{attributes[key]: value for key, value in content.items()})
    if not _has_valid_types(entry):
        raise ValueError("a value is of the wrong type")
    if type(entry.number) is not int or entry.number < 1:
        raise ValueError(f"expected a number of 1 or more, got {entry.number!r}")
    if entry.event not in MOVE_EVENTS + NOTE_EVENTS:
        raise ValueError(f"expected one of the events {', '.join(MOVE_EVENTS + NOTE_EVENTS)}, got {entry.event!r}")
    for text in (entry.time, entry.clock):
        if text is not None and datetime.fromisoformat(text).utcoffset() is None:
            raise ValueError(f"expected an ISO time with a time zone, got {text!r}")
    return entry


def json_key(attribute_name: str) -> str:
    """Return the key in the file of an attribute of `LedgerEntry`."""
    return JSON_KEYS.get(attribute_name, attribute_name)


def _has_valid_types(entry: LedgerEntry) -> bool:
    texts = (entry.event, entry.recipe, entry.version, entry.time, entry.who, entry.why, entry.previous, entry.hash)
    optional_texts = (entry.from_version, entry.to_version, entry.account, entry.clock)
    return (
        are_texts(texts)
        and all(value is None or isinstance(value, str) for value in optional_texts)
        and isinstance(entry.evidence, dict)
        and are_texts(entry.evidence.values())
    )


def are_texts(values: Iterable[object]) -> bool:
    """Return whether all values are texts."""
    return all(isinstance(value, str) for value in values)


def _entry_problems(entry: LedgerEntry, raw: bytes, recipe: str) -> Iterator[str]:
    """Check an entry by itself."""
    if entry_hash(entry.to_dict()) != entry.hash:
        yield "was edited: its content does not match its hash"
    elif canonical_json(entry.to_dict()) != raw:
        yield "was edited: it is not canonical JSON"
    if entry.recipe != recipe:
        yield f"belongs to the recipe {entry.recipe}"


def _order_problems(entries: list[LedgerEntry]) -> Iterator[str]:
    """Find numbers that are missing, there more than once, or out of order."""
    numbers = [entry.number for entry in entries]
    for lower, upper in pairwise([0, *sorted(set(numbers))]):
        if upper > lower + 1:
            yield describe_missing(lower + 1, upper - 1)
    for number, times in Counter(numbers).items():
        if times > 1:
            yield f"number {number} is there {times} times"
    for above, next_number in pairwise(numbers):
        if above > next_number:
            yield f"number {next_number} stands below number {above}: lines were swapped"


def describe_missing(first_number: int, last_number: int) -> str:
    if first_number == last_number:
        return f"number {first_number} is missing"
    return f"numbers {first_number} to {last_number} are missing"


def _chain_problems(entries: list[LedgerEntry]) -> Iterator[str]:
    """Find entries that do not follow the entry of the number before, wherever that stands."""
    hashes = {0: FIRST_HASH} | {entry.number: entry.hash for entry in entries}
    for entry in entries:
        if entry.previous != hashes.get(entry.number - 1, entry.previous):
            yield f"number {entry.number} does not hold the hash of the number before it: one of the two was replaced"


def broken_ledger_error(project: Project, recipe: str, problems: list[str]) -> DataError:
    """Build the error to raise for a ledger with problems."""
    return DataError(
        f"the ledger {ledger_file(project, recipe)} is not intact: {'; '.join(problems)}. No version is promoted until it is: "
        f"restore an intact copy, then type `ae ledger verify {recipe}`; docs/ledger.md says what to do where there is none"
    )


# ---------------------------------------------------------------- writing


def append_entry(project: Project, decision: Decision, announce: Callable[[LedgerEntry], None] | None = None) -> LedgerEntry:
    """Add an entry; once this returns, it is on the disk. The caller holds `file_lock(project, "ledger")`.

    Args:
        announce: called with the entry before it is written, so that an entry added by hand can be recognised.

    Returns:
        The entry with its number, time and hashes.

    Raises:
        DataError: the ledger is not intact, or ends in an incomplete line.
        UsageError: `who` or `why` is empty or not UTF-8.
    """
    recipe = decision.recipe
    ledger_content = read_content(project, recipe)
    problems = list(ledger_content.problems)
    if ledger_content.incomplete_end:
        problems.append("it ends in an incomplete line")
    if problems:
        raise broken_ledger_error(project, recipe, problems)
    entries, previous_hash = ledger_content.entries, FIRST_HASH
    times = entry_times(datetime.now(UTC), entries)
    if entries:
        previous_hash = entries[-1].hash
    content = {
        **times,
        "number": len(entries) + 1,
        "account": current_account(),
        "event": decision.event,
        "recipe": recipe,
        "version": decision.version,
        "from": decision.from_version,
        "to": decision.to_version,
        "who": require_text(decision.who, "who"),
        "why": require_text(decision.why, "why"),
        "evidence": dict(decision.evidence),
        "previous": previous_hash,
    }
    entry = parse_entry(canonical_json(content | {"hash": entry_hash(content)}))
    if announce is not None:
        announce(entry)
    append_bytes(ledger_file(project, recipe), canonical_json(entry.to_dict()) + b"\n")
    return entry


def entry_times(now: datetime, entries: list[LedgerEntry]) -> dict[str, str]:
    """Return `time` of a new entry, never before the one above it, and `clock` where the clock says otherwise.

    A clock that was put back must not make yesterday's champion today's; `settle_timestamps` finds out which clock was wrong.
    """
    clock_text = now.isoformat(timespec="microseconds")
    if not entries or entries[-1].timestamp <= now:
        return {"time": clock_text}
    return {"time": entries[-1].time, "clock": clock_text}


def require_text(value: str, name: str) -> str:
    """Return the text without spaces around it.

    Raises:
        UsageError: the text is empty or not UTF-8.
    """
    text = value.strip()
    if not text:
        option = "--by NAME" if name == "who" else "--why TEXT"
        raise UsageError(f"`{name}` is empty, and the ledger records who decided and why: give {option}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError(f"`{name}` is {text!r}, which is not UTF-8: type it again") from error
    return text


def canonical_json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def entry_hash(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of an entry's content without its key `hash`."""
    return data_sha256(canonical_json(drop_keys(content, {"hash"})))


def append_bytes(file: Path, data: bytes) -> None:
    """Append to a file and wait until the disk has it."""
    with _file_errors(file):
        append_synced(file, data)


def cut_incomplete_end(project: Project, recipe: str) -> int:
    """Cut off everything after the last newline. The caller holds the lock.

    Returns:
        The number of bytes that were cut off.
    """
    file = ledger_file(project, recipe)
    byte_count = len(read_content(project, recipe).incomplete_end)
    with _file_errors(file), file.open("r+b") as stream:
        stream.truncate(file.stat().st_size - byte_count)
        os.fsync(stream.fileno())
    return byte_count


@contextmanager
def _file_errors(file: Path) -> Iterator[None]:
    """Turn an OSError into a message that says what to do."""
    try:
        yield
    except OSError as error:
        raise as_ae_error(error) or InfrastructureError(
            f"cannot use the ledger {file} ({error.strerror}): make it yours to read and write, then type the same command again"
        ) from error
