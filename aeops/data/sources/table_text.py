"""Text files of rows in the dialect that a recipe states: separators, code pages, lines before the header and behind the rows."""

import csv
import io
import stat
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from aeops.errors import DataError
from aeops.kinds.decoding import read_file_content
from aeops.kinds.table_rows import read_csv_columns
from aeops.kinds.unpacking import UnpackedSizeError, read_gzip, read_limited
from aeops.recipe.table_sources import TEXT_SUFFIXES, TextFormat

MAX_CELL_CHARACTERS = 16 * 2**20  # of a cell; a file with a longer one is no file of rows
LONG_CELL = 512  # characters
SHOWN_CHARACTERS = 60  # of a row, in a reason


def read_text_rows(
    path: Path, text_format: TextFormat | None, *, is_excerpt: bool = False
) -> tuple[dict[str, Any], np.ndarray, dict[str, str]]:
    """Return the cells of a text file as texts by column, the number of each row in the file, and what is no row.

    Args:
        path: the file.
        text_format: its dialect; None: the standard one.
        is_excerpt: whether it may end without the lines behind the rows that the dialect has.

    Raises:
        DataError: it is packed and unpacks to too much, or is not of the encoding.
        ValueError: it is no such file.
    """
    content = unpack(path)
    if text_format is None:
        columns = read_csv_columns(content)
        return columns, np.arange(1, len(next(iter(columns.values()), ())) + 1), {}
    text = decode_text(content, text_format.encoding)
    return parse_rows(text, text_format, is_excerpt)


def unpack(path: Path) -> bytes:
    """Return the bytes of a text file, or of the only one in an archive.

    Raises:
        DataError: an archive holds several files, one whose name leads out of it, or more bytes than are allowed.
    """
    name = path.name.lower()
    try:
        if name.endswith(".gz"):
            return read_gzip(path)
        return _unpack_zip(path) if name.endswith(".zip") else read_file_content(path)
    except UnpackedSizeError as error:
        raise DataError(f"{path.name}: {error}") from error


def _unpack_zip(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        names = _file_names(archive)
        if len(names) != 1 or not names[0].lower().endswith(TEXT_SUFFIXES):
            raise DataError(f"{path.name}: expected one text file in the archive, got {', '.join(names[:5]) or 'none'}")
        if stat.S_ISLNK(archive.getinfo(names[0]).external_attr >> 16):
            raise DataError(f"{path.name}: the file {names[0]!r} in it is a link")
        parts = PurePosixPath(names[0].replace("\\", "/")).parts
        if ".." in parts or parts[0] == "/":
            raise DataError(f"{path.name}: the file {names[0]!r} in it leads out of it")
        with archive.open(names[0]) as stream:
            return read_limited(stream)


def _file_names(archive: zipfile.ZipFile) -> list[str]:
    """Return the names of files, without the resource forks that macOS adds."""
    names = []
    for member in archive.infolist():
        if not member.is_dir() and not member.filename.startswith("__MACOSX/"):
            names.append(member.filename)
    return names


def decode_text(content: bytes, encoding: str) -> str:
    """Return the text; raise DataError where the bytes are not of the encoding, and say at which line."""
    try:
        return content.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        found = f"byte {content[error.start]:#04x}"
        raise DataError(f"line {line}: {found} is not of the encoding {encoding} (data.source.text.encoding)") from error


def parse_rows(text: str, dialect: TextFormat, is_excerpt: bool = False) -> tuple[dict[str, Any], np.ndarray, dict[str, str]]:
    """Return the cells of a text by column, the number of each row, and what is no row; see `read_text_rows`."""
    records = _read_records(text, dialect, is_excerpt)
    names = [f"c{place}" for place in range(len(records[0].cells))]
    if dialect.header:
        names = [name.strip() or unnamed for name, unnamed in zip(records.pop(0).cells, names, strict=True)]
    if len(set(names)) < len(names):
        raise ValueError(f"expected columns of different names, got {', '.join(names)}")
    width, rows, kept, set_aside = len(names), [], [], dict[str, str]()
    for number, record in enumerate(records, 1):
        cells = record.cells
        if len(cells) == width + 1 and not cells[-1]:
            cells.pop()  # each line ends with a delimiter
        if len(cells) == width:
            rows.append(number)
            kept.append(cells)
        else:
            set_aside[f"row {number}"] = _row_problem(record, width, dialect)
    if not kept:
        raise ValueError(f"none of {len(records):,} rows has {width} cells, as the header has")
    columns = {name: _column(cells) for name, cells in zip(names, zip(*kept, strict=True), strict=True)}
    return columns, np.array(rows), set_aside


class _Record(NamedTuple):
    """The cells of a row, and over how many lines of the file it goes."""

    cells: list[str]
    lines: int


def _read_records(text: str, dialect: TextFormat, is_excerpt: bool) -> list[_Record]:
    """Return the rows of a text with its header, without the lines before and behind them."""
    lines = io.StringIO(text, newline="")
    for _ in range(dialect.skip_lines):
        lines.readline()
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    reader = csv.reader(lines, delimiter=dialect.delimiter, quotechar=dialect.quote, strict=False)
    records, before = [], 0
    for cells in reader:
        if cells:
            records.append(_Record(cells, reader.line_num - before))
        before = reader.line_num
    footer = dialect.footer_lines
    if is_excerpt and records:
        footer = min(footer, count_footer([record.cells for record in records], len(records[0].cells)))
    if footer:
        records = records[:-footer]
    if not records:
        raise ValueError("it has no rows")
    return records


def count_footer(records: Sequence[Sequence[str]], width: int) -> int:
    """Return how many records at the end are no rows: of another number of cells than `width`, or all but one of them empty.

    A last cell that is empty does not count, as where each line ends with a delimiter.

    >>> count_footer([["a", "b"], ["1", "2"], ["2 rows", ""], ["end"]], 2)
    2
    """
    count = 0
    for cells in reversed(records):
        full = cells[:-1] if len(cells) > 1 and not cells[-1] else cells
        if len(full) == width and len(list(filter(str.strip, full))) > 1:
            break
        count += 1
    return count


def _row_problem(record: _Record, width: int, dialect: TextFormat) -> str:
    shown = " ".join(dialect.delimiter.join(record.cells)[:SHOWN_CHARACTERS].split())
    over = ""
    if record.lines > 1:
        over = f" over {record.lines:,} lines (is a quotation mark left open?)"
    return f"{len(record.cells)} cells{over}, expected {width}: {shown}"


def _column(cells: Sequence[str]) -> np.ndarray | list[str]:
    """Return the cells of a column; as a list where one is long, as each of an array takes as much as the longest."""
    if max(map(len, cells)) > LONG_CELL:
        return list(cells)
    return np.array(cells, dtype=str)


def plain_numbers(cells: np.ndarray, dialect: TextFormat) -> np.ndarray:
    """Return the cells of a column of numbers with a point as decimal mark, and no other.

    >>> plain_numbers(np.array(["1.234,5", "-3"]), TextFormat(decimal=",", thousands=".")).tolist()
    ['1234.5', '-3']
    """
    plain = np.char.strip(cells)
    if dialect.thousands:
        plain = np.char.replace(plain, dialect.thousands, "")
        if dialect.thousands == " ":
            plain = np.char.replace(np.char.replace(plain, "\u00a0", ""), "\u202f", "")
    return np.char.replace(plain, dialect.decimal, ".") if dialect.decimal != "." else plain
