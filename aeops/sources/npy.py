"""Samples in one .npy file, their labels in another.

The samples are (n, c, h, w), or (n, h, w) where a sample has one channel; uint8, float32 or float64. They are
memory-mapped, so a file may be larger than memory. The labels are (n,) whole numbers. Pickled arrays are refused.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from aeops.errors import DataError
from aeops.project import Project
from aeops.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np

    from aeops.sources.samples import Samples


def files(recipe: Recipe, project: Project) -> dict[str, Path]:
    """The files that data.source names, by role.

    Raises:
        DataError: one of them does not exist.
    """
    source = recipe.data.source
    named = {"samples": ("path", source.path), "labels": ("labels", source.labels)}
    found = {}
    for role, (key, value) in named.items():
        if value is not None:
            found[role] = project.root / value
            if not found[role].is_file():
                raise DataError(
                    f"{value}: no such file; data.source.{key} in recipes/{recipe.name}.yaml must name a .npy file, "
                    f"relative to {project.root}: put it there or correct the recipe, then type ae run {recipe.name}"
                )
    return found


def read(recipe: Recipe, project: Project) -> "Samples":
    """The samples, memory-mapped, and their labels.

    Raises:
        DataError: a file that is no whole .npy file, or a shape, dtype or number of labels the recipe does not allow.
    """
    import numpy as np

    from aeops.sources.samples import Samples, image_shape, require_dtype

    found = files(recipe, project)
    what = str(recipe.data.source.path)
    shape, dtype = header(found["samples"], recipe, what)
    require_dtype(dtype, recipe, what)
    shape = image_shape(shape, recipe, what)
    array = np.load(found["samples"], mmap_mode="r", allow_pickle=False).reshape(shape)
    labels = read_labels(found["labels"], shape[0], recipe) if "labels" in found else None
    return Samples(array, labels, what)


def read_labels(place: Path, rows: int, recipe: Recipe) -> "np.ndarray":
    """The labels of `rows` samples as (rows,) int64."""
    import numpy as np

    from aeops.sources.samples import what_next

    what = str(recipe.data.source.labels)
    shape, dtype = header(place, recipe, what)
    if dtype.kind not in "iu":
        raise DataError(f"{what}: labels of dtype {dtype} given; whole numbers allowed: {what_next(recipe)}")
    if shape != (rows,):
        given = f"{shape[0]} labels" if len(shape) == 1 else f"labels of shape {shape}"
        raise DataError(
            f"{what}: {given} given; {rows} allowed, one for each sample of {recipe.data.source.path}: {what_next(recipe)}"
        )
    labels: np.ndarray = np.load(place, allow_pickle=False)
    return labels.astype(np.int64)


def header(place: Path, recipe: Recipe, what: str) -> tuple[tuple[int, ...], "np.dtype"]:
    """Shape and dtype that the file states, once its length agrees with them.

    Raises:
        DataError: no .npy file, pickled objects in it, or bytes missing at its end.
    """
    import numpy as np

    from aeops.sources.samples import what_next

    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        with place.open("rb") as file:
            shape, _, dtype = readers[np.lib.format.read_magic(file)](file)
            start = file.tell()
    except (ValueError, KeyError, EOFError, SyntaxError) as error:
        raise DataError(
            f"{what}: not readable as .npy ({' '.join(str(error).split())}); a file written by numpy.save is allowed: "
            f"{what_next(recipe)}"
        ) from error
    if dtype.hasobject:
        raise DataError(f"{what}: dtype {dtype} given, which is pickled; arrays of numbers are allowed: {what_next(recipe)}")
    needed, given = start + math.prod(shape) * dtype.itemsize, place.stat().st_size
    if given < needed:
        raise DataError(
            f"{what}: truncated: {given} bytes given; its header says shape {shape} of {dtype}, which takes {needed}: "
            f"copy it again, then type ae run {recipe.name}"
        )
    return shape, dtype
