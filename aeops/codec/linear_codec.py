"""A linear image codec as a baseline of a learned one: principal axes, a uniform quantiser, and a static entropy code.

Transform coding by the axes of the training samples (Jain 1989, Fundamentals of Digital Image Processing, section 11.5): every
coordinate is divided by one step, rounded, and coded with the frequencies that its index has among the training samples. Axes and
frequencies are fixed beforehand, as the weights of a learned codec are, so nothing but the indices has to be sent.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from aeops.codec.coding import encode_indices

MAX_VALUES = 4096  # of an image: the covariance of as many is held in memory, and its axes are found in a minute
BLOCK_SAMPLES = 4096  # that are held as floating-point numbers at once
STEP_SAMPLES = 2000  # training samples by which a step is chosen
STEP_TRIES = 20  # halvings of the interval in which a step is looked for
SMALLEST_STEP, LARGEST_STEP = 2.0**-8, 2.0**5  # of coordinates of images with values in [0, 1]


@dataclass(frozen=True)
class PrincipalAxes:
    """The mean of images with k values, (k,), and their principal axes as rows, (k, k), the longest first."""

    mean: np.ndarray
    axes: np.ndarray

    def project(self, images: np.ndarray) -> np.ndarray:
        """Return the coordinates (n, k) of uint8 images (n, ...)."""
        return np.asarray((_to_vectors(images) - self.mean) @ self.axes.T)


@dataclass(frozen=True)
class LinearCodec:
    """A linear codec with one step.

    Attributes:
        principal: of the training samples.
        step: of the quantiser, in units of images in [0, 1].
        used_axes: indices of the axes whose coordinate is not 0 in every training sample, (slots,); the others are not sent.
        lowest: the lowest index of each of them among the training samples, (slots,).
        counts: how often each index from the lowest on occurs there, (slots, entries).
    """

    principal: PrincipalAxes
    step: float
    used_axes: np.ndarray
    lowest: np.ndarray
    counts: np.ndarray

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Return the code indices of uint8 images, (n, slots) int64; one beyond the training samples' becomes the nearest."""
        coordinates = self.principal.project(images)[:, self.used_axes]
        indices = np.rint(coordinates / self.step).astype(np.int64) - self.lowest
        return np.asarray(indices.clip(0, self.counts.shape[1] - 1))

    def decode(self, indices: np.ndarray) -> np.ndarray:
        """Return the images (n, k), float32 in [0, 1], of code indices (n, slots)."""
        coordinates = ((indices + self.lowest) * self.step).astype(np.float32)
        return np.asarray((coordinates @ self.principal.axes[self.used_axes] + self.principal.mean).clip(0, 1))

    def code_bytes(self, indices: np.ndarray) -> float:
        """Return the bytes an image that code indices (n, slots) take in one stream."""
        return len(encode_indices(indices, self.counts)) / len(indices)


def fit_principal_axes(images: np.ndarray) -> PrincipalAxes:
    """Return the principal axes of uint8 images (n, ...), which are read in blocks; of at most MAX_VALUES values each."""
    size = int(np.prod(images.shape[1:]))
    total, products = np.zeros(size), np.zeros((size, size))
    for block in _blocks(images):
        vectors = _to_vectors(block)
        total += vectors.sum(axis=0)
        products += vectors.T @ vectors
    mean = total / len(images)
    _, axes = np.linalg.eigh(products / len(images) - np.outer(mean, mean))
    return PrincipalAxes(mean.astype(np.float32), np.ascontiguousarray(axes.T[::-1], dtype=np.float32))


def choose_step(principal: PrincipalAxes, images: np.ndarray, bytes_per_image: float) -> float:
    """Return the step at which training samples take so many bytes by the entropy of their indices, found by bisection.

    Args:
        principal: of the training samples.
        images: training samples, uint8 (n, ...): the first STEP_SAMPLES of them decide.
        bytes_per_image: more than 0. Where no step between SMALLEST_STEP and LARGEST_STEP takes as many, the nearest is returned.
    """
    coordinates = principal.project(images[:STEP_SAMPLES])
    low, high = SMALLEST_STEP, LARGEST_STEP
    for _ in range(STEP_TRIES):
        step = float(np.sqrt(low * high))
        if _entropy_bytes(np.rint(coordinates / step)) > bytes_per_image:
            low = step
        else:
            high = step
    return high


def fit_linear_codecs(principal: PrincipalAxes, images: np.ndarray, steps: list[float]) -> list[LinearCodec]:
    """Return a codec for each step, with the frequencies of training samples, uint8 (n, ...), which are read in blocks."""
    extreme_low, extreme_high = np.full(len(principal.mean), np.inf), np.full(len(principal.mean), -np.inf)
    for block in _blocks(images):
        coordinates = principal.project(block)
        extreme_low = np.minimum(extreme_low, coordinates.min(axis=0))
        extreme_high = np.maximum(extreme_high, coordinates.max(axis=0))
    codecs = [_empty_codec(principal, step, extreme_low, extreme_high) for step in steps]
    for block in _blocks(images):
        coordinates = principal.project(block)
        for codec in codecs:
            _count_indices(codec, coordinates)
    return codecs


def _empty_codec(principal: PrincipalAxes, step: float, extreme_low: np.ndarray, extreme_high: np.ndarray) -> LinearCodec:
    """Return a codec that has counted nothing yet.

    Args:
        principal: of the training samples.
        step: of the quantiser.
        extreme_low, extreme_high: of the training samples' coordinates, (k,).
    """
    lowest, highest = np.rint(extreme_low / step).astype(np.int64), np.rint(extreme_high / step).astype(np.int64)
    used_axes = np.flatnonzero((lowest != 0) | (highest != 0))
    if not len(used_axes):  # a step beyond every sample: one axis remains, so that there is a code
        used_axes = np.zeros(1, dtype=np.int64)
    entries = max(2, int((highest - lowest)[used_axes].max()) + 1)  # a frequency of one entry has no code
    return LinearCodec(principal, step, used_axes, lowest[used_axes], np.zeros((len(used_axes), entries), dtype=np.int64))


def _count_indices(codec: LinearCodec, coordinates: np.ndarray) -> None:
    """Add the indices of coordinates (n, k) to the codec's counts."""
    slots, entries = codec.counts.shape
    indices = np.rint(coordinates[:, codec.used_axes] / codec.step).astype(np.int64) - codec.lowest
    cells = (indices + entries * np.arange(slots)).ravel()
    codec.counts[:] += np.bincount(cells, minlength=slots * entries).reshape(slots, entries)


def _entropy_bytes(indices: np.ndarray) -> float:
    """Return the bytes an image by the entropy of each column of whole numbers (n, k)."""
    bits = 0.0
    for column in indices.T[indices.any(axis=0)]:
        _, counts = np.unique(column, return_counts=True)
        shares = counts / len(column)
        bits -= float((shares * np.log2(shares)).sum())
    return bits / 8


def _blocks(images: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(images), BLOCK_SAMPLES):
        yield images[start : start + BLOCK_SAMPLES]


def _to_vectors(images: np.ndarray) -> np.ndarray:
    """Return uint8 images (n, ...) as vectors (n, k), float32 in [0, 1]."""
    return np.asarray(images.reshape(len(images), -1) / np.float32(255))
