"""Sets of samples: an array in memory, or a .npy file that may exceed memory and is read piece by piece.

A file is read, not mapped: a mapping counts in full against a limit on address space (`ulimit -v`), read bytes do not.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ae_models.checksums import arrays_sha256
from ae_models.errors import SampleError
from ae_models.spec import BOOLEAN, CATEGORY, TABLE, InputSpec

__all__ = [
    "ArraySampleSet",
    "NpySampleSet",
    "SampleArray",
    "SampleRoles",
    "SampleSet",
    "as_sample_set",
    "require_samples",
    "samples_sha256",
    "total_bytes",
]

SampleArray = npt.NDArray[Any]
_BLOCK_BYTES = 16 * 2**20  # bytes of a block, where all samples are read in order


class SampleSet(Protocol):
    """n samples of one shape."""

    shape: tuple[int, ...]  # (n, ...)
    dtype: "np.dtype[Any]"

    def take(self, indices: npt.NDArray[np.int64]) -> SampleArray:
        """Return the samples at these indices, in this order."""

    def blocks(self) -> Iterator[SampleArray]:
        """Yield all samples in order, some at a time."""


class ArraySampleSet:
    """Samples of an array in memory, (n, ...)."""

    def __init__(self, array: SampleArray) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def take(self, indices: npt.NDArray[np.int64]) -> SampleArray:
        return self.array[indices]

    def blocks(self) -> Iterator[SampleArray]:
        block_rows = _rows_per_block(self)
        for first in range(0, len(self.array), block_rows):
            yield self.array[first : first + block_rows]


class NpySampleSet:
    """Samples of a .npy file, read on demand.

    Args:
        path: as numpy.save writes it, C-ordered; it stays open as long as this object lives.

    Raises:
        SampleError: no .npy file, or an incomplete one.
    """

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as stream:
                header_readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                self.shape, is_fortran, self.dtype = header_readers[np.lib.format.read_magic(stream)](stream)
                self._data_start = stream.tell()
        except (OSError, ValueError, KeyError) as error:
            raise SampleError(f"{path} cannot be read as .npy ({type(error).__name__}): make it again") from error
        self.path = path
        self._row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        expected_bytes, file_bytes = self._data_start + len(self) * self._row_bytes, path.stat().st_size
        if file_bytes < expected_bytes or is_fortran or self.dtype.hasobject:
            raise SampleError(f"{path}: expected {expected_bytes} bytes of C-ordered numbers, got {file_bytes} of {self.dtype}")
        self._stream = path.open("rb", buffering=0)

    def __len__(self) -> int:
        return self.shape[0]

    def take(self, indices: npt.NDArray[np.int64]) -> SampleArray:
        samples = np.empty((len(indices), *self.shape[1:]), self.dtype)
        for position in np.argsort(indices, kind="stable"):  # in the file's order: neighbours lie in the same page
            self._read(int(indices[position]), samples[position : position + 1])
        return samples

    def blocks(self) -> Iterator[SampleArray]:
        block_rows = _rows_per_block(self)
        for first in range(0, len(self), block_rows):
            block = np.empty((min(block_rows, len(self) - first), *self.shape[1:]), self.dtype)
            self._read(first, block)
            yield block

    def _read(self, row: int, buffer: SampleArray) -> None:
        """Fill `buffer` (C-contiguous) from this row on; a single read may return less than it was asked for."""
        unread_buffer = buffer.reshape(-1).view(np.uint8).data
        offset = self._data_start + row * self._row_bytes
        while len(unread_buffer):
            count = os.preadv(self._stream.fileno(), [unread_buffer], offset)
            if count == 0:
                raise SampleError(f"{self._stream.name} was cut short while it was read: make it again")
            unread_buffer, offset = unread_buffer[count:], offset + count


@dataclass(frozen=True)
class SampleRoles:
    """The samples of a fit, by what each set is for; all are normal ones, raw: (n, *input.shape), values in [low, high].

    Attributes:
        train: for the weights; a calibration may measure them again.
        validation: evaluated after each epoch.
        calibration: for the threshold alone.
    """

    train: SampleSet
    validation: SampleSet
    calibration: SampleSet


def require_samples(name: str, samples: SampleSet, input_spec: InputSpec) -> None:
    """Check the shape and the values of a set.

    Raises:
        SampleError: fewer than 2 samples, another shape, or a value that is NaN or out of [low, high]; of a series with channels
            one that is not finite: what comes after the training may go beyond its range.
    """
    if samples.shape[1:] != tuple(input_spec.shape) or samples.shape[0] < 2:
        expected_shape = ", ".join(map(str, ("n", *input_spec.shape)))
        raise SampleError(
            f"the {name} samples have shape {samples.shape}, expected ({expected_shape}) with n >= 2 (input.shape in the spec)"
        )
    if input_spec.kind == TABLE:
        _require_rows(name, samples, input_spec)
        return
    if input_spec.channels:
        _require_finite(name, samples)
        return
    for block in samples.blocks():
        low, high = block.min(), block.max()
        if not (input_spec.low <= low and high <= input_spec.high):  # false for NaN too
            raise SampleError(
                f"the {name} samples have values from {low} to {high}, expected {input_spec.low:g} to {input_spec.high:g} "
                "(input.low and input.high in the spec)"
            )


def _require_finite(name: str, samples: SampleSet) -> None:
    for block in samples.blocks():
        if not np.isfinite(block).all():
            raise SampleError(f"the {name} samples have values that are NaN or infinite, expected finite ones in every channel")


def _require_rows(name: str, samples: SampleSet, input_spec: InputSpec) -> None:
    """Check the rows of a table: numbers may have any value; booleans and categories are codes."""
    if samples.dtype != np.float64:
        raise SampleError(f"the {name} samples have dtype {samples.dtype}, expected float64: the rows of a table")
    for block in samples.blocks():
        for index, column in enumerate(input_spec.columns):
            if column.type not in (CATEGORY, BOOLEAN):
                continue
            codes = block[:, index][~np.isnan(block[:, index])]
            allowed = len(column.categories) if column.type == CATEGORY else 1
            if ((codes < 0) | (codes > allowed) | (codes != np.floor(codes))).any():
                hint = ", of categories that input.columns names" if column.type == CATEGORY else ""
                raise SampleError(
                    f"the {name} samples have values from {codes.min():g} to {codes.max():g} in the column {column.name}, "
                    f"expected whole codes from 0 to {allowed}{hint}"
                )


def as_sample_set(samples: "SampleArray | SampleSet") -> SampleSet:
    """Return an array as a sample set; a sample set as it is."""
    if isinstance(samples, np.ndarray):
        return ArraySampleSet(samples)
    return samples


def samples_sha256(samples: SampleSet) -> str:
    """Return the SHA-256 of dtype, shape and values, the same for an array and for its file."""
    return arrays_sha256(samples.dtype, samples.shape, samples.blocks())


def total_bytes(samples: SampleSet) -> int:
    """Return the bytes of all samples."""
    return math.prod(samples.shape) * samples.dtype.itemsize


def _rows_per_block(samples: SampleSet) -> int:
    return max(1, _BLOCK_BYTES // max(1, math.prod(samples.shape[1:]) * samples.dtype.itemsize))
