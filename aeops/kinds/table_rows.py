"""Rows of a table, by the names of their columns: from objects, columns and files to an array, and to a dataset's rows.

A model's rows are float64 (n, columns), as `ae_models.spec.ColumnSpec` says. A dataset's rows are structured, (n,) with a field a
column, as `aeops.kinds.table_cells` parses cells; what is not of its column's type stands as text in the field `MISTYPED`.

What is refused of a batch by name: a missing column, and a cell of another type. Further columns are ignored, and their order
does not matter.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from ae_models.mappings import map_values
from ae_models.names import names_not_in, names_of, repeated_names
from ae_models.spec import CATEGORY, ColumnSpec, join_names, suggest_match
from aeops.errors import DataError, UsageError
from aeops.kinds.decoding import DecodeError, decode_errors, read_file_content
from aeops.kinds.samples import SampleSpec
from aeops.kinds.table_cells import CATEGORY_BYTES, EXPECTED, ParsedColumn, codes_of, holds_texts_alone, parse_column
from aeops.kinds.unpacking import UnpackedSizeError, read_arrow_file, read_gzip

CSV_SUFFIXES, PARQUET_SUFFIX = (".csv", ".csv.gz"), ".parquet"
MISTYPED = "(mistyped)"  # field of a dataset's rows; no column of a recipe may have this name
MISTYPED_BYTES = 200
NAMED_COLUMNS = 8  # that a message names


def column_specs(spec: SampleSpec) -> list[ColumnSpec]:
    """Return the columns of a model."""
    return [column.spec for column in spec.columns]


def require_columns(found: Sequence[str], columns: Sequence[ColumnSpec], what: str = "rows") -> None:
    """Raise DataError where a column is missing."""
    missing = names_not_in(names_of(columns), found)
    if not missing:
        return
    hint = suggest_match(missing[0], names_not_in(found, names_of(columns)))
    named_missing, named_found = join_names(missing[:NAMED_COLUMNS]), join_names(list(map(str, found))[:NAMED_COLUMNS])
    raise DataError(f"expected {what} with the column {named_missing}, got the columns {named_found or 'none'}{hint}")


def require_header_and_row(text: bytes) -> None:
    """Raise DataError where pasted CSV is one line, which pyarrow's message would not say.

    Args:
        text: without white space at its start.
    """
    if len(text.rstrip().splitlines()) < 2:
        raise DataError("expected a row as a JSON object, or CSV with a header line and a row below it, got one line")


def rows_of_columns(
    columns: Mapping[str, Any], specs: Sequence[ColumnSpec], from_text: bool, from_file: bool = False
) -> np.ndarray:
    """Return columns by name as a model's rows, float64 (n, columns).

    Args:
        columns: name -> cells; further names are ignored.
        specs: of the model's columns.
        from_text: whether all cells are texts, as in CSV.
        from_file: whether a column may hold its numbers as texts, as those of files do.

    Raises:
        DataError: no rows, a missing column, or a cell that is not of its column's type.
    """
    require_columns(list(columns), specs)
    parsed = {}
    for spec in specs:
        cells = columns[spec.name]
        parsed[spec.name] = parse_column(spec, cells, from_text or (from_file and holds_texts_alone(spec, cells)))
    require_typed(parsed, specs)
    if not len(parsed[specs[0].name].values):
        raise DataError("expected at least one sample, got none")
    return _stack_columns(map_values(attrgetter("values"), parsed), specs)


def require_typed(parsed: Mapping[str, ParsedColumn], specs: Sequence[ColumnSpec]) -> None:
    """Raise DataError where a cell is not of its column's type."""
    for spec in specs:
        mistyped = parsed[spec.name].mistyped
        if mistyped:
            row = min(mistyped)
            more = f" (and in {len(mistyped) - 1:,} other rows)" if len(mistyped) > 1 else ""
            raise DataError(f"row {row}, column {spec.name}: expected {EXPECTED[spec.type]}, got {mistyped[row]}{more}")


def _stack_columns(columns: Mapping[str, np.ndarray] | np.ndarray, specs: Sequence[ColumnSpec]) -> np.ndarray:
    """Return parsed columns, by name or as the fields of a dataset's rows, as float64 (n, columns)."""
    return np.stack([_to_numbers(spec, columns[spec.name]) for spec in specs], axis=1)


