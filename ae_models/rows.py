"""Samples by the row: an array in memory, or a .npy file that may be larger than memory and is read piece by piece.

A file is read, not mapped: a mapping counts in full against a limit on address space (`ulimit -v`), read bytes do not.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ae_models.errors import TrainingError

Samples = npt.NDArray[Any]
BLOCK_BYTES = 16 * 2**20  # read at once where all rows are gone through


class Rows(Protocol):
    """n samples of one shape."""

    shape: tuple[int, ...]  # (n, ...)
    dtype: "np.dtype[Any]"

    def take(self, indices: npt.NDArray[np.int64]) -> Samples:
        """The samples at these places, in this order."""

    def blocks(self) -> Iterator[Samples]:
        """All samples in order, some at a time."""


class ArrayRows:
    """Rows of an array in memory."""

    def __init__(self, array: Samples) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def take(self, indices: npt.NDArray[np.int64]) -> Samples:
        return self.array[indices]

    def blocks(self) -> Iterator[Samples]:
        rows = rows_at_once(self)
        return (self.array[first : first + rows] for first in range(0, len(self.array), rows))


class NpyRows:
    """Rows of a .npy file, read when they are asked for.

    Args:
        file: as numpy.save writes it, C-ordered; opened for as long as this object lives.

    Raises:
        TrainingError: no .npy file, or one that is cut short.
    """

    def __init__(self, file: Path) -> None:
        try:
            with file.open("rb") as stream:
                readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                self.shape, fortran, self.dtype = readers[np.lib.format.read_magic(stream)](stream)
                self.start = stream.tell()
        except (OSError, ValueError, KeyError) as error:
            raise TrainingError(f"{file} cannot be read as .npy ({type(error).__name__}): make it again") from error
        self.row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        needed, given = self.start + len(self) * self.row_bytes, file.stat().st_size
        if given < needed or fortran or self.dtype.hasobject:
            raise TrainingError(f"{file} holds {given} bytes of {self.dtype}; {needed} bytes of C-ordered numbers are needed")
        self.stream = file.open("rb", buffering=0)

    def __len__(self) -> int:
        return self.shape[0]

    def take(self, indices: npt.NDArray[np.int64]) -> Samples:
        rows = np.empty((len(indices), *self.shape[1:]), self.dtype)
        for place in np.argsort(indices, kind="stable"):  # in the file's order: neighbours lie in the same page
            self._read(int(indices[place]), rows[place : place + 1])
        return rows

    def blocks(self) -> Iterator[Samples]:
        for first in range(0, len(self), rows_at_once(self)):
            block = np.empty((min(rows_at_once(self), len(self) - first), *self.shape[1:]), self.dtype)
            self._read(first, block)
            yield block

    def _read(self, row: int, into: Samples) -> None:
        """Fills `into` (C-contiguous) from this row on; a read may give less than was asked for."""
        left, offset = into.reshape(-1).view(np.uint8).data, self.start + row * self.row_bytes
        while len(left):
            read = os.preadv(self.stream.fileno(), [left], offset)
            if read == 0:
                raise TrainingError(f"{self.stream.name} was cut short while it was read: make it again")
            left, offset = left[read:], offset + read


def rows_at_once(rows: Rows) -> int:
    return max(1, BLOCK_BYTES // max(1, math.prod(rows.shape[1:]) * rows.dtype.itemsize))


def as_rows(samples: "Samples | Rows") -> Rows:
    return ArrayRows(samples) if isinstance(samples, np.ndarray) else samples


def total_bytes(rows: Rows) -> int:
    return math.prod(rows.shape) * rows.dtype.itemsize
