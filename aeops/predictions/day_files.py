"""Day files: the small calls of a day that is over, joined into one file, so that many of them cost a reader no more than one.

    <home>/predictions/<recipe>/<date>/day-<16 hexadecimal digits>.parquet

It holds the rows of its calls as they are, ids included. Its metadata name the calls, with the metadata that their own files had.
A day file appears as a whole, by a rename; from then on it counts, and the files of its calls do not. They are deleted by a later
pass, once whoever had listed them is through. So a process killed at any line loses no row and doubles none, and the next pass
goes on where it was.
"""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from aeops.errors import DataError
from aeops.files import data_sha256
from aeops.machine.lock import file_lock
from aeops.predictions import prediction_store
from aeops.predictions.recorded_files import (
    CALLS_KEY,
    DAY_PREFIX,
    is_day_file,
    joined_calls,
    list_day_folders,
    list_recorded,
    read_metadata,
)
from aeops.project import Project

if TYPE_CHECKING:
    import pyarrow as pa

SMALL_BYTES = 2**18  # of a call's file that is joined with others
MIN_CALLS = 8  # small files of a day that are worth a day file
MAX_BYTES = 2**26  # of the small files that become one day file: bounds the memory of joining them
DELETE_AFTER = 3600  # seconds from a day file's last change until the files of its calls are deleted
ROW_GROUP_ROWS = 65536


def roll_days(project: Project, recipe: str, today: date | None = None) -> int:
    """Join the small calls of each day before `today` into day files, and delete files that an earlier pass has joined.

    A call whose file cannot be read stays as it is, for whoever reads its rows to name it.

    Args:
        project: whose predictions they are.
        recipe: its name.
        today: in UTC; None for now's.

    Returns:
        The number of calls that were joined.

    Raises:
        DataError: a day file cannot be read.
    """
    if today is None:
        today = datetime.now(UTC).date()
    joined = 0
    with file_lock(project, f"day-files-{recipe}"):
        for folder in list_day_folders(project, recipe):
            if date.fromisoformat(folder.name) >= today:
                continue
            _delete_joined(folder, DELETE_AFTER)
            for files in _small_groups(folder):
                joined += _join(folder, files)
    return joined


def delete_joined_files(project: Project, recipe: str) -> None:
    """Delete the files of calls that are in a day file, at once: whoever changes predictions must find each row in one place."""
    with file_lock(project, f"day-files-{recipe}"):
        for folder in list_day_folders(project, recipe):
            _delete_joined(folder, 0)


def _delete_joined(folder: Path, after: float) -> None:
    """Delete the files whose calls are in a day file of the folder for so many seconds, and what killed passes left."""
    for tmp_path in folder.glob(f".{DAY_PREFIX}*.tmp"):
        tmp_path.unlink()
    for day_file in folder.glob(f"{DAY_PREFIX}*.parquet"):
        if time.time() - day_file.stat().st_mtime < after:
            continue
        for call in joined_calls(day_file):
            (folder / f"{call}.parquet").unlink(missing_ok=True)


def _small_groups(folder: Path) -> Iterator[list[Path]]:
    """Yield the small calls of a day that are in no day file, each group for one."""
    group: list[Path] = []
    group_bytes = 0
    for file in list_recorded(folder):
        size = file.stat().st_size
        if size > SMALL_BYTES or is_day_file(file):
            continue
        if group_bytes + size > MAX_BYTES:
            yield group
            group, group_bytes = [], 0
        group.append(file)
        group_bytes += size
    if len(group) >= MIN_CALLS:
        yield group


def _join(folder: Path, files: Sequence[Path]) -> int:
    """Write the day file of these calls' files; return how many calls it has."""
    import pyarrow as pa

    tables, calls = [], {}
    for file in files:
        with suppress(DataError):
            table = prediction_store.read_call(file)
            calls[file.stem] = read_metadata(file)
            tables.append(table)
    if len(calls) < MIN_CALLS:
        return 0
    table = pa.concat_tables(sorted(tables, key=_first_time))
    names = ",".join(sorted(calls))
    day_file = folder / f"{DAY_PREFIX}{data_sha256(names)[:16]}.parquet"
    prediction_store.write_call(day_file, _batches(table), {CALLS_KEY: json.dumps(calls, sort_keys=True)})
    return len(calls)


def _first_time(table: "pa.Table") -> int:
    return int(table["time"][0].value) if table.num_rows else 0


def _batches(table: "pa.Table") -> "Iterator[pa.RecordBatch]":
    yield from table.combine_chunks().to_batches(max_chunksize=ROW_GROUP_ROWS)
