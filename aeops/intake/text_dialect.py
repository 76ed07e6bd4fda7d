"""Finds the dialect of a text file of rows: its encoding, delimiter, header, footer, and the marks in its numbers."""

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import filterfalse, islice
from typing import NamedTuple

from aeops.data.sources.table_text import count_footer
from aeops.drawing.words import format_count
from aeops.errors import DataError
from aeops.recipe.table_sources import TextFormat

DELIMITERS = (",", ";", "\t", "|")
LOOKED_RECORDS = 500
LOOKED_CHARACTERS = 2**20  # at the beginning of a file
SHARE_OF_ROWS = 0.8  # that have the same number of cells where a delimiter is the right one
TAIL_CHARACTERS = 2**16  # at the end of a file
MOST_FOOTER_RECORDS = 20  # at the end of a file that may be no rows
_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?([eE][+-]?\d+)?")
_READ_BY_MARKS = {  # (decimal, thousands) -> numbers that can be read so; of equals the first is taken
    (".", ""): re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"),
    (",", ""): re.compile(r"[+-]?\d+(,\d+)?([eE][+-]?\d+)?"),
    (",", "."): re.compile(r"[+-]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?"),
    (".", ","): re.compile(r"[+-]?(\d+|\d{1,3}(,\d{3})+)(\.\d+)?"),
    (".", "'"): re.compile(r"[+-]?(\d+|\d{1,3}('\d{3})+)(\.\d+)?"),
    (",", " "): re.compile(r"[+-]?(\d+|\d{1,3}([ \u00a0\u202f]\d{3})+)(,\d+)?"),
}
SHARE_OF_NUMBERS = 0.5  # of the cells of a column that can be read by some marks, from which its numbers are written so


def find_encoding(content: bytes) -> tuple[str, str]:
    """Return the encoding, as Python calls it, and what to say about it; nothing for UTF-8.

    Raises:
        DataError: the bytes are no text.
    """
    for mark, encoding in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8")):
        if content.startswith(mark):
            return encoding, "read as UTF-16, by its first bytes" if encoding == "utf-16" else ""
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        pass
    else:
        if b"\0" not in content:
            return "utf-8", ""
    sample = content[:4000]
    if len(sample) > 20 and sample[1::2].count(0) > len(sample) / 4:
        return "utf-16-le", "read as UTF-16 without a mark at its start"
    if len(sample) > 20 and sample[::2].count(0) > len(sample) / 4:
        return "utf-16-be", "read as UTF-16 without a mark at its start"
    if b"\0" in sample:
        raise DataError("its bytes are no text: what its name says is not what it is")
    for encoding, name in (("cp1252", "Windows-1252"), ("latin-1", "ISO 8859-1")):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        shown = next(filterfalse(str.isascii, re.findall(r"\w+", text)), "")[:30]
        return encoding, f"not UTF-8: read as {name}; look whether {shown!r} is right, else set data.source.text.encoding"
    raise DataError("its bytes are of no encoding that is known here: write it as UTF-8")


def find_dialect(content: bytes) -> tuple[TextFormat, list[str]]:
    """Return the dialect of a text file, and what a person should know about it.

    Raises:
        DataError: it is no text, or its rows have no common number of cells.
    """
    encoding, message = find_encoding(content)
    text = content.decode(encoding).removeprefix("\ufeff")
    if not text.strip():
        raise DataError("the file is empty")
    head = text[:LOOKED_CHARACTERS]
    if len(head) < len(text):
        head = head[: head.rfind("\n") + 1] or head
    delimiter, width = _find_delimiter(head)
    messages = [message] if message else []
    found, skip = _records(head, delimiter), 0
    while len(found[0].cells) != width:
        skip = found.pop(0).end
    records = [record.cells for record in found]
    footer = _footer_count(text, delimiter, width)
    has_header = _is_header(records)
    if skip:
        messages.append(f"left out: {format_count(skip, 'line')} before the header: {text[:60].splitlines()[0]!r}")
    if footer:
        messages.append(f"left out: {format_count(footer, 'line')} behind the last row: {text.rstrip().splitlines()[-1][:60]!r}")
    if not has_header:
        messages.append("no line names the columns: they are called c0, c1, ...")
    dialect = TextFormat(encoding, delimiter, skip_lines=skip, footer_lines=footer, header=has_header)
    decimal, thousands = _find_marks(records[1:], delimiter)
    if decimal != ".":
        messages.append(f"numbers are written with the decimal mark {decimal!r}")
    if thousands:
        messages.append(f"numbers are grouped by {thousands!r}")
    return replace(dialect, decimal=decimal, thousands=thousands), messages


