"""Work on many rows, block by block on several threads: each thread has a block of its own, and they never wait for each other.

Torch itself shares each operation among its threads, which wait for each other after every one: on small blocks, or where other
work keeps a core busy, that takes longer than one thread alone.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ae_models.sample_sets import SampleArray

__all__ = ["compute_by_blocks"]

_lock = Lock()
_threads_before: list[int] = []  # torch's number, once for each call under way


def compute_by_blocks(function: Callable[[Tensor], Tensor], rows: SampleArray, block_rows: int) -> npt.NDArray[np.float64]:
    """Return what a function makes of rows, one number a row, float64 (n,); on as many threads as torch has.

    Args:
        function: of a block float64 (m, columns), to (m,). Runs without gradients, on several blocks at the same time.
        rows: (n, columns).
        block_rows: rows of a block; the last may have fewer. They do not depend on the number of threads.
    """
    results = np.empty(len(rows))

    def compute(first: int) -> None:
        with torch.inference_mode():
            block = torch.from_numpy(np.ascontiguousarray(rows[first : first + block_rows], np.float64))
            results[first : first + len(block)] = function(block).numpy()

    starts = range(0, len(rows), block_rows)
    with _single_threaded_operations() as threads:
        if min(threads, len(starts)) <= 1:
            for first in starts:
                compute(first)
        else:
            with ThreadPoolExecutor(threads, thread_name_prefix="rows") as pool:
                list(pool.map(compute, starts))
    return results


@contextmanager
def _single_threaded_operations() -> Iterator[int]:
    """Let each operation of torch run on one thread; yield how many it had before. The setting is the whole process's."""
    with _lock:
        threads = _threads_before[0] if _threads_before else torch.get_num_threads()
        _threads_before.append(threads)
        torch.set_num_threads(1)
    try:
        yield threads
    finally:
        with _lock:
            _threads_before.pop()
            torch.set_num_threads(threads)  # a part of the setting is this thread's own: also while other calls are under way
