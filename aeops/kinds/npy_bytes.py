"""Arrays out of numpy's own file form, from untrusted bytes: a header alone allocates nothing and runs nothing."""

import io
import math
from tokenize import TokenError

import numpy as np
from numpy.lib import format as npy_format

MEDIA_TYPE = "application/x-npy"
MAX_HEADER_BYTES = 1024  # bytes; numpy writes 118 for any array that is meant here
MAX_AXES = 8


def read_npy(body: bytes) -> np.ndarray:
    """Read the array of a .npy file: numbers, or texts of a fixed width.

    It shares the body's memory unless it is in Fortran order.

    Raises:
        ValueError: no .npy, a header that is none or is too long, objects or records, or another size than the header says.
    """
    stream = io.BytesIO(body)
    version = npy_format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"expected version 1.0 or 2.0 of the format, got {version[0]}.{version[1]}")
    header_readers = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}
    try:
        shape, by_columns, dtype = header_readers[version](stream, max_header_size=MAX_HEADER_BYTES)
    except (SyntaxError, TokenError, RecursionError, MemoryError, TypeError, KeyError) as error:  # of what is no literal
        raise ValueError(f"its header cannot be read ({type(error).__name__})") from error
    if dtype.kind not in "uifU" or dtype.hasobject or dtype.itemsize == 0:
        raise ValueError(f"expected whole or real numbers or texts, got dtype {dtype}")
    if len(shape) > MAX_AXES or any(size < 0 for size in shape):
        raise ValueError(f"expected up to {MAX_AXES} axes, got shape {str(shape)[:100]}")
    start = stream.tell()
    if math.prod(shape) * dtype.itemsize != len(body) - start:
        raise ValueError(f"the header promises {str(shape)[:100]} of {dtype} and {len(body) - start} bytes follow it")
    values = np.frombuffer(body, dtype=dtype, offset=start)
    return values.reshape(shape, order="F" if by_columns else "C")
