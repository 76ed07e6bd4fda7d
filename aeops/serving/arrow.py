"""Samples and responses as Arrow streams over HTTP, `application/vnd.apache.arrow.stream`.

A request has one column: texts (utf8), or fixed-size lists of numbers, each holding a sample's values in the order of its
shape (channels, height, width), as `FixedSizeListArray.from_arrays(batch.ravel(), batch[0].size)` builds it; null is a missing
value. Samples that are null themselves, dictionaries and compression are refused before anything is unpacked, so a body can never
grow in memory. A response has one column for each of its parts; see docs/serving.md.
"""

import struct
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from aeops.kinds.decoding import DecodeError, decode_errors

MEDIA_TYPE = "application/vnd.apache.arrow.stream"
MAX_RECORD_BATCHES = 1024  # in one request
RECORD_BATCH = 3  # in the format's enumeration MessageHeader
COMPRESSION_FIELD = 3  # position of the field in the table RecordBatch


class TooManyRowsError(DecodeError):
    """A request with more samples than allowed, refused before any of them is read."""

    def __init__(self, row_count: int) -> None:
        super().__init__(f"{row_count} rows")
        self.row_count = row_count


def read_arrow(body: bytes, sample_size: int | None, max_rows: int) -> np.ndarray | list[str]:
    """Read the samples of a request.

    Args:
        body: an Arrow stream.
        sample_size: numbers in one sample; None if the samples are texts.
        max_rows: samples allowed.

    Returns:
        Numbers (n, sample_size), which share the memory of the body if it has one record batch, or texts.

    Raises:
        DecodeError: the body is no Arrow stream, or has another form than described above.
        TooManyRowsError: it has more than `max_rows` rows.
    """
    with decode_errors():
        require_plain(body)
        with pa.ipc.open_stream(pa.py_buffer(body)) as stream:
            require_column(stream.schema, sample_size)
            columns = list(read_columns(stream, max_rows))
        if sample_size is None:
            texts: list[str] = []
            for column in columns:
                texts.extend(column.to_pylist())
            return texts
        return flatten_columns(columns, sample_size)


def read_columns_of_stream(body: bytes, max_rows: int) -> list[pa.RecordBatch]:
    """Return the record batches of a request whose samples have named columns.

    Raises:
        DecodeError: as `read_arrow`, but for its form; or no record batch.
        TooManyRowsError: it has more than `max_rows` rows.
    """
    require_plain(body)
    batches, row_count = [], 0
    with pa.ipc.open_stream(pa.py_buffer(body)) as stream:
        for batch in stream:
            row_count += batch.num_rows
            if row_count > max_rows:
                raise TooManyRowsError(row_count)
            batches.append(batch)
    if not batches:
        raise DecodeError("expected at least one record batch, got none")
    return batches


def stream_names(body: bytes) -> list[str]:
    """Return the names of the columns of a request, without its rows; raise DecodeError where it is no Arrow stream."""
    with decode_errors():
        require_plain(body)
        with pa.ipc.open_stream(pa.py_buffer(body)) as stream:
            return list(stream.schema.names)


def read_columns(stream: pa.RecordBatchReader, max_rows: int) -> Iterator[pa.Array]:
    row_count = 0
    for batch in stream:
        row_count += batch.num_rows
        if row_count > max_rows:
            raise TooManyRowsError(row_count)
        yield read_column(batch)


def flatten_columns(columns: list[pa.Array], sample_size: int) -> np.ndarray:
    if not columns:
        raise DecodeError("expected at least one record batch, got none")
    parts: list[np.ndarray] = []
    for column in columns:
        values = column.flatten()  # a null in it becomes NaN, in memory of its own
        parts.append(values.to_numpy(zero_copy_only=values.null_count == 0).reshape(-1, sample_size))
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts)


def require_plain(body: bytes) -> None:
    """Raise DecodeError on too many messages, a dictionary or a compressed record batch."""
    for index, message in enumerate(read_messages(body)):
        if index > MAX_RECORD_BATCHES:
            raise DecodeError(f"expected at most {MAX_RECORD_BATCHES} record batches, got more: put more samples into each")
        if message.type == "dictionary":
            raise DecodeError("expected plain columns, got a dictionary")
        if message.type == "record batch" and is_compressed(message.metadata.to_pybytes()):
            raise DecodeError("expected no compression, got a compressed record batch")


