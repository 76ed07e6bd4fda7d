"""Samples and answers as Arrow streams over HTTP, `application/vnd.apache.arrow.stream`.

A request has one column: of texts (utf8), or of fixed-size lists of numbers, each list a sample's values in the order of its
shape (channels, height, width), as `FixedSizeListArray.from_arrays(batch.ravel(), batch[0].size)` makes it. Missing values,
dictionaries and compression are refused before anything is unpacked: a body can then never become more than it is. An answer
has a column for each part of it; see docs/serving.md.
"""

import struct
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

MEDIA_TYPE = "application/vnd.apache.arrow.stream"
MOST_MESSAGES = 1024  # record batches of a request
RECORD_BATCH = 3  # of the format's enumeration MessageHeader
COMPRESSION = 3  # the place of that field in its table RecordBatch


def read_arrow(body: bytes, values: int | None) -> np.ndarray | list[str]:
    """The samples of a request: (n, values), or texts where `values` is None. Numbers share the body's memory where they can.

    Raises:
        ValueError: no Arrow stream, or not of the form that is allowed.
    """
    try:
        require_plain(body)
        with pa.ipc.open_stream(pa.py_buffer(body)) as stream:
            require_column(stream.schema, values)
            columns = [whole(batch) for batch in stream]
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"it cannot be read ({str(error).splitlines()[0][:200]})") from error
    if values is None:
        return [text for column in columns for text in column.to_pylist()]
    parts = [column.flatten().to_numpy(zero_copy_only=True).reshape(-1, values) for column in columns]
    return np.concatenate(parts) if len(parts) != 1 else parts[0] if parts else np.zeros((0, values), np.float32)


def require_plain(body: bytes) -> None:
    """Refuses more messages than allowed, dictionaries, and batches that are compressed."""
    for place, message in enumerate(messages(body)):
        if place > MOST_MESSAGES:
            raise ValueError(f"more than {MOST_MESSAGES} record batches given: put more samples into each")
        if message.type == "dictionary":
            raise ValueError("a dictionary given; plain columns are allowed")
        if message.type == "record batch" and is_compressed(message.metadata.to_pybytes()):
            raise ValueError("a compressed record batch given; write it without compression")


def messages(body: bytes) -> Iterator[pa.Message]:
    reader = pa.ipc.MessageReader.open_stream(pa.py_buffer(body))
    while True:
        try:
            yield reader.read_next_message()
        except StopIteration:
            return


def is_compressed(metadata: bytes) -> bool:
    """Whether the flatbuffer of a message, of which pyarrow tells nothing, has the field `compression` in its RecordBatch.

    Raises:
        ValueError: it is no such flatbuffer.
    """
    try:
        root = number(metadata, 0, "<I")
        header = field(metadata, root, 2)
        if number(metadata, field(metadata, root, 1), "<B") != RECORD_BATCH or header == 0:
            raise ValueError("a message without a record batch given")
        return field(metadata, header + number(metadata, header, "<I"), COMPRESSION) != 0
    except struct.error as error:
        raise ValueError("a message whose head cannot be read given") from error


def field(data: bytes, table: int, place: int) -> int:
    """Where a field of a flatbuffer's table lies; 0 where the table has none."""
    names = table - number(data, table, "<i")
    if names < 0:
        raise struct.error("a table that points outside")
    if 4 + 2 * place >= number(data, names, "<H"):
        return 0
    offset = number(data, names + 4 + 2 * place, "<H")
    return table + offset if offset else 0


def number(data: bytes, place: int, form: str) -> int:
    return int(struct.unpack_from(form, data, place)[0])


def require_column(schema: pa.Schema, values: int | None) -> None:
    kinds = [entry.type for entry in schema]
    if values is None and [str(kind) for kind in kinds] in (["string"], ["large_string"]):
        return
    if values is not None and len(kinds) == 1 and pa.types.is_fixed_size_list(kinds[0]):
        inner = kinds[0].value_type
        if kinds[0].list_size == values and (pa.types.is_integer(inner) or pa.types.is_floating(inner)):
            return
    allowed = "utf8" if values is None else f"fixed-size lists of {values} numbers"
    raise ValueError(f"columns {', '.join(map(str, kinds))[:200] or 'none'} given; one column of {allowed} is allowed")


def whole(batch: pa.RecordBatch) -> pa.Array:
    """The batch's column, when it holds what its head says and lacks nothing."""
    batch.validate(full=True)
    [column] = batch.columns
    if column.null_count or (pa.types.is_fixed_size_list(column.type) and column.flatten().null_count):
        raise ValueError("missing values given; numbers or texts are allowed")
    return column


def write_arrow(columns: dict[str, np.ndarray | list[str]]) -> bytes:
    """An answer: texts as utf8, values of one number as such, others as fixed-size lists of their numbers."""
    arrays = {name: as_column(values) for name, values in columns.items()}
    schema = pa.schema([(name, array.type) for name, array in arrays.items()])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as stream:
        stream.write_batch(pa.RecordBatch.from_arrays(list(arrays.values()), schema=schema))
    return bytes(sink.getvalue())


def as_column(values: np.ndarray | list[str]) -> pa.Array:
    from aeops.predictions.arrow_rows import flag_array, number_array, text_array

    if isinstance(values, list) or values.dtype == object:
        return text_array(list(values))
    flat = np.ascontiguousarray(values).ravel()
    inner = flag_array(flat) if flat.dtype == bool else number_array(flat, pa.from_numpy_dtype(flat.dtype))
    if values.ndim == 1:
        return inner
    size = int(np.prod(values.shape[1:]))
    return pa.Array.from_buffers(pa.list_(inner.type, size), len(values), [None], children=[inner])
