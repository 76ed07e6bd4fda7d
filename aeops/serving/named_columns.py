"""Rows of a request by the names of their columns: CSV with a header line, Parquet, or an Arrow stream with a column each.

What would unpack to far more than it takes is refused before it is unpacked: a Parquet file by the sizes in its footer, an Arrow
stream with dictionaries or compression (see `aeops.serving.arrow`).
"""

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from aeops.kinds.decoding import DecodeError, decode_errors
from aeops.kinds.table_rows import columns_of_arrow, read_csv_columns
from aeops.serving.arrow import TooManyRowsError, read_columns_of_stream
from aeops.serving.limits import RequestLimits

UNPACKED_RATIO = 8  # bytes that a Parquet file may unpack to, in those that a body may have


def read_csv(body: bytes, limits: RequestLimits) -> dict[str, Any]:
    """Return the columns of CSV, each cell as text."""
    lines = body.count(b"\n")
    if lines > 2 * limits.samples:  # a cell may hold a line break
        raise TooManyRowsError(lines)
    with decode_errors():
        columns = read_csv_columns(body)
    return require_rows(columns, limits)


def read_parquet(body: bytes, limits: RequestLimits) -> dict[str, Any]:
    """Return the columns of a Parquet file, in their own types."""
    with decode_errors():
        metadata = pq.read_metadata(io.BytesIO(body))
        if metadata.num_rows > limits.samples:
            raise TooManyRowsError(metadata.num_rows)
        unpacked = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
        if unpacked > UNPACKED_RATIO * limits.body_bytes:
            raise DecodeError(f"it unpacks to {unpacked} bytes, expected at most {UNPACKED_RATIO * limits.body_bytes}")
        return require_rows(columns_of_arrow(pq.read_table(io.BytesIO(body))), limits)


def read_arrow(body: bytes, limits: RequestLimits) -> dict[str, Any]:
    """Return the columns of an Arrow stream, in their own types."""
    with decode_errors():
        batches = read_columns_of_stream(body, limits.samples)
        return require_rows(columns_of_arrow(pa.Table.from_batches(batches)), limits)


def require_rows(columns: dict[str, Any], limits: RequestLimits) -> dict[str, Any]:
    """Return the columns; raise TooManyRowsError where there are more rows than allowed."""
    if columns and (count := len(next(iter(columns.values())))) > limits.samples:
        raise TooManyRowsError(count)
    return columns
