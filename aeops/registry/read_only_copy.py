"""A private copy of MLflow's database, for a person who may read the state folder and not write in it.

SQLite cannot read a database with a write-ahead log without writing beside it. So the file and its log are copied together, at a
moment when nobody writes, and the copy refuses to be written.
"""

import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from aeops.errors import InfrastructureError
from aeops.project import Project
from aeops.registry.database import artifacts_folder, database_file, fingerprint_database, log_file
from aeops.registry.locations import relocate_paths

ATTEMPTS = 50
QUIET_NANOSECONDS = 50_000_000  # without a write before the copy, so that a later write changes the file's time for sure
# Offset of the write version in a database's header. "If the write version is greater than 2 then the database file must be
# treated as read-only": https://www.sqlite.org/fileformat2.html#file_format_version_numbers
WRITE_VERSION_OFFSET = 18
READ_ONLY_VERSION = b"\x03"


def copy_database(project: Project, folder: Path) -> Path:
    """Copy the project's database into an empty folder and return the copy, which cannot be written.

    The paths in it name the project's present state folder, also where its owner has moved it and has not used it since.

    Raises:
        InfrastructureError: there is no database, or somebody wrote to it all the time.
        OSError: it cannot be read.
    """
    copy = folder / "mlflow.db"
    _copy_files(project, copy)
    with closing(sqlite3.connect(copy)) as database:
        database.execute("PRAGMA journal_mode=delete")  # takes in what is still in the log
        relocate_paths(database, artifacts_folder(project))
    with copy.open("r+b") as stream:
        stream.seek(WRITE_VERSION_OFFSET)
        stream.write(READ_ONLY_VERSION)
    return copy


def _copy_files(project: Project, copy: Path) -> None:
    file, log = database_file(project), log_file(project)
    if not file.is_file():
        raise InfrastructureError(
            f"there is no MLflow database in {project.home} yet, and you may not make one there: its owner makes it with "
            "`ae run RECIPE`; or set AE_HOME to a state folder of your own, then type the same command again"
        )
    copied_log = copy.with_name(f"{copy.name}-wal")
    for _ in range(ATTEMPTS):
        before = fingerprint_database(project)
        if time.time_ns() - max(modified_at for modified_at, _ in before) > QUIET_NANOSECONDS:
            shutil.copyfile(file, copy)
            copied_log.unlink(missing_ok=True)
            if log.is_file():
                shutil.copyfile(log, copied_log)
            if fingerprint_database(project) == before:
                return
        time.sleep(0.1)
    raise InfrastructureError(
        f"MLflow's database {file} was written to all the time, and you may not write beside it to read it meanwhile: "
        "type the same command again"
    )
