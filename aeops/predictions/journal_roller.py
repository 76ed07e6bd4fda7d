"""`python -m aeops.predictions.journal_roller RECIPE`: makes files of the recipe's journals that nobody holds any more.

A process of its own, so that a service neither waits for it nor keeps the memory it takes. May be killed at any line and started
twice at once: the journal goes only when its file is there, and whoever works on a journal holds it.
"""

import fcntl
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from aeops.errors import AeError, DataError
from aeops.predictions import prediction_store
from aeops.project import Project, find_project

if TYPE_CHECKING:
    import pyarrow as pa

FORGOTTEN = 3600  # seconds after which a journal without its name is what a dead process left before its first row
ROWS = 65536  # of a row group: a service's batches are far too small for one each


def main() -> None:
    [recipe] = sys.argv[1:]
    os.nice(5)  # answers come first
    faults = roll(find_project(), recipe)
    if faults:
        raise DataError("\n".join(faults))


def roll(project: Project, recipe: str) -> list[str]:
    """Makes files of all journals that nobody holds; what is wrong with those that cannot be read is handed back."""
    faults = []
    folder = prediction_store.folder_of(project, recipe) / prediction_store.JOURNAL
    for aside in folder.glob(".*.aside"):
        if time.time() - aside.stat().st_mtime > FORGOTTEN:
            aside.unlink()
    for journal in sorted(folder.glob("*.arrow")):
        try:
            adopt(project, recipe, journal)
        except DataError as error:
            faults.append(str(error))
    return faults


def adopt(project: Project, recipe: str, journal: Path) -> None:
    """Makes a journal a file, unless somebody holds it or was quicker.

    Raises:
        DataError: it is broken before its end.
        InfrastructureError: the file cannot be written.
    """
    try:
        descriptor = os.open(journal, os.O_RDONLY)
    except FileNotFoundError:
        return  # somebody was quicker
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if journal.exists():
            table = prediction_store.read_journal(journal)
            require_sound(table, journal)
            if table.num_rows:
                began = table["time"][0].as_py()
                prediction_store.write(prediction_store.call_file(project, recipe, began, journal.stem), large_batches(table))
            journal.unlink()
    except BlockingIOError:
        pass  # a service writes to it, or another process of this kind works on it
    finally:
        os.close(descriptor)


def require_sound(table: "pa.Table", journal: Path) -> None:
    import pyarrow as pa

    try:
        table.validate(full=True)
    except pa.ArrowException as error:
        raise DataError(f"{journal} is damaged ({str(error).splitlines()[0]}): put back a copy of it, or move it away") from error


def large_batches(table: "pa.Table") -> "Iterator[pa.RecordBatch]":
    yield from table.combine_chunks().to_batches(max_chunksize=ROWS)


if __name__ == "__main__":
    try:
        main()
    except AeError as known:
        print(f"{known.kind} error: {known}", file=sys.stderr)
        sys.exit(known.exit_code)
