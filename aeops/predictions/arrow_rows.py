"""Build the rows of predictions as Arrow arrays: no Python object for each value, and no `pa.array`, which loads pandas."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import accumulate, chain
from typing import Any

import numpy as np
import pyarrow as pa

from aeops.kinds.flags import REFUSED, list_flag_names
from aeops.kinds.interface import load_kind
from aeops.predictions.rows import Scorer, ids_of_call, moments_of, predictions_schema, sample_hashes, summary_of_code

UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def build_rows(
    scorer: Scorer,
    *,
    call: str,
    channel: str,
    time: datetime,
    names: Sequence[str],
    samples: Sequence[str] | np.ndarray,
    outputs: Mapping[str, np.ndarray],
    first_row: int = 0,
) -> pa.RecordBatch:
    """Build the predictions of samples that a detector has scored, as they are recorded.

    Args:
        names: name of each sample.
        samples: (n, ...) as they were received, or texts.
        outputs: the result of `Detector.score(samples, code=True)`. A refused sample has neither score, p-value nor code.
        first_row: position of the first sample in the call.

    Returns:
        A batch with the columns of `predictions.rows.schema`.
    """
    count = len(names)
    mean, std = moments_of(samples, scorer)
    columns = {
        "id": text_array(ids_of_call(call, first_row, count)),
        "time": number_array(np.full(count, (time - UNIX_EPOCH) // timedelta(microseconds=1)), pa.timestamp("us", tz="UTC")),
        "sample": text_array(list(map(_storable_name, names))),
        "sample_sha256": text_array(sample_hashes(samples)),
        "is_anomaly": flag_array(outputs["is_anomaly"]),
        "code": list_array(summary_of_code(outputs["code"]), outputs["flags"] & REFUSED > 0),
        "flags": name_lists(outputs["flags"]),
        "values": _watched_lists(scorer.kind, samples, outputs["flags"] & REFUSED > 0),
    }
    columns |= _constant_columns(scorer, channel, count)
    float_columns = {"score": outputs["score"], "p_value": outputs["p_value"], "mean": mean, "std": std}
    for name, values in float_columns.items():
        columns[name] = optional_numbers(values.astype(np.float32, copy=False))
    row_schema = predictions_schema()
    return pa.RecordBatch.from_arrays([columns[name] for name in row_schema.names], schema=row_schema)


def _watched_lists(kind: str, samples: Sequence[str] | np.ndarray, is_refused: np.ndarray) -> pa.Array:
    """Return the values of the watched columns of each sample; null without such columns, and of refused samples."""
    values = load_kind(kind).watched_values(samples)
    if values is None:
        return _null_lists(len(is_refused))
    return list_array(values, is_refused)


@lru_cache(maxsize=256)
def _null_lists(count: int) -> pa.Array:
    return pa.nulls(count, pa.list_(pa.float32()))


@lru_cache(maxsize=256)
def _storable_name(name: str) -> str:
    """Return a sample's name as UTF-8 can hold it."""
    return name.encode("utf-8", "backslashreplace").decode()


def _constant_columns(scorer: Scorer, channel: str, count: int) -> dict[str, pa.Array]:
    """Build the columns with the same value in every row; cached, as nearly all batches have one of a few sizes."""
    texts = {
        "recipe": scorer.recipe,
        "version": scorer.version,
        "bundle_sha256": scorer.bundle_sha256,
        "channel": channel,
    }
    columns = {}
    for name, value in texts.items():
        columns[name] = _repeated_text_array(value, count)
    columns["threshold"] = number_array(np.full(count, scorer.threshold), pa.float64())
    return columns


# ---------------------------------------------------------------- arrays


def number_array(values: np.ndarray, data_type: pa.DataType) -> pa.Array:
    """Convert numbers (n,) whose memory is laid out as `data_type`."""
    return pa.Array.from_buffers(data_type, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def optional_numbers(values: np.ndarray) -> pa.Array:
    """Convert float32 numbers (n,), of which those that are NaN become null."""
    is_null = np.isnan(values)
    if not is_null.any():
        return number_array(values, pa.float32())
    return pa.Array.from_buffers(pa.float32(), len(values), [validity_bits(is_null), pa.py_buffer(np.ascontiguousarray(values))])


def validity_bits(is_null: np.ndarray) -> pa.Buffer:
    """Return the buffer that says which of (n,) values are null."""
    return pa.py_buffer(np.packbits(~is_null, bitorder="little"))


def name_lists(flags: np.ndarray) -> pa.Array:
    """Convert the flags (n,) of samples to lists of their names."""
    if not flags.any():
        return _empty_lists(len(flags))
    lists = list_flag_names(flags)
    names = text_array(list(chain.from_iterable(lists)))
    offsets = np.array(list(accumulate(map(len, lists), initial=0)), dtype=np.int32)
    return pa.Array.from_buffers(pa.list_(pa.string()), len(flags), [None, pa.py_buffer(offsets)], children=[names])


@lru_cache(maxsize=256)
def _empty_lists(count: int) -> pa.Array:
    offsets = pa.py_buffer(np.zeros(count + 1, np.int32))
    return pa.Array.from_buffers(pa.list_(pa.string()), count, [None, offsets], children=[text_array([])])


def flag_array(values: np.ndarray) -> pa.Array:
    """Convert booleans (n,)."""
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, pa.py_buffer(np.packbits(values, bitorder="little"))])


def text_array(values: Sequence[str]) -> pa.Array:
    """Convert strings (n,)."""
    byte_strings = list(map(str.encode, values))
    offsets = np.array(list(accumulate(map(len, byte_strings), initial=0)), dtype=np.int32)
    return _utf8_array(offsets, b"".join(byte_strings))


def _repeated_text_array(value: str, count: int) -> pa.Array:
    content = value.encode()
    return _utf8_array(np.arange(count + 1, dtype=np.int32) * len(content), content * count)


def _utf8_array(offsets: "np.ndarray[Any, np.dtype[np.int32]]", data: bytes) -> pa.Array:
    return pa.Array.from_buffers(
        pa.string(), len(offsets) - 1, [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(data)]
    )


def list_array(values: np.ndarray, is_null: np.ndarray) -> pa.Array:
    """Convert numbers (n, k) to n lists of k; those that `is_null` (n,) marks become null."""
    offsets = np.zeros(len(values) + 1, np.int32)
    np.cumsum(~is_null * values.shape[1], out=offsets[1:])
    validity = None
    if is_null.any():
        values, validity = values[~is_null], validity_bits(is_null)
    inner = number_array(values.ravel().astype(np.float32, copy=False), pa.float32())
    return pa.Array.from_buffers(pa.list_(pa.float32()), len(is_null), [validity, pa.py_buffer(offsets)], children=[inner])