def _to_numbers(spec: ColumnSpec, values: np.ndarray) -> np.ndarray:
    return codes_of(values, spec.categories) if spec.type == CATEGORY else values


def columns_of_objects(inputs: Any, specs: Sequence[ColumnSpec]) -> dict[str, list[Any]]:
    """Return parsed JSON, an object or a list of objects, as columns by name; a key that an object lacks is a missing value.

    Raises:
        DataError: something else; or a column that no object has.
    """
    objects = [inputs] if isinstance(inputs, dict) else inputs
    if not isinstance(objects, list) or not objects or not all(isinstance(row, dict) for row in objects):
        example = ", ".join(f'"{spec.name}": ...' for spec in specs[:2])
        raise DataError(f"expected objects by the names of the columns, {{{example}}}, one or a list of them, got something else")
    found = list(dict.fromkeys(chain.from_iterable(objects)))
    require_columns(found, specs)
    columns = {}
    for name in names_of(specs):
        columns[name] = [row.get(name) for row in objects]
    return columns


def columns_of_frame(frame: Any, specs: Sequence[ColumnSpec]) -> dict[str, Any]:
    """Return the columns of a frame of pandas by name; numbers, booleans and dates as arrays, all others as lists of cells."""
    require_columns(list(map(str, frame.columns)), specs)
    columns: dict[str, Any] = {}
    for spec in specs:
        columns[spec.name] = cells_of_frame(frame[spec.name])
    return columns


def cells_of_frame(values: Any) -> Any:
    """Return a column of pandas: numbers, booleans and dates as an array, all others as a list of cells."""
    kind = getattr(values.dtype, "kind", "O")
    is_plain = kind in "biufM" and not hasattr(values.dtype, "na_value") and getattr(values.dtype, "tz", None) is None
    return values.to_numpy() if is_plain else list(map(_plain_cell, values.tolist()))


def _plain_cell(cell: Any) -> Any:
    """Return None for a missing cell of pandas, whatever stands for it; another cell as it is."""
    if isinstance(cell, str | bool | int):
        return cell
    return None if cell is None or cell != cell or type(cell).__name__ in ("NAType", "NaTType") else cell


# ---------------------------------------------------------------- files


def read_columns_file(path: Path, name: str) -> tuple[dict[str, Any], bool]:
    """Read a CSV or Parquet file.

    Args:
        path: the file.
        name: of it, for messages.

    Returns:
        Cells by the names of the columns, and whether all of them are texts.

    Raises:
        UsageError: there is no such file.
        DataError: it cannot be read.
    """
    expected = f"expected a {', '.join(CSV_SUFFIXES)} or {PARQUET_SUFFIX} file by the names of the columns"
    if path.is_dir():
        raise DataError(f"{expected}, got the folder {name}")
    if not path.is_file():
        raise UsageError(f"no file {name}: {expected}")
    is_csv = name.lower().endswith(CSV_SUFFIXES)
    if not is_csv and not name.lower().endswith(PARQUET_SUFFIX):
        raise DataError(f"{name}: {expected}")
    try:
        with decode_errors():
            if is_csv:
                is_packed = name.lower().endswith(".gz")
                return read_csv_columns(read_gzip(path) if is_packed else read_file_content(path)), True
            return columns_of_arrow(read_arrow_file(path)), False
    except DecodeError as error:
        raise DataError(f"{name}: not readable as {'CSV in UTF-8' if is_csv else 'Parquet'} ({error}): write it again") from error
    except UnpackedSizeError as error:
        raise DataError(f"{name}: {error}") from error


def read_csv_columns(content: bytes) -> dict[str, Any]:
    """Return the columns of CSV in UTF-8 with a header line, each cell as text; raise ValueError where it is none."""
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    text = content.decode("utf-8-sig")
    names = next(csv.reader(io.StringIO(text)), [])
    if len(set(names)) < len(names):
        raise ValueError(f"expected columns of different names, got {join_names(names)}")
    table = pa_csv.read_csv(
        io.BytesIO(text.encode()),
        parse_options=pa_csv.ParseOptions(newlines_in_values=True),
        convert_options=pa_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
    )
    return {name: np.array(table[name].to_pylist(), dtype=str) for name in names}


