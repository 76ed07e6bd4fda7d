"""Samples in a folder that grows by the day: the last days up to the newest file, such as the inbox that is being scored.

    2026-03-01.npy            samples, as in a source of kind npy; the day stands first in the name
    2026-03-01-line2.npy      a day may have several files, ordered by their names
    2026-03-01.labels.npy     with `labels: true`, the labels of 2026-03-01.npy; else ignored

Days without a file are no error. Files are memory-mapped, and no two of them are ever joined in memory. A file whose name begins
with a dot, or ends in .part, .aside or .tmp, is still being written. The window is counted from the newest file and not from
the clock, so the same files give the same samples whenever they are read.
"""

import re
from collections.abc import Sequence
from datetime import date, timedelta
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from ae_models.mappings import map_values, select_keys, values_at
from ae_models.names import names_not_in
from ae_models.spec import join_names
from aeops.data.source_record import file_stamp, record_files
from aeops.data.sources.files import source_folder
from aeops.errors import DataError
from aeops.project import Project
from aeops.recipe.reader import Recipe
from aeops.recipe.sources import DaysSource

if TYPE_CHECKING:
    import numpy as np

    from aeops.data.sources.samples import KnownSamples, SourceSamples

FILE_NAME = re.compile(r"(\d{4}-\d\d-\d\d)([^0-9].*)?\.npy")
LABELS_SUFFIX = ".labels.npy"
UNFINISHED_SUFFIXES = (".part", ".aside", ".tmp")
NAMED_FILES = 5  # files that a message names


class DaysReader:
    """The source of kind days."""

    def files(self, recipe: Recipe, project: Project) -> dict[str, Path]:
        """Return the files of the window by their names, in the order of the days; with labels, each file's labels after it.

        Raises:
            DataError: there is no such folder, it holds no samples, a name is none of those above, or labels are missing.
        """
        source: DaysSource = recipe.data.source
        next_step = f"put it there or correct data.source.path in recipes/{recipe.name}.yaml, then type ae run {recipe.name}"
        folder = source_folder(project, source.path, next_step)
        names = sorted(path.name for path in folder.iterdir() if path.is_file() and is_finished(path.name))
        sample_names, label_names = [], []
        for name in names:
            if not name.endswith(LABELS_SUFFIX):
                sample_names.append(name)
            elif source.labels:
                label_names.append(name)
        days = _parse_days(sample_names, recipe, folder)
        _require_labels(sample_names, label_names, recipe, folder)
        first_day = max(days.values()) - timedelta(days=source.window_days - 1)
        paths = {}
        for name in sample_names:
            if days[name] < first_day:
                continue
            paths[name] = folder / name
            if source.labels:
                paths[_labels_name(name)] = folder / _labels_name(name)
        return paths

    def read(self, recipe: Recipe, project: Project) -> "SourceSamples":
        """Return the samples of the window, each file memory-mapped, and their labels where the recipe asks for them.

        Raises:
            DataError: a file that is no whole .npy file, or a shape, dtype or number of labels the recipe does not allow.
        """
        return self.read_new(recipe, project, None)

    def read_new(self, recipe: Recipe, project: Project, known: "KnownSamples | None") -> "SourceSamples":
        """Return the same, without the content of files whose samples are known; None: no file is."""
        from aeops.data.sources.samples import SourceSamples, UnreadSamples, require_source_rows

        source: DaysSource = recipe.data.source
        paths = self.files(recipe, project)
        stamps = map_values(file_stamp, paths)
        parts = {}
        for name, path in paths.items():
            if not name.endswith(LABELS_SUFFIX) and (part := _map_samples(path, recipe)) is not None:
                parts[name] = part
        require_source_rows(len(parts), recipe, source.path)
        _require_one_dtype(parts, recipe)
        ids = {name: _row_names(name, len(part)) for name, part in parts.items()}
        unread = []
        if known is not None:
            unread = [name for name in parts if list(known.ids_of(name, paths[name], partial(_row_names, name))) == ids[name]]
        read = names_not_in(parts, unread)

        def day_labels(names: list[str]) -> "np.ndarray | None":
            return _join_labels(select_keys(parts, names), paths, recipe) if source.labels else None

        rest = UnreadSamples(list(chain.from_iterable(values_at(ids, unread))), day_labels(unread), None, None)
        files = record_files(paths, stamps, None if known is None else known.record, samples=map_values(len, parts))
        return SourceSamples(
            JoinedArrays(values_at(parts, read) or [next(iter(parts.values()))[:0]]),
            day_labels(read),
            source.path,
            ids=list(chain.from_iterable(values_at(ids, read))),
            checksums=files.checksums,
            files=files,
            unread=rest if unread else None,
        )


SOURCE = DaysReader()


# ---------------------------------------------------------------- names of files


def is_finished(name: str) -> bool:
    """Return whether a file of this name is written completely."""
    return not name.startswith(".") and not name.endswith(UNFINISHED_SUFFIXES)


def _parse_day(name: str) -> date | None:
    """Return the day that a file's name begins with, or None where the name is not one of this source."""
    match = FILE_NAME.fullmatch(name)
    if match is None:
        return None
    try:
        return date.fromisoformat(match[1])
    except ValueError:  # such as the 30th of February
        return None


