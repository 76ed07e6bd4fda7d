"""What the state folder says of a recipe, read afresh for each page: small files, and no library that is slow to load.

Whatever is missing is None or empty; what cannot be read is told in a line (`Part.fault`), and the rest of the page stays whole.
"""

import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from aeops.errors import AeError
from aeops.project import Project
from aeops.provenance.last_run import record_file
from aeops.recipe.reader import Recipe, load_recipe
from aeops.registry import ledger
from aeops.registry.ledger import LedgerEntry

T = TypeVar("T")
QUARANTINED = 12  # rows that the page shows
PICTURES = 8  # of these, the samples that it draws


@dataclass(frozen=True)
class Part(Generic[T]):
    """One part of a page: its content, or why there is none."""

    value: T | None = None
    fault: str = ""


def part(read: Callable[[], T]) -> Part[T]:
    try:
        return Part(read())
    except (AeError, OSError, ValueError, KeyError, TypeError) as error:  # a file of another form than it should have
        told = " ".join(str(error).split())
        return Part(fault=told if isinstance(error, AeError | OSError) else f"a file is not of the form it should have ({told})")


@lru_cache(maxsize=256)
def _recipe_as_of(project: Project, name: str, _state: tuple[int, int]) -> Recipe:
    return load_recipe(project, name)


def recipe(project: Project, name: str) -> Recipe:
    """The recipe, parsed again only when its file has changed; raises UsageError as `load_recipe`."""
    file = project.recipe_file(name)
    if not file.is_file():
        return load_recipe(project, name)
    status = file.stat()
    return _recipe_as_of(project, name, (status.st_mtime_ns, status.st_size))


def json_file(file: Path) -> dict[str, Any] | None:
    """The file's object, None where there is no such file; raises ValueError where it is something else."""
    try:
        given = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    if not isinstance(given, dict):
        raise ValueError(f"{file} holds no JSON object")
    return given


# ---------------------------------------------------------------- ledger and runs


@dataclass(frozen=True)
class Story:
    """What a recipe's ledger tells.

    Attributes:
        lines: oldest first.
        champion: None where there is none.
        since: the line that made it so.
        waiting: requests that nobody has answered.
    """

    lines: list[LedgerEntry]
    champion: str | None
    since: LedgerEntry | None
    waiting: list[LedgerEntry]


def story(project: Project, name: str) -> Story:
    """Raises DataError where the ledger does not hold."""
    lines = ledger.read_entries(project, name)
    return Story(lines, ledger.champion_at(lines), ledger.last_move(lines), waiting(lines))


def waiting(lines: list[LedgerEntry]) -> list[LedgerEntry]:
    open_ones: dict[str, LedgerEntry] = {}
    for line in lines:
        if line.event == "request":
            open_ones[line.version] = line
        else:  # whatever was decided about the version since
            open_ones.pop(line.version, None)
    return list(open_ones.values())


@dataclass(frozen=True)
class LastRun:
    """The last whole run: its summary, and when it ended, UTC."""

    at: datetime
    summary: dict[str, Any]


def last_run(project: Project, name: str) -> LastRun | None:
    file = record_file(project, name)
    record = json_file(file)
    return None if record is None else LastRun(when(file), dict(record["summary"]))


def when(file: Path) -> datetime:
    """When a file was written, UTC."""
    return datetime.fromtimestamp(file.stat().st_mtime, tz=UTC)


# ---------------------------------------------------------------- validation and quarantine


def validation(project: Project, dataset: str) -> dict[str, Any] | None:
    file = project.validation(dataset) / "validation.json"
    found = json_file(file)
    return None if found is None else found | {"at": when(file)}


@dataclass(frozen=True)
class Quarantine:
    """The newest set of rows set aside.

    Attributes:
        count: rows in it.
        reasons: reason -> how many rows it was one of, the commonest first.
        rows: the first of them: id, reasons, label, source.
        pictures: the first samples as they were stored, for rows of images; empty where they are none.
        sets: how many such sets the state folder keeps.
    """

    place: str
    at: datetime
    count: int
    reasons: list[tuple[str, int]]
    rows: list[dict[str, Any]]
    pictures: list[Any] = field(default_factory=list)
    sets: int = 1


def quarantine(project: Project, dataset: str) -> Quarantine | None:
    """Raises ValueError where a file is damaged (Arrow's errors are)."""
    files = sorted(project.quarantine(dataset).glob("[!.]*/rows.parquet"), key=lambda file: file.stat().st_mtime)
    if not files:
        return None
    import pyarrow.parquet as pq

    file = files[-1]
    asked = [name for name in ("id", "reasons", "label", "source") if name in pq.read_schema(file).names]
    table = pq.read_table(file, columns=asked)
    counts = Counter(reason for row in table.column("reasons").to_pylist() for reason in row)
    return Quarantine(
        place=file.parent.relative_to(project.home).as_posix(),
        at=when(file),
        count=table.num_rows,
        reasons=counts.most_common(),
        rows=table.slice(0, QUARANTINED).to_pylist(),
        pictures=first_samples(file.parent / "samples.npy"),
        sets=len(files),
    )


def first_samples(file: Path) -> list[Any]:
    """The first samples of a quarantine that are images, (channels, height, width) each."""
    import numpy as np

    if not file.is_file():
        return []
    samples = np.load(file, mmap_mode="r", allow_pickle=False)
    is_picture = samples.ndim == 4 and samples.shape[1] in (1, 2, 3, 4) and max(samples.shape[2:]) <= 512
    return [np.array(one) for one in samples[:PICTURES]] if is_picture else []


# ---------------------------------------------------------------- monitoring and scoring


def monitoring(project: Project, name: str) -> dict[str, Any] | None:
    """verdict.json with the alarms apart, and which pages there are."""
    folder = project.home / "monitoring" / name
    verdict = json_file(folder / "verdict.json")
    if verdict is None:
        return None
    signals = [dict(signal) for signal in verdict.get("signals", [])]
    alarms = [signal for signal in signals if signal.get("verdict") == "alarm"]
    pages = {page: (folder / f"{page}.html").is_file() for page in ("page", "drift")}
    return verdict | {"signals": signals, "alarms": alarms, "pages": pages, "at": when(folder / "verdict.json")}


def batch(project: Project, name: str) -> datetime | None:
    """When the last batch was summarised, None where none was."""
    page = project.home / "scoring" / name / "latest.html"
    return when(page) if page.is_file() else None


def reported(project: Project, name: str) -> datetime | None:
    page = project.reports(name) / "report.html"
    return when(page) if page.is_file() else None


def is_number(given: Any) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool) and math.isfinite(given)
