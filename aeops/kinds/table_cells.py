"""Cells of a table's columns as numbers: parsed from JSON, CSV, Arrow, Parquet or arrays. numpy and the standard library only.

A parsed column is float64: NaN where a value is missing, 0 or 1 for a boolean, seconds since 1970 UTC for a date. A category is
bytes of UTF-8, empty where it is missing; `codes_of` makes its places in a table of categories of them.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ae_models.spec import BOOLEAN, CATEGORY, DATE, INTEGER, NUMBER, ColumnSpec

MISSING_WORDS = frozenset(("", "na", "n/a", "nan", "null", "none"))  # of a cell of CSV, in lower case
TRUE_WORDS, FALSE_WORDS = frozenset(("true", "yes", "1")), frozenset(("false", "no", "0"))
CATEGORY_BYTES = 64  # of UTF-8
EXPECTED = {
    NUMBER: "a number",
    INTEGER: "a whole number",
    BOOLEAN: "true or false",
    CATEGORY: f"a text of up to {CATEGORY_BYTES} bytes",
    DATE: "a date such as 2026-11-30 or 2026-11-30T12:00:00Z",
}
SHOWN_CHARACTERS = 40  # of a cell, in a message
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ParsedColumn(NamedTuple):
    """The cells of a column.

    Attributes:
        values: float64 (n,), or bytes (n,) of a category; missing where a cell is not of the column's type.
        mistyped: row -> the cell as it came, for each that is not of the column's type.
    """

    values: np.ndarray
    mistyped: dict[int, str]


class CellError(ValueError):
    """A cell that is not of its column's type."""


def parse_column(column: ColumnSpec, cells: Sequence[Any] | np.ndarray, from_text: bool) -> ParsedColumn:
    """Parse the cells of a column.

    Args:
        column: its type, and its marks of missing values.
        cells: (n,) numbers, texts, booleans, dates or None, in a list or an array.
        from_text: whether all cells are texts that stand for values, as in CSV; else "1" is no number.
    """
    if column.nulls:
        cells = without_nulls(cells, column.nulls, column.type in (NUMBER, INTEGER))
    if column.type == CATEGORY:
        return _parse_cells(column, cells.tolist() if isinstance(cells, np.ndarray) else cells, from_text)
    array = np.asarray(cells) if not isinstance(cells, np.ndarray) else cells
    if column.type in (NUMBER, INTEGER, DATE) and array.dtype.kind in "iuf":
        return _check_numbers(column, array.astype(np.float64))
    if column.type == BOOLEAN and array.dtype.kind == "b":
        return ParsedColumn(array.astype(np.float64), {})
    if column.type == DATE and array.dtype.kind == "M":
        seconds = (array.astype("datetime64[us]") - np.datetime64(0, "us")) / np.timedelta64(1, "s")
        return ParsedColumn(np.where(np.isnat(array), np.nan, seconds), {})
    if from_text and column.type in (NUMBER, INTEGER):
        try:
            return _check_numbers(column, array.astype(np.float64))
        except ValueError:
            pass  # a missing word, or a cell that is no number: one by one
    return _parse_cells(column, array.tolist() if isinstance(cells, np.ndarray) else cells, from_text)


def without_nulls(cells: Any, nulls: Sequence[str], is_number: bool = False) -> Any:
    """Return cells with those that mean a missing value as missing: empty texts, NaN, or None in a list.

    In a column of numbers, numbers are compared by their value: -999 means -999.00, too.
    """
    numbers = list(map(float, filter(_is_number, nulls)))
    if isinstance(cells, np.ndarray) and cells.dtype.kind in "iuf":
        return np.where(np.isin(cells, numbers), np.nan, cells.astype(np.float64))

    @cache
    def is_null(text: str) -> bool:
        return text in nulls or (is_number and _is_number(text) and float(text) in numbers)

    if isinstance(cells, np.ndarray) and cells.dtype.kind == "U":
        return np.array(["" if is_null(cell.strip()) else cell for cell in cells.tolist()], dtype=str)
    return [None if is_null(cell_text(cell)) else cell for cell in cells]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def cell_text(cell: Any) -> str:
    """Return a cell of ids or groups as a text; whole numbers without a fraction."""
    if cell is None or cell != cell:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip() if isinstance(cell, str) else str(cell)


def holds_texts_alone(column: ColumnSpec, cells: Any) -> bool:
    """Return whether a file's column that should hold numbers, dates or booleans is one of texts.

    A tool that finds a single text among the numbers of a column writes all of them as texts.
    """
    if column.type == CATEGORY or not isinstance(cells, list):
        return False
    kinds = {type(cell) for cell in cells}
    return str in kinds and kinds <= {str, type(None)}


def _check_numbers(column: ColumnSpec, values: np.ndarray) -> ParsedColumn:
    if column.type != INTEGER:
        return ParsedColumn(values, {})
    is_wrong = ~np.isnan(values) & ~np.isinf(values) & (values != np.floor(values))
    mistyped = {int(row): f"{values[row]:g}" for row in np.flatnonzero(is_wrong)}
    return ParsedColumn(np.where(is_wrong, np.nan, values), mistyped)


