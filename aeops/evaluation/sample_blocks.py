"""Arrays of samples that may not fit into memory, and their blocks.

A large array lies in a file without a name, which is gone when the process ends, however it ends. Pages of a mapped file count as
memory of the process until they are released, so code that reads such an array block by block releases them after each block.
"""

import math
import mmap
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

BLOCK_VALUES = 2**22  # of a block: 16 MiB as float32, and some 200 MiB in the measure that makes most copies of it
MEMORY_BYTES = 2**25  # an array up to this size is in memory

RowFunction = Callable[[np.ndarray], np.ndarray]


def is_large(shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> bool:
    """Return whether an array is too large to be in memory beside others."""
    return math.prod(shape) * np.dtype(dtype).itemsize > MEMORY_BYTES


def new_array(shape: tuple[int, ...], dtype: npt.DTypeLike, folder: Path | None) -> np.ndarray:
    """Return an array of zeros: in memory, or a large one in a file without a name in `folder`, if that is given.

    Raises:
        OSError: there is no room for it on the disk, or the folder cannot be written to.
    """
    if folder is None or not is_large(shape, dtype):
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile(dir=folder) as stream:
        # Reserved at once: on a full disk this is an error, and writing to a mapped page of a sparse file would be a crash.
        os.posix_fallocate(stream.fileno(), 0, math.prod(shape) * np.dtype(dtype).itemsize)
        return np.memmap(stream, dtype, "r+", shape=shape)


def release_pages(*arrays: np.ndarray) -> None:
    """Give back the memory of arrays that are mapped from files, or are views of such; their values stay in the files.

    Not for mappings that are private to this process (`mmap_mode="c"`): what was written to one would be lost.
    """
    for array in arrays:
        owner: object = array
        while isinstance(owner, np.ndarray):
            owner = owner.base
        if isinstance(owner, mmap.mmap):
            owner.madvise(mmap.MADV_DONTNEED)


def rows_of_blocks(count: int, values: int, multiple: int = 1, limit: int | None = None) -> Iterator[slice]:
    """Yield slices of `count` samples, together all of them in order.

    Args:
        count: number of samples.
        values: of a sample.
        multiple: of which the rows of a block are one, where that many fit.
        limit: the most values of a block, BLOCK_VALUES if None; a sample of more is a block of its own.

    >>> list(rows_of_blocks(5, 10, limit=25))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    if limit is None:
        limit = BLOCK_VALUES
    rows = max(1, limit // max(1, values))
    if rows > multiple:
        rows -= rows % multiple
    for start in range(0, count, rows):
        yield slice(start, min(count, start + rows))


def sample_values(samples: np.ndarray) -> int:
    """Return how many values a sample of (n, ...) has."""
    return math.prod(samples.shape[1:])


def map_samples(function: RowFunction, samples: np.ndarray, folder: Path) -> np.ndarray:
    """Apply a function of samples (n, ...) to a large array block by block, and to a small one at once.

    Args:
        function: returns an array with a row for each sample, whatever the others are.
        samples: (n, ...), n of 1 or more.
        folder: of the result's file, if that is large.
    """
    if not is_large(samples.shape):
        return function(samples)
    result: np.ndarray | None = None
    for rows in rows_of_blocks(len(samples), sample_values(samples)):
        block = function(samples[rows])
        if result is None:
            result = new_array((len(samples), *block.shape[1:]), block.dtype, folder)
        result[rows] = block
        release_pages(samples, result)
    assert result is not None, "a large array has samples"
    return result


def take_rows(samples: np.ndarray, indices: np.ndarray, folder: Path) -> np.ndarray:
    """Return a copy of the samples at these indices, in a file where it is large."""
    taken = new_array((len(indices), *samples.shape[1:]), samples.dtype, folder)
    for rows in rows_of_blocks(len(indices), sample_values(samples)):
        taken[rows] = samples[indices[rows]]
        release_pages(samples, taken)
    return taken


def read_pairs(target: np.ndarray, output: np.ndarray, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield targets and outputs of these rows in blocks.

    Args:
        target: (n, ...).
        output: (n, ...).
        rows: indices, (k,).
    """
    for block in rows_of_blocks(len(rows), max(sample_values(target), sample_values(output))):
        yield target[rows[block]], output[rows[block]]
        release_pages(target, output)
