"""Samples in a folder that grows by the day: the last days up to the newest file, such as the inbox that is being scored.

    2026-03-01.npy            samples, as in a source of kind npy; the day stands first in the name
    2026-03-01-line2.npy      a day may have several files, ordered by their names
    2026-03-01.labels.npy     with `labels: true`, the labels of 2026-03-01.npy; else nothing looks at it

Days without a file are no fault. Files are memory-mapped, and no two of them are ever joined in memory. A file whose name begins
with a dot, or ends in .part, .aside or .tmp, is still being written. The window is counted from the newest file and not from
the clock, so the same files give the same samples whenever they are read.
"""

import re
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ae_models.spec import join_names
from aeops.data.sources.files import source_folder
from aeops.errors import DataError
from aeops.project import Project
from aeops.recipe.reader import Recipe
from aeops.recipe.sources import DaysSource

if TYPE_CHECKING:
    import numpy as np

    from aeops.data.sources.samples import SourceSamples

NAME = re.compile(r"(\d{4}-\d\d-\d\d)([^0-9].*)?\.npy")
LABELS_SUFFIX = ".labels.npy"
UNFINISHED = (".part", ".aside", ".tmp")
NAMED = 5  # files that a message names


def files(recipe: Recipe, project: Project) -> dict[str, Path]:
    """The files of the window by their names, in the order of the days; with labels, each file's labels after it.

    Raises:
        DataError: there is no such folder, it holds no samples, a name is none of those above, or labels are missing.
    """
    source: DaysSource = recipe.data.source
    again = f"put it there or correct data.source.path in recipes/{recipe.name}.yaml, then type ae run {recipe.name}"
    folder = source_folder(project, source.path, again)
    names = sorted(place.name for place in folder.iterdir() if place.is_file() and is_finished(place.name))
    days = {name: day_of(name) for name in names if not name.endswith(LABELS_SUFFIX)}
    labels = [name for name in names if name.endswith(LABELS_SUFFIX)] if source.labels else []
    require_names(days, labels, recipe, folder)
    newest = max(day for day in days.values() if day is not None)
    first = newest - timedelta(days=source.window_days - 1)
    chosen = [name for name, day in days.items() if day is not None and day >= first]
    found = [part for name in chosen for part in ([name, labels_of(name)] if source.labels else [name])]
    return {name: folder / name for name in found}


def is_finished(name: str) -> bool:
    return not name.startswith(".") and not name.endswith(UNFINISHED)


def day_of(name: str) -> date | None:
    """The day that a file's name begins with; None where it is no name of this source."""
    form = NAME.fullmatch(name)
    try:
        return date.fromisoformat(form[1]) if form else None
    except ValueError:  # such as the 30th of February
        return None


def labels_of(name: str) -> str:
    """The name of the file of labels that goes with a file of samples."""
    return name.removesuffix(".npy") + LABELS_SUFFIX


def require_names(days: dict[str, date | None], labels: Sequence[str], recipe: Recipe, folder: Path) -> None:
    """Raises DataError unless there are samples, every file is called as it should be, and `labels` are theirs."""
    source: DaysSource = recipe.data.source
    again = f"then type ae run {recipe.name}"
    wrong = [name for name, day in days.items() if day is None]
    if wrong:
        raise DataError(
            f"{folder}: {told(wrong)} given; YYYY-MM-DD.npy and YYYY-MM-DD-WORD.npy are allowed: rename or remove the others, "
            f"{again}"
        )
    if not days:
        raise DataError(f"{folder}: no file of samples; YYYY-MM-DD.npy is allowed: put one there, {again}")
    wanted = {labels_of(name) for name in days} if source.labels else set()
    if missing := sorted(wanted - set(labels)):
        raise DataError(f"{folder}: no {told(missing)}; with data.source.labels each file of samples has one: add it, {again}")
    if foreign := sorted(set(labels) - wanted):
        raise DataError(f"{folder}: {told(foreign)} given with no samples of that name: add them or remove it, {again}")


def told(names: Sequence[str]) -> str:
    """The first few names."""
    return join_names(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


# ---------------------------------------------------------------- reading


def read(recipe: Recipe, project: Project) -> "SourceSamples":
    """The samples of the window, each file memory-mapped, and their labels where the recipe asks for them.

    Raises:
        DataError: a file that is no whole .npy file, or a shape, dtype or number of labels the recipe does not allow.
    """
    import numpy as np

    from aeops.data.sources.npy import read_npy_header
    from aeops.data.sources.samples import SourceSamples, integer_labels, require_samples

    source: DaysSource = recipe.data.source
    found = files(recipe, project)
    parts = {name: mapped(place, recipe) for name, place in found.items() if not name.endswith(LABELS_SUFFIX)}
    filled = {name: part for name, part in parts.items() if part is not None}
    require_samples(len(filled), recipe, source.path)
    require_one_dtype(filled, recipe)
    array = JoinedArrays(list(filled.values()))
    if not source.labels:
        return SourceSamples(array, None, source.path)
    labels = []
    for name, part in filled.items():
        place = found[labels_of(name)]
        read_npy_header(place, recipe, place.name)
        labels.append(integer_labels(np.load(place, allow_pickle=False), len(part), recipe, place.name, name))
    return SourceSamples(array, np.concatenate(labels), source.path)


def mapped(place: Path, recipe: Recipe) -> "np.ndarray | None":
    """The samples of a file as (n, *input.shape), memory-mapped; None where a day brought none."""
    import numpy as np

    from aeops.data.sources.npy import read_npy_header
    from aeops.data.sources.samples import require_dtype, sample_shape

    shape, dtype = read_npy_header(place, recipe, place.name)
    require_dtype(dtype, recipe, place.name)
    if shape[:1] == (0,):
        return None
    shape = sample_shape(shape, recipe, place.name)
    array: np.ndarray = np.load(place, mmap_mode="r", allow_pickle=False).reshape(shape)
    return array


def require_one_dtype(parts: "dict[str, np.ndarray]", recipe: Recipe) -> None:
    """Raises DataError where the files hold different kinds of numbers."""
    from aeops.data.sources.samples import repair_hint

    kinds = {name: part.dtype.newbyteorder("=") for name, part in parts.items()}
    first = next(iter(kinds))
    for name, kind in kinds.items():
        if kind != kinds[first]:
            raise DataError(f"{name}: dtype {kind} given; {kinds[first]} allowed, as in {first}: {repair_hint(recipe)}")


class JoinedArrays:
    """Arrays (n_i, ...) of one dtype, read as one (n, ...) without being joined: a slice copies what it asks for.

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

    def __getitem__(self, places: slice) -> "np.ndarray":
        """Neighbouring rows as an array of their own."""
        import numpy as np

        start, stop, step = places.indices(len(self))
        if step != 1:
            raise ValueError(f"a step of {step} given; neighbouring rows are allowed")
        pieces, first = [], 0
        for part in self._parts:
            pieces.append(part[max(0, start - first) : max(0, stop - first)])
            first += len(part)
        return np.concatenate(pieces, dtype=self.dtype)
