"""Text files of rows in the dialect that a recipe states: separators, code pages, lines before the header and behind the rows."""

import csv
import gzip
import io
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from aeops.errors import DataError
from aeops.kinds.decoding import read_file_content
from aeops.kinds.table_rows import read_csv_columns
from aeops.recipe.table_sources import TEXT_SUFFIXES, TextFormat

MAX_UNPACKED_BYTES = 8 * 2**30  # of a packed file: a few kilobytes may unpack to any size
SHOWN_CHARACTERS = 60  # of a row, in a reason


def read_text_rows(path: Path, text_format: TextFormat | None) -> tuple[dict[str, Any], np.ndarray, dict[str, str]]:
    """Return the cells of a text file as texts by column, the number of each row in the file, and what is no row.

    Raises:
        DataError: it is packed and unpacks to too much, or is not of the encoding.
        ValueError: it is no such file.
    """
    content = unpack(path)
    if text_format is None:
        columns = read_csv_columns(content)
        return columns, np.arange(1, len(next(iter(columns.values()), ())) + 1), {}
    text = decode_text(content, text_format.encoding)
    return parse_rows(text, text_format)


def unpack(path: Path) -> bytes:
    """Return the bytes of a text file, or of the only one in an archive.

    Raises:
        DataError: an archive holds several files, one whose name leads out of it, or more bytes than are allowed.
    """
    name = path.name.lower()
    if name.endswith(".gz"):
        with gzip.open(path) as stream:
            return _limited_read(stream)
    if not name.endswith(".zip"):
        return read_file_content(path)
    with zipfile.ZipFile(path) as archive:
        names = _file_names(archive)
        if len(names) != 1 or not names[0].lower().endswith(TEXT_SUFFIXES):
            raise DataError(f"expected one text file in the archive, got {', '.join(names[:5]) or 'none'}")
        parts = PurePosixPath(names[0].replace("\\", "/")).parts
        if ".." in parts or parts[0] == "/":
            raise DataError(f"the archive's file {names[0]!r} leads out of it")
        with archive.open(names[0]) as stream:
            return _limited_read(stream)


def _file_names(archive: zipfile.ZipFile) -> list[str]:
    """Return the names of files, without the resource forks that macOS adds."""
    names = []
    for member in archive.infolist():
        if not member.is_dir() and not member.filename.startswith("__MACOSX/"):
            names.append(member.filename)
    return names


def _limited_read(stream: Any) -> bytes:
    content: bytes = stream.read(MAX_UNPACKED_BYTES + 1)
    if len(content) > MAX_UNPACKED_BYTES:
        raise DataError(f"it unpacks to more than {MAX_UNPACKED_BYTES:,} bytes: unpack it and split it")
    return content


def decode_text(content: bytes, encoding: str) -> str:
    """Return the text; raise DataError where the bytes are not of the encoding, and say at which line."""
    try:
        return content.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        found = f"byte {content[error.start]:#04x}"
        raise DataError(f"line {line}: {found} is not of the encoding {encoding} (data.source.text.encoding)") from error


def parse_rows(text: str, dialect: TextFormat) -> tuple[dict[str, Any], np.ndarray, dict[str, str]]:
    """Return the cells of a text by column, the number of each row, and what is no row; see `read_text_rows`."""
    lines = io.StringIO(text, newline="")
    for _ in range(dialect.skip_lines):
        lines.readline()
    reader = csv.reader(lines, delimiter=dialect.delimiter, quotechar=dialect.quote, strict=False)
    records = list(filter(None, reader))
    if dialect.footer_lines:
        records = records[: -dialect.footer_lines]
    if not records:
        raise ValueError("it has no rows")
    names = [f"c{place}" for place in range(len(records[0]))]
    if dialect.header:
        names = [name.strip() or unnamed for name, unnamed in zip(records.pop(0), names, strict=True)]
    if len(set(names)) < len(names):
        raise ValueError(f"expected columns of different names, got {', '.join(names)}")
    width, rows, kept, set_aside = len(names), [], [], dict[str, str]()
    for number, record in enumerate(records, 1):
        if len(record) == width + 1 and not record[-1]:
            record.pop()  # each line ends with a delimiter
        if len(record) == width:
            rows.append(number)
            kept.append(record)
        else:
            shown = dialect.delimiter.join(record)[:SHOWN_CHARACTERS]
            set_aside[f"row {number}"] = f"{len(record)} cells, expected {width}: {shown}"
    if not kept:
        raise ValueError(f"none of {len(records):,} rows has {width} cells, as the header has")
    columns = {}
    for name, cells in zip(names, zip(*kept, strict=True), strict=True):
        columns[name] = np.array(cells, dtype=str)
    return columns, np.array(rows), set_aside


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
