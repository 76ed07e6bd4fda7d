"""Samples that a source computes while it reads, kept on disk until they are ingested, however many there are."""

import math
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

BLOCK_BYTES = 16 * 2**20  # read or computed at once by sources that go through a file


def spool_to_disk(blocks: Iterable[np.ndarray], shape: tuple[int, ...], dtype: np.dtype, folder: Path) -> np.ndarray:
    """Write blocks of samples to a file and map it into memory; never more than one block is in memory.

    The file has no name: it is gone with the array, or with the process however that ends.

    Args:
        blocks: each (k, *shape).
        shape: of one sample.
        dtype: of the samples.
        folder: the disk that holds the file; created if it is missing.

    Returns:
        The samples of all blocks as one memory-mapped array (n, *shape).
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype=dtype).data)
        file.flush()
        rows = file.tell() // (math.prod(shape) * dtype.itemsize)
        if rows == 0:
            return np.empty((0, *shape), dtype)  # an empty file cannot be mapped
        return np.memmap(file, dtype, "r", shape=(rows, *shape))


def rows_per_block(shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Return the number of samples of `shape` in a block of about `BLOCK_BYTES`."""
    return max(1, BLOCK_BYTES // max(1, math.prod(shape) * dtype.itemsize))
