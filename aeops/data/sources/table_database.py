"""Rows of a table or a query of an SQLite file, which is opened for reading alone."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aeops.data.sources.table_columns import TableColumns, whole
from aeops.errors import DataError
from aeops.kinds.unpacking import fetch_rows


def database_tables(path: Path) -> list[str]:
    """Return the names of tables and views.

    Raises:
        DataError: it is no SQLite file.
    """
    with closing(_open(path)) as connection:
        try:
            query = "select name from sqlite_master where type in ('table', 'view') and name not like 'sqlite_%' order by name"
            return [name for (name,) in connection.execute(query)]
        except sqlite3.DatabaseError as error:
            raise DataError(f"no readable SQLite file ({error})") from error


def read_database(path: Path, table: str | None, query: str | None) -> TableColumns:
    """Read a table or the result of a query.

    Raises:
        DataError: no such table, several where none is named, or a query that fails or would write.
    """
    if query is None:
        names = database_tables(path)
        chosen = table if table is not None else names[0] if len(names) == 1 else None
        if chosen not in names:
            raise DataError(f"expected a table out of {', '.join(names) or 'none'} (data.source.table), got {table or 'no name'}")
        query = f'select * from "{str(chosen).replace(chr(34), chr(34) * 2)}"'
    with closing(_open(path)) as connection:
        try:
            cursor = connection.execute(query)
            if cursor.description is None:
                raise DataError("the query returns no rows: expected a select")
            names = [column[0] for column in cursor.description]
            return columns_of_rows(names, fetch_rows(cursor.fetchmany, len(names)), path.name)
        except sqlite3.Error as error:
            raise DataError(f"the query failed ({error}): {query[:200]}") from error


def columns_of_rows(names: Sequence[str], rows: Sequence[Sequence[Any]], origin: str) -> TableColumns:
    """Return the rows of a query as columns; bytes and other objects are read as texts where they are UTF-8.

    Raises:
        DataError: no rows, or columns of one name.
    """
    if len(set(names)) < len(names):
        raise DataError(f"expected columns of different names, got {', '.join(names)}: rename them by `as` in the query")
    if not rows:
        raise DataError("expected rows, got none")
    return whole(cells_by_column(names, rows), len(rows), origin)


def cells_by_column(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, list[Any]]:
    """Return the rows of a query as columns of cells that the parser of cells takes."""
    columns = {}
    for place, name in enumerate(names):
        columns[name] = [plain_cell(row[place]) for row in rows]
    return columns


def plain_cell(cell: Any) -> Any:
    """Return a cell of a database as the parser of cells takes it."""
    from decimal import Decimal

    if isinstance(cell, Decimal):
        return float(cell)
    if isinstance(cell, bytes):
        return cell.decode("utf-8", errors="replace")
    return cell


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True)
