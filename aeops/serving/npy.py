"""Replies in numpy's format over HTTP, `application/x-npy`; `aeops.kinds.npy_bytes` reads requests."""

import io

import numpy as np
from numpy.lib import format as npy_format


def write_npy(values: np.ndarray) -> bytes:
    """Return an array as the bytes of a .npy file."""
    stream = io.BytesIO()
    npy_format.write_array(stream, values, allow_pickle=False)
    return stream.getvalue()


def structured_array(columns: dict[str, np.ndarray]) -> np.ndarray:
    """Join columns with one row a sample into one structured array.

    Args:
        columns: (n, ...) each, by name.

    Returns:
        (n,), with one field a column. Texts become fields of a fixed width, as long as the longest text.
    """
    fixed_width: dict[str, np.ndarray] = {}
    fields = []
    for name, values in columns.items():
        if values.dtype == object:
            values = values.astype(str)
        fixed_width[name] = values
        fields.append((name, values.dtype, values.shape[1:]))
    row_count = len(next(iter(fixed_width.values())))
    rows = np.empty(row_count, dtype=fields)
    for name, values in fixed_width.items():
        rows[name] = values
    return rows
