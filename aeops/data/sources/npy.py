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
from aeops.recipe.sources import NpySource

if TYPE_CHECKING:
    import numpy as np

    from aeops.data.sources.samples import SourceSamples


class NpyReader:
    """The source of kind npy."""

    def files(self, recipe: Recipe, project: Project) -> dict[str, Path]:
        """Return the files that data.source names, by role.

        Raises:
            DataError: one of them does not exist.
        """
        source: NpySource = recipe.data.source
        paths = {"samples": source_file(recipe, project, source.path, "path")}
        if source.labels is not None:
            paths["labels"] = source_file(recipe, project, source.labels, "labels")
        return paths

    def read(self, recipe: Recipe, project: Project) -> "SourceSamples":
        """Return the samples, memory-mapped, and their labels.

        Raises:
            DataError: a file that is no whole .npy file, or a shape, dtype or number of labels the recipe does not allow.
        """
        import numpy as np

        from aeops.data.sources.samples import SourceSamples, integer_labels, require_dtype, sample_shape

        source: NpySource = recipe.data.source
        paths = self.files(recipe, project)
        shape, dtype = read_npy_header(paths["samples"], recipe, source.path)
        require_dtype(dtype, recipe, source.path)
        shape = sample_shape(shape, recipe, source.path)
        array = np.load(paths["samples"], mmap_mode="r", allow_pickle=False).reshape(shape)
        if source.labels is None:
            return SourceSamples(array, None, source.path)
        read_npy_header(paths["labels"], recipe, source.labels)
        labels = np.load(paths["labels"], allow_pickle=False)
        return SourceSamples(array, integer_labels(labels, shape[0], recipe, source.labels, source.path), source.path)


SOURCE = NpyReader()


def read_npy_header(path: Path, recipe: Recipe, display_name: str) -> tuple[tuple[int, ...], "np.dtype"]:
    """Return the shape and dtype in the header of a .npy file, once its length agrees with them.

    Args:
        path: the file.
        recipe: the recipe whose source it is.
        display_name: the file, for messages.

    Raises:
        DataError: no .npy file, pickled objects in it, or bytes missing at its end.
    """
    with path.open("rb") as file:
        shape, _, dtype = read_stream_header(file, recipe, display_name)
        start = file.tell()
    expected_bytes, file_bytes = start + math.prod(shape) * dtype.itemsize, path.stat().st_size
    if file_bytes < expected_bytes:
        raise DataError(
            f"{display_name}: truncated: expected {expected_bytes} bytes for shape {shape} of {dtype}, as its header says, got "
            f"{file_bytes}: copy it again, then type ae run {recipe.name}"
        )
    return shape, dtype


def read_stream_header(stream: IO[bytes], recipe: Recipe, display_name: str) -> tuple[tuple[int, ...], bool, "np.dtype"]:
    """Read the header of a .npy stream, whose values come next.

    Args:
        stream: the stream, at its start.
        recipe: the recipe whose source it is.
        display_name: the stream, for messages.

    Returns:
        The shape, whether the values stand column by column (Fortran order), and the dtype.

    Raises:
        DataError: no .npy stream, or pickled objects in it.
    """
    import numpy as np

    from aeops.data.sources.samples import repair_hint

    header_readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        shape, fortran_order, dtype = header_readers[np.lib.format.read_magic(stream)](stream)
    except (ValueError, KeyError, EOFError, SyntaxError) as error:
        raise DataError(
            f"{display_name}: not readable as .npy ({' '.join(str(error).split())}): expected a file written by numpy.save: "
            f"{repair_hint(recipe)}"
        ) from error
    if dtype.hasobject:
        raise DataError(f"{display_name}: expected an array of numbers, got pickled objects ({dtype}): {repair_hint(recipe)}")
    return shape, fortran_order, dtype
