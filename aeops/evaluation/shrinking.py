"""Large samples shrunk for baselines that compare samples with samples: their time and memory grow with a sample's values.

Squares of pixels, or steps of a series, are replaced by their mean. Samples of up to `LARGEST_VALUES` stay as they are.
"""

import math

import numpy as np

LARGEST_VALUES = 4096  # of a sample: an image of 64 x 64, or of 36 x 36 in colours


def shrunk_shape(shape: tuple[int, ...], factor: int) -> tuple[int, ...]:
    """Return the shape of a sample (channels, ...) shrunk by a factor; what is left over at an edge is a square of its own."""
    sides = []
    for size in shape[1:]:
        sides.append(-(-size // factor))
    return (*shape[:1], *sides)


def shrink_factor(shape: tuple[int, ...]) -> int:
    """Return by how much samples of a shape (channels, ...) are shrunk: 1 for those that are small or have no axis to shrink.

    >>> shrink_factor((1, 28, 28)), shrink_factor((3, 256, 256)), shrink_factor((9000,))
    (1, 8, 1)
    """
    factor = 1
    if len(shape) < 2:
        return factor
    while math.prod(shrunk_shape(shape, factor)) > LARGEST_VALUES and factor < max(shape[1:]):
        factor += 1
    return factor


def shrink_samples(samples: np.ndarray, factor: int) -> np.ndarray:
    """Return samples (n, channels, ...) shrunk by a factor, of the same dtype.

    >>> shrink_samples(np.arange(6.0).reshape(1, 1, 6), 4)
    array([[[1.5, 4.5]]])
    """
    if factor == 1:
        return samples
    shrunk = samples
    for axis in range(2, samples.ndim):
        starts = np.arange(0, samples.shape[axis], factor)
        counts = np.diff(starts, append=samples.shape[axis]).astype(samples.dtype)
        sums = np.add.reduceat(shrunk, starts, axis=axis)
        shrunk = sums / counts.reshape((-1, *[1] * (samples.ndim - axis - 1)))
    return shrunk
