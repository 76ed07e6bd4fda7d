"""`python -m aeops.predictions.journal_roller RECIPE`: roll the recipe's journals that no process writes any more into files.

A process of its own, so that a service neither waits for it nor holds the memory it takes. It may be killed at any line and
started twice at once: a journal is removed only when its file is there, and each process locks the journal that it works on.
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
from aeops.predictions.recorded_files import predictions_folder
from aeops.project import Project, find_project

if TYPE_CHECKING:
    import pyarrow as pa

ABANDONED_AFTER = 3600  # seconds after which a journal without its name is what a dead process left before its first row
ROW_GROUP_ROWS = 65536  # of a row group: a service's batches are far too small for one each


def main() -> None:
    [recipe] = sys.argv[1:]
    os.nice(5)  # answers come first
    problems = roll_journals(find_project(), recipe)
    if problems:
        raise DataError("\n".join(problems))


def roll_journals(project: Project, recipe: str) -> list[str]:
    """Roll all journals that no process writes.

    Returns:
        A problem for each journal that cannot be read.
    """
    problems = []
    folder = predictions_folder(project, recipe) / prediction_store.JOURNAL
    for tmp_path in folder.glob(f".*{prediction_store.UNNAMED_SUFFIX}"):
        if time.time() - tmp_path.stat().st_mtime > ABANDONED_AFTER:
            tmp_path.unlink()
    for journal in sorted(folder.glob("*.arrow")):
        try:
            roll_journal(project, recipe, journal)
        except DataError as error:
            problems.append(str(error))
    return problems


def roll_journal(project: Project, recipe: str, journal: Path) -> None:
    """Roll a journal into a file, unless another process writes it or was quicker.

    Raises:
        DataError: it is broken before its end.
        InfrastructureError: the file cannot be written.
    """
    try:
        descriptor = os.open(journal, os.O_RDONLY)
    except FileNotFoundError:
        return  # another process was quicker
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if journal.exists():
            os.fsync(descriptor)  # it stays if it cannot be rolled
            table = prediction_store.read_journal(journal)
            require_valid(table, journal)
            if table.num_rows:
                started_at = table["time"][0].as_py()
                file = prediction_store.call_file(project, recipe, started_at, journal.stem)
                prediction_store.write_call(file, large_batches(table))
            journal.unlink()
    except BlockingIOError:
        pass  # a service writes to it, or another process of this kind works on it
    finally:
        os.close(descriptor)


def require_valid(table: "pa.Table", journal: Path) -> None:
    import pyarrow as pa

    try:
        table.validate(full=True)
    except pa.ArrowException as error:
        raise DataError(f"{journal} is damaged ({str(error).splitlines()[0]}): put back a copy of it, or move it away") from error


def large_batches(table: "pa.Table") -> "Iterator[pa.RecordBatch]":
    yield from table.combine_chunks().to_batches(max_chunksize=ROW_GROUP_ROWS)


if __name__ == "__main__":
    try:
        main()
    except AeError as known:
        print(f"{known.kind} error: {known}", file=sys.stderr)
        sys.exit(known.exit_code)