def _parse_cells(column: ColumnSpec, cells: Sequence[Any], from_text: bool) -> ParsedColumn:
    is_category = column.type == CATEGORY
    values = np.zeros(len(cells), f"S{CATEGORY_BYTES}") if is_category else np.full(len(cells), np.nan)
    parse, mistyped = _PARSERS[column.type], {}
    for row, cell in enumerate(cells):
        if cell is None or (isinstance(cell, float) and math.isnan(cell)):
            continue
        if from_text and isinstance(cell, str) and cell.strip().lower() in MISSING_WORDS:
            continue
        try:
            values[row] = parse(cell, from_text)
        except CellError:
            mistyped[row] = shorten_cell(cell)
    return ParsedColumn(values, mistyped)


def shorten_cell(cell: Any) -> str:
    """Return a cell as messages show it."""
    text = repr(str(cell)) if isinstance(cell, str) else str(cell)  # without the name of a type of numpy
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def _parse_number(cell: Any, from_text: bool) -> float:
    if isinstance(cell, str) and from_text:
        try:
            return float(cell)
        except ValueError:
            raise CellError from None
    if isinstance(cell, bool) or not isinstance(cell, int | float):
        raise CellError
    try:
        return float(cell)
    except OverflowError:
        return math.copysign(math.inf, cell)


def _parse_integer(cell: Any, from_text: bool) -> float:
    value = _parse_number(cell, from_text)
    if math.isfinite(value) and value != math.floor(value):
        raise CellError
    return value


def _parse_boolean(cell: Any, from_text: bool) -> float:
    if isinstance(cell, bool):
        return float(cell)
    if from_text and isinstance(cell, str):
        word = cell.strip().lower()
        if word in TRUE_WORDS or word in FALSE_WORDS:
            return float(word in TRUE_WORDS)
    if not isinstance(cell, str) and cell in (0, 1):
        return float(cell)
    raise CellError


def _parse_category(cell: Any, from_text: bool) -> bytes:
    if not isinstance(cell, str):
        raise CellError
    content = cell.encode(errors="surrogatepass")
    if len(content) > CATEGORY_BYTES or "\0" in cell:
        raise CellError
    return content


def _parse_date(cell: Any, from_text: bool) -> float:
    if isinstance(cell, str):
        try:
            cell = datetime.fromisoformat(cell.strip())
        except ValueError:
            raise CellError from None
    if isinstance(cell, datetime):
        aware = cell if cell.tzinfo is not None else cell.replace(tzinfo=UTC)
        return (aware - _EPOCH).total_seconds()
    if hasattr(cell, "toordinal"):  # a date without a time
        return float((cell.toordinal() - _EPOCH.toordinal()) * 86400)
    return _parse_number(cell, from_text=False)


_PARSERS: dict[str, Callable[[Any, bool], Any]] = {
    NUMBER: _parse_number,
    INTEGER: _parse_integer,
    BOOLEAN: _parse_boolean,
    CATEGORY: _parse_category,
    DATE: _parse_date,
}


def codes_of(texts: np.ndarray, categories: Sequence[str]) -> np.ndarray:
    """Return the place of each text among categories, float64 (n,); NaN: it is empty; their number: none of them."""
    known: dict[bytes, float] = {}
    for code, category in enumerate(categories):
        known[category.encode()] = code
    known[b""] = math.nan
    distinct, places = np.unique(texts, return_inverse=True)
    codes = [known.get(text, len(categories)) for text in distinct.tolist()]
    return np.asarray(codes, np.float64)[places.reshape(-1)]


def decode_texts(contents: Iterable[bytes]) -> list[str]:
    """Return texts of their UTF-8; bytes that are none become U+FFFD."""
    return [content.decode(errors="replace") for content in contents]


def describe_value(column: ColumnSpec, value: float) -> str:
    """Return the value of a column in an array of rows as a person reads it."""
    if math.isnan(value):
        return "missing"
    if column.type == CATEGORY:
        code = int(value) if math.isfinite(value) else len(column.categories)
        return column.categories[code] if 0 <= code < len(column.categories) else "unknown"
    if column.type == BOOLEAN:
        return "true" if value >= 0.5 else "false"
    if column.type == DATE:
        return describe_date(value)
    if column.type == INTEGER and math.isfinite(value):
        return f"{round(value):,}" if abs(value) < 1e15 else f"{value:.4g}"
    return f"{value:.4g}"


def describe_date(seconds: float) -> str:
    """Return seconds since 1970 as a date in UTC; as a number where there is no such date."""
    try:
        date = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{seconds:.4g} s since 1970"
    return date.strftime("%Y-%m-%d" if seconds % 86400 == 0 else "%Y-%m-%d %H:%M:%S")


def plain_value(column: ColumnSpec, value: float) -> Any:
    """Return the value of a column in an array of rows as JSON holds it."""
    if not math.isfinite(value):
        return None
    if column.type in (CATEGORY, DATE):
        return describe_value(column, value)
    if column.type == BOOLEAN:
        return value >= 0.5
    if column.type == INTEGER:
        return round(value)
    return value
