"""What every source hands over, and the checks of shape and type that all of them share."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from aeops.errors import DataError
from aeops.recipe import Recipe

DTYPES = ("uint8", "float32", "float64")  # what a dataset may hold


@dataclass(frozen=True)
class Samples:
    """All samples of a source, in its order.

    Attributes:
        array: (n, c, h, w), of one of `DTYPES`; may be memory-mapped, so read it by `blocks`.
        labels: (n,) int64, or None where the source has none.
        origin: where they come from, as a person would name it.
    """

    array: np.ndarray
    labels: np.ndarray | None
    origin: str

    def blocks(self, rows: int) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """At most `rows` samples at a time with their labels, in order, C-ordered and in the machine's byte order."""
        dtype = self.array.dtype.newbyteorder("=")
        for start in range(0, len(self.array), rows):
            block = slice(start, start + rows)
            yield np.ascontiguousarray(self.array[block], dtype=dtype), None if self.labels is None else self.labels[block]


def require_dtype(dtype: np.dtype, recipe: Recipe, what: str) -> None:
    """Raises DataError unless values of `dtype` can be samples."""
    if dtype.newbyteorder("=").name not in DTYPES:
        raise DataError(f"{what}: dtype {dtype} given; {', '.join(DTYPES)} allowed: {what_next(recipe)}")


def image_shape(shape: tuple[int, ...], recipe: Recipe, what: str) -> tuple[int, ...]:
    """(n, c, h, w) of an array of `shape`, which may leave out the channel where the recipe has one channel only.

    Raises:
        DataError: no samples, or samples of another shape than the recipe's input.shape.
    """
    wanted = recipe.fit.input.shape
    allowed = [wanted, wanted[1:]] if wanted[0] == 1 else [wanted]
    if shape[1:] not in allowed:
        forms = " or ".join(f"(n, {', '.join(map(str, form))})" for form in allowed)
        raise DataError(f"{what}: shape {shape} given; {forms} allowed, as the recipe's input.shape says: {what_next(recipe)}")
    if shape[0] == 0:
        least = max(1, int(recipe.validate.rows.min))
        raise DataError(f"{what}: an empty set, 0 samples given; {least} or more allowed (validate.rows): {what_next(recipe)}")
    return (shape[0], *wanted)


def what_next(recipe: Recipe) -> str:
    """What to do about a source that the recipe cannot take."""
    return f"mend the source or recipes/{recipe.name}.yaml, then type ae run {recipe.name}"
