"""The samples that every source returns, and the checks of shape and type that all of them share."""

import math
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ae_models.names import names_not_in
from aeops.data.source_record import RecordedFiles, SourceRecord, file_stamp
from aeops.errors import DataError
from aeops.kinds.interface import load_kind
from aeops.recipe.reader import Recipe

NAMED_LABELS = 5  # that a message names


class SampleRows(Protocol):
    """Samples that lie in several files, read a slice at a time."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    def __len__(self) -> int: ...

    def __getitem__(self, row_slice: slice) -> np.ndarray: ...


@dataclass(frozen=True)
class KnownSamples:
    """What a source need not read: files that are as they were when their samples were accepted.

    Attributes:
        record: of the last accepted reading.
        ids: of the samples that the dataset holds, and of those that it has let go for good.
    """

    record: SourceRecord
    ids: Container[str]

    def ids_of(self, role: str, path: Path | str, name_samples: Callable[[int], Sequence[str]]) -> Sequence[str]:
        """Return the ids of a file's samples where none of them has to be read; empty where the file has to be read.

        Args:
            role: of the file.
            path: the file.
            name_samples: returns the ids of a file with so many samples.
        """
        known = self.record.files.get(role)
        if known is None or not known.samples or self.record.unchanged(role, file_stamp(path)) is None:
            return []
        names = name_samples(known.samples)
        return names if all(name in self.ids for name in names) else []


@dataclass(frozen=True)
class UnreadSamples:
    """Samples of files that were not read, since they are as they were; what else is known of them is that of today.

    Attributes:
        ids: (k,) str.
        labels: (k,) int64, or None where the source has none.
        groups: (k,) str, or None where there are none.
        splits: as those of `SourceSamples`.
    """

    ids: Sequence[str]
    labels: np.ndarray | None
    groups: np.ndarray | None
    splits: np.ndarray | None


@dataclass(frozen=True)
class SourceSamples:
    """All samples of a source, in its order.

    Attributes:
        array: (n, ...), of a dtype that its kind allows; may be memory-mapped or lie in several files, so read it by `blocks`.
        labels: (n,) int64, or None where the source has none.
        source_name: the source, for dataset.json and the index.
        splits: (n,) of "train" and "test", the source's own parts, or None where it has none.
        groups: (n,) str, or None where there are none: samples of one group share a split.
        metadata: counts that go to dataset.json, such as how many samples were left out.
        ids: the id that each sample came with, such as its file, key or time stamp, (n,) str; none: by their positions.
        set_aside: what could not become a sample, by name -> the reason; counts in the quarantine budget.
        checksums: SHA-256 of all files of the source by their roles, where reading computes them, so that none is read twice.
        files: all files of the source as they were read, where the source reads them one by one; None: the stage records them.
        statistics: further columns of the index by name, (n,) each, of what a block alone does not tell.
        own_splits: (n,) str, the split of each sample where it is not drawn by content or group; None elsewhere.
        times: (n,) float64, seconds since 1970, where samples have times of their own; None elsewhere.
        split_borders: what dataset.json says of the borders between splits that follow each other in time; empty elsewhere.
        unread: further samples, whose files need not be read; None where all are in `array`.
        sha256: of the contents of the samples in `array`, as `sample_sha256` gives them; None: not computed yet.
    """

    array: np.ndarray | SampleRows
    labels: np.ndarray | None
    source_name: str
    splits: np.ndarray | None = None
    groups: np.ndarray | None = None
    metadata: Mapping[str, int] = field(default_factory=dict)
    ids: Sequence[str] | np.ndarray | None = None
    set_aside: Mapping[str, str] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)
    files: RecordedFiles | None = None
    statistics: Mapping[str, np.ndarray] = field(default_factory=dict)
    own_splits: np.ndarray | None = None
    times: np.ndarray | None = None
    split_borders: Mapping[str, Any] = field(default_factory=dict)
    unread: UnreadSamples | None = None
    sha256: Sequence[str] | None = None

    def __post_init__(self) -> None:
        """Raise DataError where two samples have one id."""
        if self.ids is None or len(set(self.ids)) == len(self.ids):
            return
        [(repeated, count)] = Counter(self.ids).most_common(1)
        raise DataError(f"{self.source_name}: expected an id of its own for each sample, got {repeated!r} {count} times")

    def blocks(self, size: int) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield the samples in order, at most `size` bytes at a time (one sample where it is larger).

        Yields:
            The rows of a block, and its samples (k, ...), C-ordered and in the machine's byte order.
        """
        dtype = self.array.dtype.newbyteorder("=")
        rows = max(1, size // (math.prod(self.array.shape[1:]) * dtype.itemsize))
        for start in range(0, len(self.array), rows):
            row_slice = slice(start, min(start + rows, len(self.array)))
            yield row_slice, np.ascontiguousarray(self.array[row_slice], dtype=dtype)


def require_dtype(dtype: np.dtype, recipe: Recipe, display_name: str) -> None:
    """Raise DataError unless values of `dtype` can be samples; `display_name` names the file or array in the message."""
    kind_dtypes = load_kind(recipe.fit.input.kind).SAMPLE_DTYPES
    if dtype.newbyteorder("=").name not in kind_dtypes:
        raise DataError(f"{display_name}: expected dtype {' or '.join(kind_dtypes)}, got {dtype}: {repair_hint(recipe)}")


def sample_shape(shape: tuple[int, ...], recipe: Recipe, display_name: str) -> tuple[int, ...]:
    """Return (n, *input.shape) for an array of `shape`, which may leave out the channel where the recipe has one channel only.

    Args:
        shape: of the array.
        recipe: gives input.shape.
        display_name: the file or array, for messages.

    Raises:
        DataError: no samples, or samples of another shape than the recipe's input.shape.
    """
    input_shape = recipe.fit.input.shape
    allowed_shapes = [input_shape]
    if input_shape[0] == 1:
        allowed_shapes.append(input_shape[1:])
    if shape[1:] not in allowed_shapes:
        expected = describe_shapes(allowed_shapes)
        raise DataError(
            f"{display_name}: expected shape {expected} (the recipe's input.shape), got {shape}: {repair_hint(recipe)}"
        )
    require_source_rows(shape[0], recipe, display_name)
    return (shape[0], *input_shape)


def describe_shapes(sample_shapes: Sequence[tuple[int, ...]]) -> str:
    """Return the shapes that n samples may have, for a message.

    >>> describe_shapes([(1, 8, 8), (8, 8)])
    '(n, 1, 8, 8) or (n, 8, 8)'
    """
    return " or ".join(f"(n, {', '.join(map(str, shape))})" for shape in sample_shapes)


def require_source_rows(rows: int, recipe: Recipe, display_name: str) -> None:
    """Raise DataError where there are none."""
    if rows == 0:
        min_rows = max(1, int(recipe.validate.rows.min))
        raise DataError(
            f"{display_name}: expected {min_rows} or more samples (validate.rows), got an empty set: {repair_hint(recipe)}"
        )


def source_labels(labels: np.ndarray, rows: int, recipe: Recipe, display_name: str, samples_name: str) -> np.ndarray:
    """Return a source's labels as (rows,) int64: whole numbers as they are, names as their places in data.labels.

    See `integer_labels`.

    Raises:
        DataError: names that data.labels does not have, or as `integer_labels`.
    """
    if labels.dtype.kind != "U":
        return integer_labels(labels, rows, recipe, display_name, samples_name)
    found_names = np.unique(labels).tolist()
    if not recipe.label_names:
        raise DataError(
            f"{display_name}: expected whole numbers as labels, as in data.labels, got names: write the names in data.labels of "
            f"recipes/{recipe.name}.yaml, such as labels: [{', '.join(found_names[:NAMED_LABELS])}], then type ae run "
            f"{recipe.name}"
        )
    unexpected_names = names_not_in(found_names, recipe.label_names)
    if unexpected_names:
        raise DataError(
            f"{display_name}: expected the labels {', '.join(recipe.label_names)} (data.labels), got "
            f"{', '.join(unexpected_names[:NAMED_LABELS])}: {repair_hint(recipe)}"
        )
    numbers = np.zeros(labels.shape, dtype=np.int64)
    for number, name in enumerate(recipe.label_names):
        numbers[labels == name] = number
    return integer_labels(numbers, rows, recipe, display_name, samples_name)


def integer_labels(labels: np.ndarray, rows: int, recipe: Recipe, display_name: str, samples_name: str) -> np.ndarray:
    """Return labels as (rows,) int64.

    Args:
        labels: as the source holds them.
        rows: the number of samples.
        recipe: the recipe whose source it is.
        display_name: the labels, for messages.
        samples_name: the samples, for messages.

    Raises:
        DataError: no whole numbers, or not one for each sample.
    """
    if labels.dtype.kind not in "iu":
        raise DataError(f"{display_name}: expected whole numbers as labels, got dtype {labels.dtype}: {repair_hint(recipe)}")
    if labels.shape != (rows,):
        size = f"shape {labels.shape}"
        if labels.ndim == 1:
            size = str(len(labels))
        raise DataError(
            f"{display_name}: expected {rows} labels, one for each sample of {samples_name}, got {size}: {repair_hint(recipe)}"
        )
    return labels.astype(np.int64)


def part_names(train: int, test: int) -> np.ndarray:
    """Return `SourceSamples.splits` of a source with `train` samples to train on, followed by `test` samples to test on."""
    return np.repeat(np.array(["train", "test"]), [train, test])


def repair_hint(recipe: Recipe) -> str:
    """Return what to do about a source that the recipe does not allow."""
    return f"repair the source or recipes/{recipe.name}.yaml, then type ae run {recipe.name}"


def source_groups(array: np.ndarray, count: int, recipe: Recipe, name: str, display_name: str) -> np.ndarray:
    """Return the group of each sample, str (n,), as `NAME-GROUP`.

    Args:
        array: whole numbers or names, as they were read.
        count: of samples.
        recipe: the recipe whose source it is.
        name: of the groups.
        display_name: of the array, for messages.

    Raises:
        DataError: an array of another shape or type.
    """
    if array.shape != (count,) or array.dtype.kind not in "uiU":
        raise DataError(
            f"{display_name}: expected one whole number or name for each of {count} samples, got {array.shape} of "
            f"{array.dtype}: {repair_hint(recipe)}"
        )
    return np.array([f"{name}-{group}" for group in array])
