"""Answers in numpy's own form over HTTP, `application/x-npy`; requests are read by `aeops.kinds.npy_bytes`.

write_npy(array)
"""

import io

import numpy as np
from numpy.lib import format as npy_format


def write_npy(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    npy_format.write_array(stream, values, allow_pickle=False)
    return stream.getvalue()


def records(columns: dict[str, np.ndarray]) -> np.ndarray:
    """Columns with one row a sample as one structured array (n,): a field a column, of the shape of a sample's value.

    Texts become fields of a fixed width, as long as the longest.
    """
    plain = {name: values.astype(str) if values.dtype == object else values for name, values in columns.items()}
    count = len(next(iter(plain.values())))
    made = np.empty(count, dtype=[(name, values.dtype, values.shape[1:]) for name, values in plain.items()])
    for name, values in plain.items():
        made[name] = values
    return made
