"""Samples in one .npy file, their labels in another.

The samples are (n, *input.shape), or (n, h, w) where an image has one channel; uint8, float32 or float64, texts uint8.
They are memory-mapped, so a file may be larger than memory. The labels are (n,) whole numbers. Pickled arrays are refused.
"""

import math
from pathlib import Path
from typing import IO, TYPE_CHECKING

from aeops.data.sources.files import source_file
from aeops.errors import DataError
from aeops.project import Project
from aeops.recipe.reader import Recipe

if TYPE_CHECKING:
    import numpy as np

    from aeops.data.sources.samples import SourceSamples


def files(recipe: Recipe, project: Project) -> dict[str, Path]:
    """The files that data.source names, by role.

    Raises:
        DataError: one of them does not exist.
    """
    source = recipe.data.source
    found = {"samples": source_file(recipe, project, source.path, "path")}
    if source.labels is not None:
        found["labels"] = source_file(recipe, project, source.labels, "labels")
    return found


def read(recipe: Recipe, project: Project) -> "SourceSamples":
    """The samples, memory-mapped, and their labels.

    Raises:
        DataError: a file that is no whole .npy file, or a shape, dtype or number of labels the recipe does not allow.
    """
    import numpy as np

    from aeops.data.sources.samples import SourceSamples, integer_labels, require_dtype, sample_shape

    found, source = files(recipe, project), recipe.data.source
    shape, dtype = read_npy_header(found["samples"], recipe, source.path)
    require_dtype(dtype, recipe, source.path)
    shape = sample_shape(shape, recipe, source.path)
    array = np.load(found["samples"], mmap_mode="r", allow_pickle=False).reshape(shape)
    if "labels" not in found:
        return SourceSamples(array, None, source.path)
    read_npy_header(found["labels"], recipe, source.labels)
    labels = np.load(found["labels"], allow_pickle=False)
    return SourceSamples(array, integer_labels(labels, shape[0], recipe, source.labels, source.path), source.path)


def read_npy_header(place: Path, recipe: Recipe, what: str) -> tuple[tuple[int, ...], "np.dtype"]:
    """Shape and dtype that the file states, once its length agrees with them.

    Raises:
        DataError: no .npy file, pickled objects in it, or bytes missing at its end.
    """
    with place.open("rb") as file:
        shape, _, dtype = read_stream_header(file, recipe, what)
        start = file.tell()
    needed, given = start + math.prod(shape) * dtype.itemsize, place.stat().st_size
    if given < needed:
        raise DataError(
            f"{what}: truncated: {given} bytes given; its header says shape {shape} of {dtype}, which takes {needed}: "
            f"copy it again, then type ae run {recipe.name}"
        )
    return shape, dtype


def read_stream_header(stream: IO[bytes], recipe: Recipe, what: str) -> tuple[tuple[int, ...], bool, "np.dtype"]:
    """Shape, whether column by column (Fortran order), and dtype that a .npy stream states; it stands at the values after.

    Raises:
        DataError: no .npy stream, or pickled objects in it.
    """
    import numpy as np

    from aeops.data.sources.samples import repair_hint

    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        shape, fortran, dtype = readers[np.lib.format.read_magic(stream)](stream)
    except (ValueError, KeyError, EOFError, SyntaxError) as error:
        raise DataError(
            f"{what}: not readable as .npy ({' '.join(str(error).split())}); a file written by numpy.save is allowed: "
            f"{repair_hint(recipe)}"
        ) from error
    if dtype.hasobject:
        raise DataError(f"{what}: dtype {dtype} given, which is pickled; arrays of numbers are allowed: {repair_hint(recipe)}")
    return shape, fortran, dtype