def _row_names(name: str, count: int) -> list[str]:
    """Return the ids of a file's samples: they stay as they are when earlier files go."""
    return [f"{name}:{row}" for row in range(count)]


def _labels_name(name: str) -> str:
    """Return the name of the file of labels that goes with a file of samples."""
    return name.removesuffix(".npy") + LABELS_SUFFIX


def _parse_days(sample_names: Sequence[str], recipe: Recipe, folder: Path) -> dict[str, date]:
    """Return the day of each file of samples; raise DataError where there is no file, or one with another name."""
    next_step = f"then type ae run {recipe.name}"
    days, other_names = {}, []
    for name in sample_names:
        day = _parse_day(name)
        if day is None:
            other_names.append(name)
        else:
            days[name] = day
    if other_names:
        raise DataError(
            f"{folder}: expected names such as YYYY-MM-DD.npy and YYYY-MM-DD-WORD.npy, got {_join_some(other_names)}: rename or "
            f"remove the others, {next_step}"
        )
    if not days:
        raise DataError(f"{folder}: expected a file of samples such as YYYY-MM-DD.npy, got none: put one there, {next_step}")
    return days


def _require_labels(sample_names: Sequence[str], label_names: Sequence[str], recipe: Recipe, folder: Path) -> None:
    """Raise DataError unless each file of samples has its labels, if the recipe asks for them, and there are no other labels."""
    next_step = f"then type ae run {recipe.name}"
    expected_names = set()
    if recipe.data.source.labels:
        expected_names = set(map(_labels_name, sample_names))
    if missing_names := sorted(expected_names - set(label_names)):
        raise DataError(
            f"{folder}: expected a file of labels for each file of samples (data.source.labels), got no "
            f"{_join_some(missing_names)}: add it, {next_step}"
        )
    if unexpected_names := sorted(set(label_names) - expected_names):
        raise DataError(
            f"{folder}: expected samples for each file of labels, got only {_join_some(unexpected_names)}: add them or remove "
            f"it, {next_step}"
        )


def _join_some(names: Sequence[str]) -> str:
    """Return the first few names, and how many more there are."""
    text = join_names(names[:NAMED_FILES])
    if len(names) > NAMED_FILES:
        text += f" and {len(names) - NAMED_FILES} more"
    return text


# ---------------------------------------------------------------- content of files


def _map_samples(path: Path, recipe: Recipe) -> "np.ndarray | None":
    """Return the samples of a file as (n, *input.shape), memory-mapped, or None where the file is empty."""
    from aeops.data.sources.npy import map_source_npy
    from aeops.data.sources.samples import require_dtype, sample_shape

    array = map_source_npy(path, recipe, path.name)
    require_dtype(array.dtype, recipe, path.name)
    if array.shape[:1] == (0,):
        return None
    return array.reshape(sample_shape(array.shape, recipe, path.name))


def _read_day_labels(path: Path, rows: int, recipe: Recipe, samples_name: str) -> "np.ndarray":
    """Return the labels of a file of samples as (rows,) int64."""
    from aeops.data.sources.npy import map_source_npy
    from aeops.data.sources.samples import source_labels

    return source_labels(map_source_npy(path, recipe, path.name), rows, recipe, path.name, samples_name)


def _join_labels(parts: "dict[str, np.ndarray]", paths: dict[str, Path], recipe: Recipe) -> "np.ndarray":
    """Return the labels of these files of samples as (n,) int64."""
    import numpy as np

    labels = [_read_day_labels(paths[_labels_name(name)], len(part), recipe, name) for name, part in parts.items()]
    return np.concatenate([*labels, np.zeros(0, np.int64)])


def _require_one_dtype(parts: "dict[str, np.ndarray]", recipe: Recipe) -> None:
    """Raise DataError where the files hold different kinds of numbers."""
    from aeops.data.sources.samples import repair_hint

    first_name = next(iter(parts))
    expected_dtype = parts[first_name].dtype.newbyteorder("=")
    for name, part in parts.items():
        dtype = part.dtype.newbyteorder("=")
        if dtype != expected_dtype:
            raise DataError(f"{name}: expected dtype {expected_dtype}, as in {first_name}, got {dtype}: {repair_hint(recipe)}")


class JoinedArrays:
    """Arrays (n_i, ...) of one dtype, read as one (n, ...) without being joined: a slice copies the rows it names.

    Attributes:
        shape: of the whole.
        dtype: of the whole, in the machine's byte order.
    """

    def __init__(self, parts: "list[np.ndarray]") -> None:
        self._parts = parts
        self.shape: tuple[int, ...] = (sum(map(len, parts)), *parts[0].shape[1:])
        self.dtype: np.dtype = parts[0].dtype.newbyteorder("=")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, row_slice: slice) -> "np.ndarray":
        """Return consecutive rows as an array of their own."""
        import numpy as np

        start, end, step = row_slice.indices(len(self))
        if step != 1:
            raise ValueError(f"expected a slice of consecutive rows (step 1), got a step of {step}")
        blocks, offset = [], 0
        for part in self._parts:
            blocks.append(part[max(0, start - offset) : max(0, end - offset)])
            offset += len(part)
        return np.concatenate(blocks, dtype=self.dtype)
