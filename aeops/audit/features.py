"""Samples as an audit compares and classifies them: a matrix of numbers, texts, or rows of named columns."""

from dataclasses import dataclass

import numpy as np

from aeops.audit.subject import AuditSubject
from aeops.kinds.named_rows import NamedRows

MAX_VALUES = 16_384  # of a sample that is compared, such as 128 x 128 pixels; of larger ones neighbouring values are averaged
_IMAGE_AXES = 3  # channels, height, width
_WINDOW_AXES = 2  # channels, steps


@dataclass(frozen=True)
class AuditSamples:
    """All audited samples in memory; one of the first two is None.

    Attributes:
        vectors: float32 (n, values), in [0, 1], and 0 where a value is missing; of rows ranks and one-hot categories.
        texts: n strings.
        shape: of a sample as `vectors` lays it out, before it was flattened.
        rows: the rows of a table; None for other samples.
    """

    vectors: np.ndarray | None
    texts: list[str] | None
    shape: tuple[int, ...]
    rows: NamedRows | None = None

    @property
    def are_images(self) -> bool:
        """Whether a sample has channels, height and width."""
        return self.vectors is not None and len(self.shape) == _IMAGE_AXES

    @property
    def are_windows(self) -> bool:
        """Whether a sample has channels and steps, so that two samples may share steps of one series."""
        return self.vectors is not None and len(self.shape) == _WINDOW_AXES


def read_samples(subject: AuditSubject) -> AuditSamples:
    """Read all samples of a subject: rows as their kind reads them, others as baselines do, a shard at a time."""
    rows = subject.kind.named_rows(subject.sample_blocks, subject.input)
    if rows is None:
        return _read_baselines(subject)
    return AuditSamples(rows.ranked_vectors, None, rows.ranked_vectors.shape[1:], rows)


def _read_baselines(subject: AuditSubject) -> AuditSamples:
    texts: list[str] = [""] * len(subject.index)
    vectors, shape = None, subject.spec.shape
    for rows, samples in subject.blocks():
        baseline = subject.kind.baseline(samples, subject.spec)
        if baseline.texts is not None:
            for row, text in zip(rows, baseline.texts, strict=True):
                texts[row] = text
            continue
        assert baseline.vectors is not None, "a sample is a text or a vector"
        values = np.nan_to_num(baseline.vectors, nan=0.0, posinf=1.0, neginf=0.0).astype(np.float32)
        compact = shrink(values.reshape(len(values), *_laid_out(values, shape)))
        if vectors is None:
            vectors = np.empty((len(subject.index), compact[0].size), np.float32)
        vectors[rows] = compact.reshape(len(compact), -1)
        compact_shape = compact.shape[1:]
    if vectors is None:
        return AuditSamples(None, texts, shape)
    return AuditSamples(vectors, None, compact_shape)


def _laid_out(values: np.ndarray, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a sample; flat where a kind reads it as another number of values than it stores."""
    if int(np.prod(shape)) == values.shape[1]:
        return shape
    return (values.shape[1],)


def shrink(samples: np.ndarray, max_values: int = MAX_VALUES) -> np.ndarray:
    """Return samples (n, channels, ...) whose longest axes are halved, by the means of neighbours, until they are small enough.

    >>> shrink(np.ones((2, 1, 6, 4), np.float32), max_values=8).shape
    (2, 1, 3, 2)
    """
    while samples[0].size > max_values and samples.ndim > 2 and max(samples.shape[2:]) > 1:
        axis = 2 + int(np.argmax(samples.shape[2:]))
        even = samples.shape[axis] // 2 * 2
        pairs = np.take(samples, range(even), axis=axis)
        split = (*pairs.shape[:axis], even // 2, 2, *pairs.shape[axis + 1 :])
        samples = pairs.reshape(split).mean(axis=axis + 1)
    return samples
