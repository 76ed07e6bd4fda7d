"""MLflow's SQLite database, created atomically: the file exists only once it is complete."""

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

from aeops.files import atomic_path
from aeops.machine.lock import file_lock
from aeops.project import Project


def database_file(project: Project) -> Path:
    return project.mlflow / "mlflow.db"


def database_uri(project: Project) -> str:
    return f"sqlite:///{database_file(project)}"


def prepare_database(project: Project) -> None:
    """Create the database if there is none; wait while another process creates it.

    Without this, the first processes that open MLflow create the tables at once, and crash. So one process creates them in a
    temporary file that is renamed when it is complete; a process that is killed before leaves no database.
    """
    file = database_file(project)
    if file.is_file():
        return
    with file_lock(project, "mlflow"):
        if not file.is_file():
            with atomic_path(file) as tmp_path:
                create_database(tmp_path)


def create_database(file: Path) -> None:
    from mlflow.db import upgrade  # `mlflow db upgrade`

    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # it logs two lines for every table
    upgrade.callback(f"sqlite:///{file}")
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA journal_mode=wal")  # stored in the file; allows readers beside a writer
