"""MLflow's SQLite database, created atomically: the file exists only once it is complete."""

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

from aeops.files import atomic_path
from aeops.machine.lock import file_lock
from aeops.machine.sqlite import sqlite_uri
from aeops.project import Project

FileFingerprint = tuple[int, int]  # modification time in nanoseconds and size in bytes

DATABASE_LOCK = "mlflow"  # held while the database is created or its paths are repaired


def database_file(project: Project) -> Path:
    return project.mlflow / "mlflow.db"


def artifacts_folder(project: Project) -> Path:
    """Return the folder of all files that the project's own MLflow stores."""
    return project.mlflow / "artifacts"


def database_uri(project: Project) -> str:
    return sqlite_uri(database_file(project))


def log_file(project: Project) -> Path:
    """Return the file of SQLite's write-ahead log, which is there while a process has the database open."""
    return project.mlflow / "mlflow.db-wal"


def fingerprint_file(file: Path) -> FileFingerprint:
    """Return modification time and size of a file, which change when it is written; (0, 0) where there is none."""
    try:
        status = file.stat()
    except FileNotFoundError:
        return (0, 0)
    return status.st_mtime_ns, status.st_size


def fingerprint_database(project: Project) -> tuple[FileFingerprint, FileFingerprint]:
    """Return the fingerprints of the database and of its log: one of them changes when somebody writes to it."""
    return fingerprint_file(database_file(project)), fingerprint_file(log_file(project))


def prepare_database(project: Project) -> None:
    """Create the database if there is none; wait while another process creates it.

    Without this, the first processes that open MLflow create the tables at once, and crash. So one process creates them in a
    temporary file that is renamed when it is complete; a process that is killed before leaves no database.
    """
    file = database_file(project)
    if file.is_file():
        return
    with file_lock(project, DATABASE_LOCK):
        if not file.is_file():
            with atomic_path(file) as tmp_path:
                create_database(tmp_path, artifacts_folder(project))


def create_database(file: Path, artifacts: Path) -> None:
    """Create MLflow's tables in a file, with files of the experiment Default, which is hidden, in `artifacts`."""
    from mlflow.db import upgrade  # `mlflow db upgrade`
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # it logs two lines for every table
    upgrade.callback(sqlite_uri(file))
    tracking = SqlAlchemyStore(sqlite_uri(file), artifacts.as_uri())  # else MLflow puts Default in the current folder
    tracking.delete_experiment(SqlAlchemyStore.DEFAULT_EXPERIMENT_ID)  # each recipe has one of its own: this would stay empty
    tracking.engine.dispose()
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA journal_mode=wal")  # stored in the file; allows readers beside a writer