def has_columns(content: bytes, dialect: TextFormat) -> bool:
    """Return whether a text has rows of several cells with numbers: so many records agree that it is no running text."""
    records = _records(content.decode(dialect.encoding, errors="replace")[:LOOKED_CHARACTERS], dialect.delimiter)
    width, count = _widths(records).most_common(1)[0]
    rows = records[1:50]
    numeric = 0
    for row in rows:
        numeric += any(map(_NUMBER.fullmatch, map(str.strip, row.cells)))
    return width > 1 and count >= SHARE_OF_ROWS * len(records) and numeric > len(rows) / 2


class _Record(NamedTuple):
    """The cells of a record, and the number of the line that it ends in."""

    cells: list[str]
    end: int


def _records(text: str, delimiter: str) -> list[_Record]:
    """Return the records that are not empty, LOOKED_RECORDS at most; a quoted cell may hold line breaks."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    records = []
    for cells in islice(reader, LOOKED_RECORDS):
        if any(map(str.strip, cells)):
            records.append(_Record(cells[:-1] if len(cells) > 1 and not cells[-1] else cells, reader.line_num))
    return records


def _widths(records: Sequence[_Record]) -> Counter[int]:
    """Return number of cells -> records with so many."""
    return Counter(len(record.cells) for record in records)


def _find_delimiter(text: str) -> tuple[str, int]:
    """Return the delimiter that gives most records the same number of cells, and that number.

    Commas may be decimal marks: then the line of names has none, and fewer records agree.
    """
    best: tuple[float, int, str] | None = None
    for delimiter in DELIMITERS:
        records = _records(text, delimiter)
        width, count = _widths(records).most_common(1)[0]
        share = count / len(records)
        enough = SHARE_OF_ROWS * (0.5 if len(records) < 20 else 1)
        if width > 1 and share >= enough and (best is None or (share, width) > best[:2]):
            best = (share, width, delimiter)
    return (best[2], best[1]) if best is not None else (",", 1)


def _footer_count(text: str, delimiter: str, width: int) -> int:
    """Return how many records at the end are no rows: one or more in a row, of fewer cells or all but one of them empty."""
    tail = text[-TAIL_CHARACTERS:]
    if len(tail) < len(text):
        tail = tail[tail.find("\n") + 1 :]
    records = _records(tail, delimiter)
    count = count_footer([record.cells for record in records], width)
    return count if width > 1 and count <= MOST_FOOTER_RECORDS and count < len(records) / 2 else 0


def _is_header(records: Sequence[Sequence[str]]) -> bool:
    """Return whether the first line names the columns: cells without numbers, of which some may be empty."""
    first = records[0]
    named = list(filter(None, map(str.strip, first)))
    return len(named) > len(first) / 2 and not any(map(_NUMBER.fullmatch, named))


def _find_marks(records: Sequence[Sequence[str]], delimiter: str) -> tuple[str, str]:
    """Return the decimal mark of the file's numbers and the mark between their groups: those by which most cells are numbers.

    1.234 is a number with a point or a group of three; so is 1,234. Cells that can be read in one way alone decide, and where all
    of them can be read in several ways, the marks that come first in _READ_BY_MARKS: none between groups.
    """
    columns = list(zip(*[record for record in records if len(record) == len(records[0])], strict=False)) if records else []
    readable: Counter[tuple[str, str]] = Counter()
    for column in columns:
        cells = list(filter(None, map(str.strip, column)))
        for marks, pattern in _READ_BY_MARKS.items():
            count = sum(bool(pattern.fullmatch(cell)) for cell in cells)
            if count > SHARE_OF_NUMBERS * len(cells):
                readable[marks] += count
    if not readable:
        return ".", ""
    candidates = list(_READ_BY_MARKS)
    if delimiter == ",":  # the decimal mark of such files is a point, and a quoted 1,234 a group of three
        candidates.sort(key=lambda marks: marks[0] == ",")
    return max(candidates, key=readable.__getitem__)
