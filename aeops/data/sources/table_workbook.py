"""Rows of a sheet of an .xlsx workbook, whose first row names the columns. Formulas are read as the values that were saved."""

import datetime
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ae_models.names import repeated_names
from aeops.data.sources.table_columns import TableColumns, whole
from aeops.errors import DataError

MAX_UNPACKED_BYTES = 2 * 2**30  # of all files in a workbook, which is a zip archive


def sheet_names(path: Path) -> list[str]:
    """Return the names of the sheets that hold something."""
    from openpyxl import load_workbook

    workbook = load_workbook(path, read_only=True, data_only=True)
    try:
        names = []
        for sheet in workbook.worksheets:
            if next(sheet.iter_rows(max_row=1, values_only=True), None):
                names.append(sheet.title)
        return names
    finally:
        workbook.close()


def read_workbook(path: Path, table: str | None) -> TableColumns:
    """Read a sheet.

    Raises:
        DataError: no such sheet, several where none is named, or a header that names no columns.
    """
    from openpyxl import load_workbook

    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > MAX_UNPACKED_BYTES:
        raise DataError(f"it unpacks to {size:,} bytes, expected at most {MAX_UNPACKED_BYTES:,}: write CSV or Parquet of it")
    names = sheet_names(path)
    chosen = table if table is not None else names[0] if len(names) == 1 else None
    if chosen not in names:
        raise DataError(f"expected a sheet out of {', '.join(names) or 'none'} (data.source.table), got {table or 'no name'}")
    workbook = load_workbook(path, read_only=True, data_only=True)
    try:
        rows = list(filter(_holds_something, workbook[chosen].iter_rows(values_only=True)))
    finally:
        workbook.close()
    if len(rows) < 2:
        raise DataError(f"the sheet {chosen} has no rows below its header")
    header = list(map(_column_name, rows[0]))
    named = list(filter(None, header))
    if not named or repeated_names(named):
        raise DataError(f"the first row of the sheet {chosen}: expected different names of columns, got {', '.join(header)}")
    columns = {}
    for place, name in enumerate(header):
        if name:
            columns[name] = [_plain_cell(row, place) for row in rows[1:]]
    return whole(columns, len(rows) - 1, path.name)


def _holds_something(row: Sequence[Any]) -> bool:
    return any(cell is not None for cell in row)


def _column_name(cell: Any) -> str:
    """Return the name of the column below a cell of the first row; empty where the cell is."""
    return "" if cell is None else str(cell).strip()


def _plain_cell(row: Sequence[Any], place: int) -> Any:
    """Return the cell as the parser of cells takes it, times of a day as seconds; None where the row ends before."""
    if place >= len(row):
        return None
    cell = row[place]
    if isinstance(cell, datetime.time):
        cell = datetime.datetime.combine(datetime.date.min, cell) - datetime.datetime.min
    return cell.total_seconds() if isinstance(cell, datetime.timedelta) else cell
