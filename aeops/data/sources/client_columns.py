"""Columns of a file that a client has, in the dialect of the recipe's own files or in the standard one."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aeops.data.sources.table_text import read_text_rows
from aeops.errors import DataError
from aeops.kinds.decoding import DecodeError, decode_errors
from aeops.recipe.table_sources import TextFormat


@dataclass(frozen=True)
class ClientColumns:
    """Cells by the names of the columns.

    Attributes:
        columns: name -> cells.
        from_text: whether all cells are texts.
    """

    columns: dict[str, Any]
    from_text: bool


def read_client_text(path: Path, dialect: TextFormat, needed: Collection[str]) -> tuple[dict[str, Any], TextFormat | None]:
    """Read a text file in a dialect, with or without its lines before the header, or in the standard form.

    The reading that finds most of the columns is taken, and of equals the first. Lines behind the rows are left out where they
    are no rows: an excerpt of an export may have none.

    Args:
        path: the file.
        dialect: of the recipe's own files.
        needed: names of the columns that a model takes.

    Returns:
        Cells as texts by column, and the dialect that they are in; None: the standard form.

    Raises:
        DataError: it cannot be read in any of them, or has a row of another length; the reason is that of the dialect.
    """
    best: tuple[int, dict[str, Any], TextFormat | None] | None = None
    first_error: DataError | None = None
    dialects = [dialect, None] if not dialect.skip_lines else [dialect, replace(dialect, skip_lines=0), None]
    for candidate in dialects:
        try:
            columns = _read_excerpt(path, candidate)
        except DataError as error:
            first_error = first_error or error
            continue
        found = len(columns.keys() & set(needed))
        if best is None or found > best[0]:
            best = (found, columns, candidate)
    if best is None or (not best[0] and first_error is not None):
        assert first_error is not None, "a reading that failed has its reason"
        raise first_error
    return best[1], best[2]


def _read_excerpt(path: Path, dialect: TextFormat | None) -> dict[str, Any]:
    """Return the cells of a text file by column.

    Raises:
        DataError: it is none, or has a row of another length.
    """
    try:
        with decode_errors():
            columns, _, problems = read_text_rows(path, dialect, is_excerpt=True)
    except DecodeError as error:
        raise DataError(f"{path}: not readable as rows of text ({error})") from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    for row, reason in problems.items():
        more = f" (and {len(problems) - 1:,} other rows)" if len(problems) > 1 else ""
        raise DataError(f"{path}: {row}: {reason}{more}")
    return columns
