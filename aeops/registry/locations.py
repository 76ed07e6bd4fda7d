"""Absolute paths in MLflow's database, and their repair in a state folder that was moved, copied or restored from a backup.

MLflow stores where the files of each experiment, run, model and version lie. In a copy these still name the original: what the
copy reads would be the original's files, and what it writes would end among them.
"""

import re
import shlex
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psutil

from aeops.errors import InfrastructureError
from aeops.files import sync_tree
from aeops.machine.lock import file_lock, runs_in_progress
from aeops.project import Project
from aeops.registry.database import DATABASE_LOCK, artifacts_folder, database_file

LOCATION_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
LOCAL_LOCATION = re.compile(r"(?:file:|/)")  # what lies in an object store or behind a server does not move with the folder
HOME_PART = re.compile(r"(?P<home>.*)/mlflow/artifacts(?P<rest>/.*)?", re.DOTALL)
DEFAULT_EXPERIMENT = re.compile(r"/.*/mlruns/0")  # older databases have it in the folder in which they were created


@dataclass(frozen=True)
class Relocation:
    """A repair of MLflow's paths.

    Attributes:
        old_home: the state folder that most of them named.
        count: paths that were replaced.
        missing_models: models whose files are not in the present state folder.
    """

    old_home: Path
    count: int
    missing_models: int

    def describe(self, project: Project) -> str:
        """Return the repair in one sentence, and what to type where files are missing."""
        message = f"the state folder was {self.old_home} and is {project.home}: repaired {self.count} paths in MLflow's database"
        if not self.missing_models:
            return message
        old_folder, new_folder = self.old_home / "mlflow" / "artifacts", artifacts_folder(project)
        return (
            f"{message}. The files of {self.missing_models} models are missing in it: where the old folder still has them, type "
            f"`cp -a {shlex.quote(str(old_folder))}/. {shlex.quote(str(new_folder))}/`"
        )


@dataclass(frozen=True)
class _Replacement:
    """A value of a column that has to be replaced."""

    table: str
    column: str
    row: int
    old_value: str
    new_value: str


def relocate_database(project: Project) -> Relocation | None:
    """Let MLflow's paths name the present state folder; return the repair, or None where they do already.

    Raises:
        InfrastructureError: a run of another process is using the database, perhaps by the state folder's other path.
    """
    with closing(sqlite3.connect(database_file(project), timeout=60)) as database:
        if not any(_find_replacements(database, artifacts_folder(project))):
            return None
        _require_no_run(project)
        with file_lock(project, DATABASE_LOCK):
            return relocate_paths(database, artifacts_folder(project))


def relocate_paths(database: sqlite3.Connection, artifacts: Path) -> Relocation | None:
    """Replace the paths in one transaction.

    Args:
        database: MLflow's.
        artifacts: the folder `mlflow/artifacts` that they are to name.
    """
    with database:
        database.execute("BEGIN IMMEDIATE")
        replacements = list(_find_replacements(database, artifacts))
        for replacement in replacements:
            database.execute(
                f"UPDATE {replacement.table} SET {replacement.column} = ? WHERE rowid = ?",
                (replacement.new_value, replacement.row),
            )
    if not replacements:
        return None
    homes = Counter(_home_of(replacement.old_value) for replacement in replacements)
    missing_models = 0
    for replacement in replacements:
        if replacement.table == "logged_models" and not local_path(replacement.new_value).is_dir():
            missing_models += 1
    return Relocation(homes.most_common(1)[0][0], len(replacements), missing_models)


def relocated_value(value: str, artifacts: Path) -> str:
    """Return the location with the present folder `mlflow/artifacts` in it; as it is where it is no local one of a state folder.

    >>> relocated_value("file:///old/.ae/mlflow/artifacts/digits/4d96/artifacts", Path("/new/.ae/mlflow/artifacts"))
    'file:///new/.ae/mlflow/artifacts/digits/4d96/artifacts'
    >>> relocated_value("s3://models/mlflow/artifacts/digits", Path("/new/.ae/mlflow/artifacts"))
    's3://models/mlflow/artifacts/digits'
    """
    if not LOCAL_LOCATION.match(value):
        return value
    base = str(artifacts)
    if value.startswith("file:"):
        base = artifacts.as_uri()
    if match := HOME_PART.fullmatch(value):
        return base + (match["rest"] or "")
    if DEFAULT_EXPERIMENT.fullmatch(value):
        return f"{base}/0"
    return value


def local_path(location: str) -> Path:
    """Return the path of a local location: a `file:` address or a path."""
    if location.startswith("file:"):
        return Path(unquote(urlsplit(location).path))
    return Path(location)


def is_local_location(location: str) -> bool:
    return LOCAL_LOCATION.match(location) is not None


def sync_location(project: Project, location: str, since: float) -> None:
    """Put on the disk what MLflow has written at a location, which it does not do itself; one on a server is that server's duty.

    Args:
        since: seconds since the epoch, before the first of these writes.
    """
    if is_local_location(location):
        sync_tree(local_path(location), project.home, since)


def _find_replacements(database: sqlite3.Connection, artifacts: Path) -> Iterator[_Replacement]:
    for table, column in LOCATION_COLUMNS:
        if not _has_column(database, table, column):
            continue  # a database of an older MLflow, which its migration is going to complete
        query = (
            f"SELECT rowid, {column} FROM {table} WHERE {column} IS NOT NULL "
            f"AND substr({column}, 1, length(:uri)) <> :uri AND substr({column}, 1, length(:path)) <> :path"
        )
        prefixes = {"uri": f"{artifacts.as_uri()}/", "path": f"{artifacts}/"}
        for row, old_value in database.execute(query, prefixes):
            new_value = relocated_value(old_value, artifacts)
            if new_value != old_value:
                yield _Replacement(table, column, row, old_value, new_value)


def _has_column(database: sqlite3.Connection, table: str, column: str) -> bool:
    query = "SELECT count(*) FROM pragma_table_info(?) WHERE name = ?"
    return bool(database.execute(query, (table, column)).fetchone()[0])


def _home_of(location: str) -> Path:
    match = HOME_PART.fullmatch(location)
    if match is None:  # of the experiment Default: the folder with mlruns/
        return local_path(location).parent.parent
    return local_path(match["home"])


def _require_no_run(project: Project) -> None:
    """Refuse to change paths under a run: it may use the same folder by another path, as a container does."""
    parents = {process.pid for process in psutil.Process().parents()}  # of a child process of the run itself
    holder = next((run for run in runs_in_progress(project) if run.get("pid") not in parents), None)
    if holder is None:
        return
    raise InfrastructureError(
        f"MLflow's database in {project.home} names another state folder, and `{holder.get('purpose')}` (process "
        f"{holder.get('pid')}) is in progress there: wait for it to end, then type the same command again"
    )
