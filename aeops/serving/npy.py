"""Arrays in numpy's own form over HTTP, `application/x-npy`: nothing is allocated, and nothing run, on the word of a header.

read_npy(body)              # ValueError says what is wrong
write_npy(array)
"""

import io
import math
from tokenize import TokenError

import numpy as np
from numpy.lib import format as npy_format

MEDIA_TYPE = "application/x-npy"
LONGEST_HEADER = 1024  # bytes; numpy writes 118 for any array that is meant here
MOST_AXES = 8


def read_npy(body: bytes) -> np.ndarray:
    """The array of a .npy file: numbers, or texts of a fixed width. It shares the body's memory unless it is in Fortran order.

    Raises:
        ValueError: no .npy, a header that is none or is too long, objects or records, or another size than the header says.
    """
    stream = io.BytesIO(body)
    version = npy_format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version[0]}.{version[1]} of the format given; 1.0 and 2.0 are allowed")
    read_header = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    try:
        shape, by_columns, kind = read_header(stream, max_header_size=LONGEST_HEADER)
    except (SyntaxError, TokenError, RecursionError, MemoryError, TypeError, KeyError) as error:  # of what is no literal
        raise ValueError(f"its header cannot be read ({type(error).__name__})") from error
    if kind.kind not in "uifU" or kind.hasobject or kind.itemsize == 0:
        raise ValueError(f"dtype {kind} given; whole or real numbers and texts are allowed")
    if len(shape) > MOST_AXES or any(size < 0 for size in shape):
        raise ValueError(f"shape {str(shape)[:100]} given; up to {MOST_AXES} axes are allowed")
    begins = stream.tell()
    if math.prod(shape) * kind.itemsize != len(body) - begins:
        raise ValueError(f"the header promises {str(shape)[:100]} of {kind} and {len(body) - begins} bytes follow it")
    values = np.frombuffer(body, dtype=kind, offset=begins)
    return values.reshape(shape, order="F" if by_columns else "C")


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
