"""Rows of files as columns by name: text files, Parquet, Arrow, workbooks and databases, one file or a folder of them.

What cannot be a row (another number of cells, more bytes than a cell may have) is left out by name, and the rest goes on.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from aeops.data.sources.table_columns import TableColumns, whole
from aeops.data.sources.table_text import read_text_rows
from aeops.errors import DataError
from aeops.kinds.decoding import DecodeError, decode_errors
from aeops.kinds.table_rows import columns_of_arrow
from aeops.kinds.unpacking import read_arrow_file
from aeops.recipe.table_sources import TableSource, table_format

MAX_FILE_BYTES = 16 * 2**30  # of a file; larger ones are split first
PART = re.compile(r"([^/=]+)=([^/]*)")  # of a path: a folder that holds the rows with one value of a column
MISSING_PART = "__HIVE_DEFAULT_PARTITION__"


def list_table_files(path: Path, name: str) -> dict[str, Path]:
    """Return the files of rows at a path, by their paths below it; of a folder those of the kind that most are of.

    Raises:
        DataError: there is none, or files of several kinds.
    """
    if path.is_file():
        return {path.name: path}
    found: dict[str, Path] = {}
    for file in sorted(path.rglob("*")):
        relative = file.relative_to(path).as_posix()
        hidden = any(part.startswith((".", "_")) for part in relative.split("/"))
        if not hidden and file.is_file() and not file.is_symlink() and table_format(file.name) not in (None, "archive"):
            found[relative] = file
    kinds = sorted({str(table_format(file)) for file in found})
    if not found:
        raise DataError(f"{name}: expected files of rows in the folder, such as .csv or .parquet, got none")
    if len(kinds) > 1:
        raise DataError(f"{name}: expected files of one kind in the folder, got {' and '.join(kinds)}")
    return found


def read_table_files(files: Mapping[str, Path], source: TableSource) -> TableColumns:
    """Read files of rows of one kind.

    Args:
        files: name -> file; a part of a name such as year=2026/ is a column.
        source: how they are to be read.

    Raises:
        DataError: a file cannot be read, or has other columns than the first.
    """
    parts = []
    for name, path in files.items():
        part = _read_file(name, path, source)
        for folder in name.split("/")[:-1]:
            match = PART.fullmatch(folder)
            if match is not None:
                key, value = map(unquote, match.groups())  # as Spark and Arrow write them: s%C3%BCd
                part.columns[key] = [None if value == MISSING_PART else value] * len(part)
        parts.append(part)
    if len(parts) == 1:
        return parts[0]
    return _join(parts, list(files))


def _join(parts: Sequence[TableColumns], names: Sequence[str]) -> TableColumns:
    columns: dict[str, Any] = {}
    set_aside: dict[str, str] = {}
    first = list(parts[0].columns)
    for part, name in zip(parts, names, strict=True):
        for place, reason in part.set_aside.items():
            set_aside[f"{name}: {place}"] = reason
        if sorted(part.columns) != sorted(first):
            differing = sorted(set(part.columns) ^ set(first))
            raise DataError(f"{name}: expected the columns of {names[0]}, but they differ in {', '.join(differing[:5])}")
    for column in first:
        cells = [part.columns[column] for part in parts]
        arrays = all(isinstance(one, np.ndarray) and one.dtype.kind == cells[0].dtype.kind for one in cells)
        columns[column] = np.concatenate(cells) if arrays else list(chain.from_iterable(cells))
    numbers = np.repeat(np.arange(len(parts)), list(map(len, parts)))
    rows = np.concatenate([part.origins[1] for part in parts])
    return TableColumns(columns, parts[0].from_text, (numbers, rows), names, set_aside, parts[0].nested)


def _read_file(name: str, path: Path, source: TableSource) -> TableColumns:
    readers: dict[str, Callable[[Path, TableSource], TableColumns]] = {
        "text": _read_text,
        "arrow": _read_arrow,
        "workbook": _read_workbook,
        "array": _read_array,
        "database": _read_database,
    }
    size = path.stat().st_size
    if not size:
        raise DataError(f"{name}: the file is empty")
    if size > MAX_FILE_BYTES:
        raise DataError(
            f"{name} has {size:,} bytes, expected at most {MAX_FILE_BYTES:,}: split it into several files in a folder"
        )
    kind = table_format(path.name)
    if kind not in readers:
        raise DataError(f"{name}: expected a text file (.csv), .parquet, .feather, .xlsx or .sqlite")
    try:
        with decode_errors():
            return readers[kind](path, source)
    except DecodeError as error:
        raise DataError(f"{name}: not readable as {kind} ({error}): is it whole, and what its name says?") from error
    except DataError as error:
        if str(error).startswith(f"{path.name}: "):
            raise
        raise DataError(f"{name}: {error}") from error


def _read_text(path: Path, source: TableSource) -> TableColumns:
    columns, rows, set_aside = read_text_rows(path, source.text)
    return TableColumns(columns, True, (np.zeros(len(rows), np.int64), rows), [path.name], set_aside)


def _read_arrow(path: Path, source: TableSource) -> TableColumns:
    import pyarrow as pa
    import pyarrow.feather as pf

    if path.name.lower().endswith((".parquet", ".pq")):
        table = read_arrow_file(path)
    elif path.name.lower().endswith(".feather"):
        table = pf.read_table(path)
    else:
        with pa.memory_map(str(path)) as stream:
            try:
                table = pa.ipc.open_file(stream).read_all()
            except pa.ArrowInvalid:
                table = pa.ipc.open_stream(path.open("rb")).read_all()
    table, nested = without_lists(table)
    columns = whole(columns_of_arrow(table), table.num_rows, path.name)
    columns.nested = nested
    return columns


def without_lists(table: Any) -> tuple[Any, list[str]]:
    """Return an Arrow table without the columns that hold lists, maps or unions, and the names of these.

    A struct's fields are columns of their own, called COLUMN.FIELD.
    """
    import pyarrow as pa

    while any(map(pa.types.is_struct, table.schema.types)):
        table = table.flatten()
    nested = []
    for column in table.schema:
        if pa.types.is_nested(column.type) or pa.types.is_union(column.type):
            nested.append(column.name)
    return table.drop_columns(nested) if nested else table, nested


def _read_array(path: Path, source: TableSource) -> TableColumns:
    """Read rows of numbers, called c0, c1, ..., or of named fields; pickled objects are refused by numpy."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.dtype.names is None:
        if array.ndim != 2 or array.dtype.kind not in "biuf":
            raise DataError(f"expected rows of numbers (n, columns) or of named fields, got {array.shape} of {array.dtype}")
        columns: dict[str, Any] = {f"c{place}": np.array(array[:, place], np.float64) for place in range(array.shape[1])}
        return whole(columns, len(array), path.name)
    if array.ndim != 1:
        raise DataError(f"expected a list of rows with named fields, got shape {array.shape}")
    columns = {name: _field_cells(array[name], name) for name in array.dtype.names}
    return whole(columns, len(array), path.name)


def _field_cells(field: np.ndarray, name: str) -> Any:
    if field.ndim != 1:
        raise DataError(f"the field {name} holds several values a row: write a field for each of them")
    if field.dtype.kind == "S":
        return [cell.decode("utf-8", errors="replace") for cell in field.tolist()]
    if field.dtype.kind in "Ub":
        return field.tolist()
    if field.dtype.kind == "M":
        return np.array(field, "datetime64[us]")
    if field.dtype.kind not in "iuf":
        raise DataError(f"the field {name} is of {field.dtype}: expected numbers, texts, booleans or dates")
    return np.array(field, np.float64)


def _read_workbook(path: Path, source: TableSource) -> TableColumns:
    from aeops.data.sources.table_workbook import read_workbook

    return read_workbook(path, source.table)


def _read_database(path: Path, source: TableSource) -> TableColumns:
    from aeops.data.sources.table_database import read_database

    return read_database(path, source.table, source.query)
