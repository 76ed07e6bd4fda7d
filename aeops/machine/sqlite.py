"""Addresses of SQLite databases in folders of any name."""

import os
import re
from pathlib import Path
from urllib.parse import quote

_PLAIN_PATH = re.compile(r"[\w ./+-]+", re.ASCII)  # means the same in an address


def sqlite_uri(file: Path, driver: str = "pysqlite") -> str:
    """Return the address of a database as SQLAlchemy takes it, whatever characters its path has.

    >>> sqlite_uri(Path("/state/mlflow.db"))
    'sqlite:////state/mlflow.db'

    The other form names its driver: MLflow would make folders of an address that begins with `sqlite:///`.

    >>> sqlite_uri(Path("/a?b#c/mlflow.db"))
    'sqlite+pysqlite:///file:/a%3Fb%23c/mlflow.db?uri=true'
    """
    if _PLAIN_PATH.fullmatch(str(file)):
        return f"sqlite:///{file}"
    return f"sqlite+{driver}:///file:{quote(os.fsencode(file))}?uri=true"


def read_only_uri(file: Path) -> str:
    """Return the address by which `sqlite3.connect(..., uri=True)` opens a database for reading alone."""
    return f"file:{quote(os.fsencode(file))}?mode=ro"
