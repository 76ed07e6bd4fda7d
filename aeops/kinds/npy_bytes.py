"""Arrays out of numpy's own file form, from untrusted bytes or files: a header alone allocates nothing and runs nothing."""

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import numpy as np
from numpy.lib import format as npy_format

from aeops.kinds.decoding import DecodeError, decode_errors, unreadable_error

MEDIA_TYPE = "application/x-npy"
MAX_HEADER_BYTES = 1024  # bytes; numpy writes 118 for any array that is meant here
MAX_AXES = 8
ZIP_MAGIC = b"PK"  # of an .npz file


@dataclass(frozen=True)
class NpyHeader:
    """The header of a .npy file.

    Attributes:
        shape: of the array.
        is_fortran: whether the values stand column by column.
        dtype: of the values: whole or real numbers, or texts of a fixed width.
        data_start: bytes before the values.
    """

    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype
    data_start: int

    @property
    def data_bytes(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def order(self) -> Literal["C", "F"]:
        """The order of the values as numpy names it."""
        return "F" if self.is_fortran else "C"


def read_npy_header(stream: IO[bytes]) -> NpyHeader:
    """Read the header of a .npy stream; its values come next.

    Raises:
        DecodeError: no .npy stream, a header that is too long or no header, objects or records, or a shape that no array has.
    """
    with decode_errors():
        version = npy_format.read_magic(stream)
        header_readers = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}
        if version not in header_readers:
            raise DecodeError(f"expected version 1.0 or 2.0 of the format, got {version[0]}.{version[1]}")
        shape, is_fortran, dtype = header_readers[version](stream, max_header_size=MAX_HEADER_BYTES)
        if dtype.hasobject:
            raise DecodeError(f"expected numbers, got pickled objects (dtype {dtype})")
        if dtype.kind not in "uifU" or dtype.itemsize == 0:
            raise DecodeError(f"expected whole or real numbers or texts, got dtype {str(dtype)[:100]}")
        if len(shape) > MAX_AXES or any(not 0 <= size <= np.iinfo(np.intp).max for size in shape):
            raise DecodeError(f"expected up to {MAX_AXES} axes of 0 or more, got shape {str(shape)[:100]}")
        return NpyHeader(shape, is_fortran, dtype, stream.tell())


def read_npy(body: bytes) -> np.ndarray:
    """Read the array of a .npy file: numbers, or texts of a fixed width.

    It shares the body's memory unless it is in Fortran order.

    Raises:
        DecodeError: as `read_npy_header`, or another size than the header says.
    """
    header = read_npy_header(io.BytesIO(body))
    byte_count = len(body) - header.data_start
    if header.data_bytes != byte_count:
        raise DecodeError(f"the header promises {str(header.shape)[:100]} of {header.dtype} and {byte_count} bytes follow it")
    with decode_errors():
        values = np.frombuffer(body, dtype=header.dtype, offset=header.data_start)
        return values.reshape(header.shape, order=header.order)


def map_npy(path: Path) -> np.ndarray:
    """Return the array of a .npy file, memory-mapped; what follows its values is ignored.

    Raises:
        DecodeError: as `read_npy_header`, or fewer bytes than the header says.
        UnreadableFileError: the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            if stream.read(len(ZIP_MAGIC)) == ZIP_MAGIC:
                raise DecodeError("it is an .npz file of named arrays")
            stream.seek(0)
            header = read_npy_header(stream)
        expected_bytes, file_bytes = header.data_start + header.data_bytes, path.stat().st_size
        if file_bytes < expected_bytes:
            array = f"shape {str(header.shape)[:100]} of {header.dtype}"
            raise DecodeError(f"truncated: expected {expected_bytes} bytes for {array}, as its header says, got {file_bytes}")
        with decode_errors():
            if header.data_bytes == 0:
                return np.empty(header.shape, header.dtype)  # nothing to map
            return np.memmap(path, header.dtype, "r", header.data_start, header.shape, header.order)
    except OSError as error:
        raise unreadable_error(path, error) from error
