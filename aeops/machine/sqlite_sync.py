"""MLflow's and Prefect's SQLite databases: a commit is on the disk before anything relies on it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy.pool import ConnectionPoolEntry

_IS_SET = "synchronous=FULL"  # in a connection's `info`


def sync_every_commit() -> None:
    """Let each of this process's connections to SQLite by SQLAlchemy sync every commit, with `PRAGMA synchronous=FULL`.

    Prefect sets NORMAL, by which a power failure undoes the last commits; MLflow leaves it to how SQLite was compiled. It is a
    setting of each connection, not of the file.
    """
    from sqlalchemy import event
    from sqlalchemy.pool import Pool

    if not event.contains(Pool, "checkout", _set_synchronous):  # "connect" would come before Prefect's own setting
        event.listen(Pool, "checkout", _set_synchronous)


def _set_synchronous(connection: Any, entry: "ConnectionPoolEntry", _proxy: Any) -> None:
    if "sqlite" not in type(connection).__module__ or _IS_SET in entry.info:
        return
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()
    entry.info[_IS_SET] = True
