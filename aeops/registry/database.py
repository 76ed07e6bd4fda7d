"""MLflow's SQLite database, made once: whoever finds the file finds it whole."""

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
    """Makes the database if there is none; waits while another process does.

    MLflow's first users make the tables each for themselves, and then crash on each other's. So one process makes them,
    in a file that takes its name when it is whole: one killed on the way leaves nothing that counts.
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

    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # two lines on every table made
    upgrade.callback(f"sqlite:///{file}")
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA journal_mode=wal")  # stays with the file: readers and a writer at once