def columns_of_arrow(table: Any) -> dict[str, Any]:
    """Return the columns of an Arrow table: numbers and dates as arrays, all others as lists of cells.

    Lengths of time and times of a day are numbers of seconds. A struct's fields are columns of their own, called COLUMN.FIELD.

    Raises:
        DataError: two columns of one name.
    """
    import pyarrow as pa

    while any(map(pa.types.is_struct, table.schema.types)):
        table = table.flatten()
    repeated = repeated_names(table.column_names)
    if repeated:
        raise DataError(f"expected columns of different names, got {join_names(sorted(repeated))} twice")
    columns: dict[str, Any] = {}
    for name in table.column_names:
        values, kind = table[name], table[name].type
        if pa.types.is_dictionary(kind):
            values, kind = values.cast(kind.value_type), kind.value_type
        if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            columns[name] = values.cast(pa.float64(), safe=False).to_numpy()
        elif pa.types.is_timestamp(kind) or pa.types.is_date(kind):
            columns[name] = values.cast(pa.timestamp("us"), safe=False).to_numpy()
        elif pa.types.is_duration(kind) or pa.types.is_time(kind):
            columns[name] = _seconds(values)
        elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            columns[name] = list(map(_decoded_cell, values.to_pylist()))
        else:
            columns[name] = values.to_pylist()
    return columns


def _seconds(values: Any) -> np.ndarray:
    """Return an Arrow column of lengths of time, or of times of a day, as seconds, float64; NaN where one is missing."""
    import pyarrow as pa

    unit = pa.duration("us") if pa.types.is_duration(values.type) else pa.time64("us")
    microseconds = values.cast(unit, safe=False).cast(pa.int64()).cast(pa.float64(), safe=False)
    return np.asarray(microseconds.to_numpy()) / 1e6


def _decoded_cell(cell: bytes | None) -> str | bytes | None:
    """Return bytes as the text that they are, as some tools write texts; bytes that are none stay, and are no category."""
    if cell is None:
        return None
    try:
        return cell.decode("utf-8")
    except UnicodeDecodeError:
        return cell


# ---------------------------------------------------------------- a dataset's rows


def row_dtype(specs: Sequence[ColumnSpec]) -> np.dtype:
    """Return the dtype of a dataset's rows."""
    fields: list[tuple[str, str]] = []
    for spec in specs:
        fields.append((spec.name, f"S{CATEGORY_BYTES}" if spec.type == CATEGORY else "f8"))
    fields.append((MISTYPED, f"S{MISTYPED_BYTES}"))
    return np.dtype(fields)


def dataset_rows(columns: Mapping[str, Any], specs: Sequence[ColumnSpec], from_text: bool) -> np.ndarray:
    """Return columns by name as a dataset's rows; cells of another type become missing, and are named in `MISTYPED`.

    Typed arrays of whole numbers may be categories: they are read as the texts of these numbers.

    Raises:
        DataError: a missing column.
    """
    require_columns(list(columns), specs, "a source")
    count = len(next(iter(columns.values())))
    rows = np.zeros(count, row_dtype(specs))
    problems: dict[int, list[str]] = {}
    for spec in specs:
        cells = _as_category(spec, columns[spec.name])
        parsed = parse_column(spec, cells, from_text or holds_texts_alone(spec, cells))
        rows[spec.name] = parsed.values
        for row, cell in parsed.mistyped.items():
            problems.setdefault(row, []).append(f"{spec.name}: {cell}")
    for row, cells in problems.items():
        rows[MISTYPED][row] = "; ".join(cells).encode()[:MISTYPED_BYTES]
    return rows


def _as_category(spec: ColumnSpec, cells: Any) -> Any:
    """Return an array of whole numbers as texts, where the column is a category or a boolean."""
    if spec.type != CATEGORY or not isinstance(cells, np.ndarray) or cells.dtype.kind not in "iuf":
        return cells
    return list(map(_number_text, cells.tolist()))


def _number_text(value: float) -> str | None:
    """Return a number as a category, a whole one without a point; None for a missing one."""
    if value != value:
        return None
    if value % 1 == 0:
        return f"{value:.0f}"
    return str(value)


def prepared_rows(rows: np.ndarray, specs: Sequence[ColumnSpec]) -> np.ndarray:
    """Return a dataset's rows as a model's, float64 (n, columns), by the categories of the columns."""
    if not len(rows):
        return np.empty((0, len(specs)))
    return _stack_columns(rows, specs).astype(np.float64)
