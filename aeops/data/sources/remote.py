"""Fetches what a source's address names: files of an object store or a web server, or the rows of a database.

What comes goes to the state folder, sources/remote/<hash of the address>, whole or not at all, and is read from there as any
other file. It is fetched each time a run asks whether the source has changed, but for files of which the server says that they
have not. Credentials are those that the libraries read from the environment (AWS_*, GOOGLE_APPLICATION_CREDENTIALS); of a
database PGPASSWORD or AE_SQL_PASSWORD. They are never printed and never stored.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aeops.data.sources.server_errors import server_errors
from aeops.data.sources.stored_files import fetch_files
from aeops.errors import DataError, UsageError
from aeops.files import atomic_folder, data_sha256
from aeops.kinds.unpacking import fetch_rows
from aeops.recipe.addresses import MARK, is_database_address

if TYPE_CHECKING:
    import pandas as pd

ROWS_FILE = "rows.parquet"
PASSWORD_VARIABLES = ("AE_SQL_PASSWORD", "PGPASSWORD")


def fetch_address(address: str, home: Path, table: str | None = None, query: str | None = None) -> Path:
    """Fetch what lies at an address; return the file, or the folder that holds the files.

    Args:
        address: of a file or folder, or of a database.
        home: the state folder.
        table: of a database.
        query: of a database.

    Raises:
        UsageError: a library is missing, or neither table nor query is named.
        DataError: nothing lies there, or more than is allowed.
        TransientError: the server cannot be reached, or refuses.
    """
    key = data_sha256("\n".join([address, table or "", query or ""]))[:16]
    folder = home / "sources" / "remote" / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    if is_database_address(address):
        _fetch_rows(address, folder, table, query)
        return folder / ROWS_FILE
    name = fetch_files(address, folder)
    return folder / name if name is not None else folder


# ---------------------------------------------------------------- databases


def _fetch_rows(address: str, folder: Path, table: str | None, query: str | None) -> None:
    """Write the rows of a table or query as Parquet; sorted, as a server returns them in any order."""
    from aeops.data.array_files import write_parquet

    scheme = address.partition(MARK)[0]
    with server_errors(scheme):
        frame = read_rows(address, table, query)
        order = frame.astype(str).agg("\x1f".join, axis=1).sort_values(kind="stable").index
        with atomic_folder(folder) as scratch:
            write_parquet(scratch / ROWS_FILE, frame.loc[order].reset_index(drop=True))


def read_rows(address: str, table: str | None, query: str | None) -> "pd.DataFrame":
    """Return the rows of a table or query of a database; the transaction is for reading alone where the server knows that.

    Raises:
        UsageError: neither is named, and there are several tables.
        DataError: no such table, or no rows.
    """
    import pandas as pd
    import sqlalchemy as sa

    from aeops.data.sources.table_database import cells_by_column

    engine = _engine(address)
    try:
        statement = sa.text(query) if query is not None else _select_all(engine, table)
        with engine.connect() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(sa.text("set transaction read only"))
            try:
                names, rows = _execute(connection, statement)
            except sa.exc.ProgrammingError as error:
                raise DataError(f"the database refuses the query: {_first_line(error)}") from None
            except sa.exc.OperationalError as error:
                if engine.dialect.name != "sqlite":
                    raise  # of a server: it has gone
                raise DataError(f"the rows cannot be read: {_first_line(error)}") from None
            connection.rollback()
    finally:
        engine.dispose()
    if not rows:
        raise DataError("expected rows, got none")
    if len(set(names)) < len(names):
        raise DataError(f"expected columns of different names, got {', '.join(names)}: rename them by `as` in the query")
    return pd.DataFrame(cells_by_column(names, rows))


def _execute(connection: Any, statement: Any) -> tuple[list[str], list[Any]]:
    """Return the names of the columns and the rows of a statement."""
    result = connection.execute(statement)
    if not result.returns_rows:
        raise DataError("the query returns no rows: expected a select")
    names = list(result.keys())
    return names, fetch_rows(result.fetchmany, len(names))


def _engine(address: str) -> Any:
    """Return the engine of a database, with the password of the environment."""
    import sqlalchemy as sa

    url = sa.make_url(address)
    password = next(filter(None, map(os.environ.get, PASSWORD_VARIABLES)), None)
    if password is not None and url.get_backend_name() != "sqlite":
        url = url.set(password=password)
    return sa.create_engine(url)


def _select_all(engine: Any, table: str | None) -> Any:
    import sqlalchemy as sa

    if table is None:
        return sa.select(sa.text("*")).select_from(sa.table(_only_name(engine)))
    names: Sequence[str] = sorted([*sa.inspect(engine).get_table_names(), *sa.inspect(engine).get_view_names()])
    schema, _, plain = table.rpartition(".")
    if not schema and table not in names:
        raise DataError(f"expected a table out of {', '.join(names[:20])} (data.source.table), got {table}")
    return sa.select(sa.text("*")).select_from(sa.table(plain, schema=schema or None))


def only_table(address: str) -> str:
    """Return the name of the database's only table, where it has one."""

    with server_errors(address.partition(MARK)[0]):
        engine = _engine(address)
        try:
            return str(_only_name(engine))
        finally:
            engine.dispose()


def _only_name(engine: Any) -> str:
    import sqlalchemy as sa

    names = sorted([*sa.inspect(engine).get_table_names(), *sa.inspect(engine).get_view_names()])
    if len(names) != 1:
        raise UsageError(f"the database holds {', '.join(names[:20]) or 'no table'}: say which by --table NAME or --query SQL")
    return str(names[0])


def _first_line(error: Exception) -> str:
    original = getattr(error, "orig", error)
    arguments = getattr(original, "args", ())
    if arguments and isinstance(arguments[0], dict):  # pg8000's fields of the server's answer
        return str(arguments[0].get("M", "")) or type(original).__name__
    return str(original).splitlines()[0][:200] if str(original) else type(original).__name__
