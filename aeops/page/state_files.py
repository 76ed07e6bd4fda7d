"""The state folder of a recipe, read afresh for each page: small files, and no library that is slow to load.

What is missing is None or empty. What cannot be read becomes one line in `PagePart.error`; the rest of the page is shown.
"""

import math
import shlex
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from aeops.data.judgements import Standing, expectation_name, read_standings
from aeops.errors import AeError
from aeops.machine.stored_json import read_json
from aeops.project import Project
from aeops.provenance.last_run import last_run_file
from aeops.recipe.reader import Recipe, load_recipe
from aeops.recipe.sections import DUPLICATE
from aeops.registry import ledger
from aeops.registry.acknowledgement import ACKNOWLEDGEMENT
from aeops.registry.ledger import LedgerEntry

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")
JsonObject = dict[str, Any]  # a JSON file's content, by its keys
ROW_LIMIT = 12  # quarantined rows in the page's table
IMAGE_LIMIT = 8  # quarantined samples that the page draws
LARGEST_IMAGE = 512  # pixels of a side


@dataclass(frozen=True)
class PagePart(Generic[T]):
    """One part of a page: its content, or the error that left it empty."""

    value: T | None = None
    error: str = ""


def read_part(read: Callable[[], T | None]) -> PagePart[T]:
    """Call `read` and keep its result, or its error as one line."""
    try:
        return PagePart(read())
    except (AeError, OSError) as error:
        return PagePart(error=one_line(error))
    except (ValueError, KeyError, TypeError) as error:
        return PagePart(error=f"a file does not have the expected form ({one_line(error)})")


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())


@lru_cache(maxsize=256)
def _load_recipe_version(project: Project, name: str, _file_state: tuple[int, int]) -> Recipe:
    return load_recipe(project, name)


def cached_recipe(project: Project, name: str) -> Recipe:
    """Return the recipe, parsed again only when its file has changed.

    Raises:
        UsageError: as `load_recipe`.
    """
    file = project.recipe_file(name)
    if not file.is_file():
        return load_recipe(project, name)
    status = file.stat()
    return _load_recipe_version(project, name, (status.st_mtime_ns, status.st_size))


def read_json_object(file: Path) -> JsonObject | None:
    """Return the file's JSON object, None where there is no such file.

    Raises:
        DataError: the file is damaged.
        ValueError: the file holds anything else.
    """
    try:
        document = read_json(file)
    except FileNotFoundError:
        return None
    if not isinstance(document, dict):
        raise ValueError(f"{file} holds no JSON object")
    return document


# ---------------------------------------------------------------- ledger and runs


@dataclass(frozen=True)
class LedgerState:
    """A recipe's ledger and what follows from it.

    Attributes:
        entries: oldest first.
        champion: None where there is none.
        last_move: the entry that made it the champion.
        pending_requests: requests for approval without an answer.
    """

    entries: list[LedgerEntry]
    champion: str | None
    last_move: LedgerEntry | None
    pending_requests: list[LedgerEntry]


def read_ledger(project: Project, name: str) -> LedgerState:
    """Read and verify a recipe's ledger.

    Raises:
        DataError: the chain of hashes is broken.
    """
    entries = ledger.read_entries(project, name)
    return LedgerState(entries, ledger.champion_at(entries), ledger.last_move(entries), find_pending_requests(entries))


def find_pending_requests(entries: list[LedgerEntry]) -> list[LedgerEntry]:
    """Return the requests for approval that no later entry about the same version answers."""
    requests: dict[str, LedgerEntry] = {}
    for entry in entries:
        if entry.event == "request":
            requests[entry.version] = entry
        elif entry.event != ACKNOWLEDGEMENT:
            requests.pop(entry.version, None)
    return list(requests.values())


@dataclass(frozen=True)
class LastRun:
    """The last complete run: its summary, and its end, UTC."""

    end_time: datetime
    summary: JsonObject


def read_last_run(project: Project, name: str) -> LastRun | None:
    """Return the last complete run, None without one."""
    file = last_run_file(project, name)
    record = read_json_object(file)
    if record is None:
        return None
    return LastRun(modified_at(file), dict(record["summary"]))


def modified_at(file: Path) -> datetime:
    """Return the time of the last write, UTC."""
    return datetime.fromtimestamp(file.stat().st_mtime, tz=UTC)


def find_modified_at(file: Path) -> datetime | None:
    """Return the time of the last write, UTC; None where there is no such file."""
    return modified_at(file) if file.is_file() else None


