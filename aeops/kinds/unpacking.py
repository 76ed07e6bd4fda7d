"""Packed files and files of few bytes that stand for many: what they unpack to is limited before the memory is."""

import gzip
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from aeops.errors import DataError

MAX_UNPACKED_BYTES = 8 * 2**30  # that one file may unpack to: a few kilobytes may unpack to any size
FETCHED_ROWS = 10_000  # at a time
MAX_CELLS = 2**31  # of a file of columns: equal values take next to nothing there, and eight bytes each in memory
MAX_ROW_CELLS = 2**27  # of the rows of a database, which come as objects of some 60 bytes each
MAX_STREAMED_BYTES = 256 * 2**30  # of an archive whose arrays are never in memory as a whole


class UnpackedSizeError(DataError):
    """A file stands for more than may be held; the message does not name it."""


def read_gzip(path: Path) -> bytes:
    """Return the bytes that a gzip file unpacks to.

    Raises:
        DataError: they are more than allowed.
        OSError, EOFError: it is no whole gzip file.
    """
    with gzip.open(path) as stream:
        return read_limited(stream)


def read_limited(stream: IO[bytes] | gzip.GzipFile) -> bytes:
    """Return the bytes of a stream of unpacked bytes; raise DataError where they are more than allowed."""
    content: bytes = stream.read(MAX_UNPACKED_BYTES + 1)
    require_unpacked_size(len(content))
    return content


def read_lines(stream: IO[bytes] | gzip.GzipFile, longest: int) -> Iterator[bytes]:
    """Yield the lines of a stream; one longer than `longest` bytes is cut to that length and a byte.

    Raises:
        DataError: the lines are more bytes than allowed.
    """
    total = 0
    while line := stream.readline(longest + 1):
        total += len(line)
        yield line
        rest = line
        while len(rest) > longest and not rest.endswith(b"\n"):
            rest = stream.readline(longest + 1)
            total += len(rest)
            require_unpacked_size(total)
        require_unpacked_size(total)


def require_unpacked_size(count: int, most: int | None = None) -> None:
    """Raise DataError where so many bytes are more than `most`, by default MAX_UNPACKED_BYTES."""
    limit = MAX_UNPACKED_BYTES if most is None else most
    if count > limit:
        raise UnpackedSizeError(f"it unpacks to more than {limit:,} bytes: unpack it and split it")


def require_archive_size(path: Path, name: str, most: int | None = None) -> None:
    """Raise DataError where the files of a zip archive, such as .npz, say that they unpack to more than `most` bytes.

    No more than they say is ever unpacked.

    Args:
        path: the archive.
        name: of it, for messages.
        most: by default MAX_UNPACKED_BYTES.
    """
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    try:
        require_unpacked_size(size, most)
    except UnpackedSizeError as error:
        raise DataError(f"{name}: {error}") from error


def require_cell_count(rows: int, columns: int) -> None:
    """Raise DataError where a file of so many rows and columns does not fit into memory."""
    if rows * columns > MAX_CELLS:
        raise UnpackedSizeError(f"it holds {rows:,} rows of {columns:,} columns, expected at most {MAX_CELLS:,} cells: split it")


def fetch_rows(fetch_some: Callable[[int], Sequence[Any]], columns: int) -> list[Any]:
    """Return the rows of a query, fetched some at a time; raise DataError where there are too many, as of a query without end.

    Args:
        fetch_some: returns at most so many further rows, none at the end.
        columns: of the rows.
    """
    rows: list[Any] = []
    while some := fetch_some(FETCHED_ROWS):
        rows += some
        if len(rows) * columns > MAX_ROW_CELLS:
            raise UnpackedSizeError(
                f"the query returns more than {MAX_ROW_CELLS:,} cells: ask for fewer rows or columns (data.source.query), or "
                "write them to Parquet"
            )
    return rows


def read_arrow_file(path: Path) -> Any:
    """Return the table of a Parquet file; raise DataError where it has too many cells."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    require_cell_count(file.metadata.num_rows, file.metadata.num_columns)
    return file.read()