def read_messages(body: bytes) -> Iterator[pa.Message]:
    reader = pa.ipc.MessageReader.open_stream(pa.py_buffer(body))
    while True:
        try:
            yield reader.read_next_message()
        except StopIteration:
            return


def is_compressed(metadata: bytes) -> bool:
    """Return True if a message's RecordBatch has the field `compression`, which pyarrow does not expose.

    Args:
        metadata: flatbuffer of the message.

    Raises:
        DecodeError: the flatbuffer is invalid or holds no record batch.
    """
    try:
        root = unpack_number(metadata, 0, "<I")
        header = find_field(metadata, root, 2)
        if unpack_number(metadata, find_field(metadata, root, 1), "<B") != RECORD_BATCH or header == 0:
            raise DecodeError("expected a message with a record batch, got one without")
        return find_field(metadata, header + unpack_number(metadata, header, "<I"), COMPRESSION_FIELD) != 0
    except struct.error as error:
        raise DecodeError("expected a message with a valid header, got one that cannot be read") from error


def find_field(data: bytes, table: int, index: int) -> int:
    """Return the offset of a field of a flatbuffer's table; 0 if the table does not have it."""
    field_offsets = table - unpack_number(data, table, "<i")
    if field_offsets < 0:
        raise struct.error("a table that points outside")
    if 4 + 2 * index >= unpack_number(data, field_offsets, "<H"):
        return 0
    offset = unpack_number(data, field_offsets + 4 + 2 * index, "<H")
    if offset == 0:
        return 0
    return table + offset


def unpack_number(data: bytes, offset: int, number_format: str) -> int:
    return int(struct.unpack_from(number_format, data, offset)[0])


def require_column(schema: pa.Schema, sample_size: int | None) -> None:
    column_types = list(schema.types)
    if len(column_types) == 1 and is_supported_type(column_types[0], sample_size):
        return
    expected = "utf8"
    if sample_size is not None:
        expected = f"fixed-size lists of {sample_size} numbers"
    raise DecodeError(f"expected one column of {expected}, got {', '.join(map(str, column_types))[:200] or 'none'}")


def is_supported_type(column_type: pa.DataType, sample_size: int | None) -> bool:
    if sample_size is None:
        return str(column_type) in ("string", "large_string")
    if not pa.types.is_fixed_size_list(column_type) or column_type.list_size != sample_size:
        return False
    return bool(pa.types.is_integer(column_type.value_type) or pa.types.is_floating(column_type.value_type))


def read_column(batch: pa.RecordBatch) -> pa.Array:
    """Return the only column of a batch; raise if it is invalid or has samples that are null."""
    batch.validate(full=True)
    [column] = batch.columns
    if column.null_count:
        raise DecodeError("expected samples, got null: a missing value of a sample may be null, but no whole sample")
    return column


def write_arrow(columns: dict[str, np.ndarray | list[str]]) -> bytes:
    """Write a response: texts as utf8, values of one number as such, others as fixed-size lists of their numbers."""
    arrays = list(map(as_column, columns.values()))
    batch = pa.RecordBatch.from_arrays(arrays, names=list(columns))
    output = pa.BufferOutputStream()
    with pa.ipc.new_stream(output, batch.schema) as stream:
        stream.write_batch(batch)
    return bytes(output.getvalue())


def as_column(values: np.ndarray | list[str]) -> pa.Array:
    from aeops.predictions.arrow_rows import flag_array, number_array, text_array

    if isinstance(values, list) or values.dtype == object:
        return text_array(list(values))
    flat = np.ascontiguousarray(values).ravel()
    is_flag = flat.dtype == bool
    flat_column = flag_array(flat) if is_flag else number_array(flat, pa.from_numpy_dtype(flat.dtype))
    if values.ndim == 1:
        return flat_column
    size = int(np.prod(values.shape[1:]))
    return pa.Array.from_buffers(pa.list_(flat_column.type, size), len(values), [None], children=[flat_column])
