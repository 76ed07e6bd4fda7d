"""What every source hands over, and the checks of shape and type that all of them share."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from aeops.errors import DataError
from aeops.kinds.interface import load_kind
from aeops.recipe.reader import Recipe


class SampleRows(Protocol):
    """What is asked of samples that lie in several files."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    def __len__(self) -> int: ...

    def __getitem__(self, places: slice) -> np.ndarray: ...


@dataclass(frozen=True)
class SourceSamples:
    """All samples of a source, in its order.

    Attributes:
        array: (n, ...), of a dtype that its kind allows; may be memory-mapped or lie in several files, so read it by `blocks`.
        labels: (n,) int64, or None where the source has none.
        origin: where they come from, as a person would name it.
        splits: (n,) of "train" and "test", the source's own parts, or None where it has none.
        groups: (n,) str, or None where there are none: samples of one group share a split.
        facts: what else is to be known of them, such as how many were left out; goes to dataset.json.
    """

    array: np.ndarray | SampleRows
    labels: np.ndarray | None
    origin: str
    splits: np.ndarray | None = None
    groups: np.ndarray | None = None
    facts: Mapping[str, int] = field(default_factory=dict)

    def blocks(self, size: int) -> Iterator[tuple[slice, np.ndarray]]:
        """Samples of at most `size` bytes at a time (one where it is larger) and their places, in order.

        They are C-ordered and in the machine's byte order.
        """
        dtype = self.array.dtype.newbyteorder("=")
        rows = max(1, size // (math.prod(self.array.shape[1:]) * dtype.itemsize))
        for start in range(0, len(self.array), rows):
            places = slice(start, min(start + rows, len(self.array)))
            yield places, np.ascontiguousarray(self.array[places], dtype=dtype)


def require_dtype(dtype: np.dtype, recipe: Recipe, what: str) -> None:
    """Raises DataError unless values of `dtype` can be samples."""
    allowed = load_kind(recipe.fit.input.kind).DTYPES
    if dtype.newbyteorder("=").name not in allowed:
        raise DataError(f"{what}: dtype {dtype} given; {', '.join(allowed)} allowed: {repair_hint(recipe)}")


def sample_shape(shape: tuple[int, ...], recipe: Recipe, what: str) -> tuple[int, ...]:
    """(n, *input.shape) of an array of `shape`, which may leave out the channel where the recipe has one channel only.

    Raises:
        DataError: no samples, or samples of another shape than the recipe's input.shape.
    """
    wanted = recipe.fit.input.shape
    allowed = [wanted, wanted[1:]] if wanted[0] == 1 else [wanted]
    if shape[1:] not in allowed:
        forms = " or ".join(f"(n, {', '.join(map(str, form))})" for form in allowed)
        raise DataError(f"{what}: shape {shape} given; {forms} allowed, as the recipe's input.shape says: {repair_hint(recipe)}")
    require_samples(shape[0], recipe, what)
    return (shape[0], *wanted)


def require_samples(rows: int, recipe: Recipe, what: str) -> None:
    """Raises DataError where there are none."""
    if rows == 0:
        least = max(1, int(recipe.validate.rows.min))
        raise DataError(f"{what}: an empty set, 0 samples given; {least} or more allowed (validate.rows): {repair_hint(recipe)}")


def integer_labels(labels: np.ndarray, rows: int, recipe: Recipe, what: str, of: str) -> np.ndarray:
    """Labels as (rows,) int64.

    Args:
        labels: as the source holds them.
        rows: how many samples there are.
        recipe: whose source it is.
        what: the labels, as a person would name them.
        of: the samples, as a person would name them.

    Raises:
        DataError: no whole numbers, or not one for each sample.
    """
    if labels.dtype.kind not in "iu":
        raise DataError(f"{what}: labels of dtype {labels.dtype} given; whole numbers allowed: {repair_hint(recipe)}")
    if labels.shape != (rows,):
        given = f"{len(labels)} labels" if labels.ndim == 1 else f"labels of shape {labels.shape}"
        raise DataError(f"{what}: {given} given; {rows} allowed, one for each sample of {of}: {repair_hint(recipe)}")
    return labels.astype(np.int64)


def part_names(train: int, test: int) -> np.ndarray:
    """`Samples.splits` of a source whose `train` first samples are to train on and the `test` others to test."""
    return np.repeat(np.array(["train", "test"]), [train, test])


def repair_hint(recipe: Recipe) -> str:
    """What to do about a source that the recipe cannot take."""
    return f"mend the source or recipes/{recipe.name}.yaml, then type ae run {recipe.name}"
