"""MLflow's SQLite database, created atomically: the file exists only once it is complete."""

import fcntl
import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

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
            file.parent.mkdir(parents=True, exist_ok=True)
            create_database(file)


def create_database(file: Path) -> None:
    from mlflow.db import upgrade  # `mlflow db upgrade`

    tmp_path = file.with_suffix(".aside")
    tmp_path.unlink(missing_ok=True)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # it logs two lines for every table
    upgrade.callback(f"sqlite:///{tmp_path}")
    with closing(sqlite3.connect(tmp_path)) as database:
        database.execute("PRAGMA journal_mode=wal")  # stored in the file; allows readers beside a writer
    os.replace(tmp_path, file)


@contextmanager
def file_lock(project: Project, name: str) -> Iterator[None]:
    """Wait for, then hold, a lock between processes that the kernel releases when its holder dies."""
    project.locks.mkdir(parents=True, exist_ok=True)
    with (project.locks / f"{name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