# ---------------------------------------------------------------- validation and quarantine


def read_validation(project: Project, dataset: str) -> JsonObject | None:
    """Return validation.json and `validated_at`, None without one."""
    file = project.validation(dataset) / "validation.json"
    validation = read_json_object(file)
    if validation is None:
        return None
    return validation | {"validated_at": modified_at(file)}


@dataclass(frozen=True)
class QuarantineSummary:
    """The newest set of quarantined rows.

    Attributes:
        folder: relative to the state folder.
        count: rows in the set.
        reasons: (reason, rows with this reason), the most frequent first.
        rows: the first of them: id, reasons, label, source, values, and `judged`: what a person has decided of it since.
        copies: rows that equal an earlier sample and have no other fault.
        images: the first samples as stored, (channels, height, width) each; empty where the samples are no images.
        set_count: sets in the state folder.
    """

    folder: str
    created_at: datetime
    count: int
    reasons: list[tuple[str, int]]
    rows: list[JsonObject]
    images: list["np.ndarray"] = field(default_factory=list)
    set_count: int = 1
    copies: int = 0

    @property
    def first_id(self) -> str:
        """The first sample's id, as a shell takes it."""
        return shlex.quote(str(self.rows[0]["id"])) if self.rows else "IDS"


def read_quarantine(project: Project, dataset: str) -> QuarantineSummary | None:
    """Return the newest set of quarantined rows, None without one, or where the last validation set nothing aside.

    Raises:
        DataError: the record of judgements is damaged.
        ValueError: a file is damaged (Arrow's errors are ValueErrors).
    """
    files = sorted(project.quarantine(dataset).glob("[!.]*/rows.parquet"), key=lambda file: file.stat().st_mtime)
    validation = read_part(lambda: read_validation(project, dataset)).value  # its own part of the page has its error
    if not files or (validation is not None and validation.get("quarantine", files) is None):
        return None
    import pyarrow.parquet as pq

    file = files[-1]
    names = ("id", "reasons", "label", "source", "sha256", "values")
    columns = [name for name in names if name in pq.read_schema(file).names]
    table = pq.read_table(file, columns=columns)
    reason_counts: Counter[str] = Counter()
    copies = 0
    for row_reasons in table.column("reasons").to_pylist():
        kinds = set(map(expectation_name, row_reasons))
        reason_counts.update(kinds)
        copies += kinds == {DUPLICATE}
    standings = read_standings(project, dataset)
    rows: list[JsonObject] = table.slice(0, ROW_LIMIT).to_pylist()
    for row in rows:
        judgements = standings.get((row["id"], row.get("sha256")), Standing()).judgements
        row["judged"] = "; ".join(one.describe() for one in judgements)
    return QuarantineSummary(
        folder=file.parent.relative_to(project.home).as_posix(),
        created_at=modified_at(file),
        count=table.num_rows,
        reasons=reason_counts.most_common(),
        rows=rows,
        copies=copies,
        images=read_first_images(file.parent / "samples.npy"),
        set_count=len(files),
    )


def read_first_images(file: Path) -> list["np.ndarray"]:
    """Return the first quarantined samples, (channels, height, width) each; an empty list where they are no images."""
    import numpy as np

    from aeops.kinds.npy_bytes import map_npy

    if not file.is_file():
        return []
    samples = map_npy(file)
    if samples.ndim != 4 or samples.shape[1] not in (1, 2, 3, 4) or max(samples.shape[2:]) > LARGEST_IMAGE:
        return []
    return list(np.array(samples[:IMAGE_LIMIT]))


# ---------------------------------------------------------------- monitoring and scoring


def read_monitoring(project: Project, name: str) -> JsonObject | None:
    """Return verdict.json with `alarms`, the `pages` that exist and `checked_at`; None without a verdict."""
    folder = project.home / "monitoring" / name
    verdict = read_json_object(folder / "verdict.json")
    if verdict is None:
        return None
    signals, alarms = [], []
    for entry in verdict.get("signals", []):
        signal = dict(entry)
        signals.append(signal)
        if signal.get("verdict") == "alarm":
            alarms.append(signal)
    pages = {"page": (folder / "page.html").is_file(), "drift": (folder / "drift.html").is_file()}
    return verdict | {
        "signals": signals,
        "alarms": alarms,
        "pages": pages,
        "checked_at": modified_at(folder / "verdict.json"),
    }


def is_number(value: Any) -> bool:
    """Return whether a value from a JSON file is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
