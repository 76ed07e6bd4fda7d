"""Samples in one .npy file, their labels and groups in others.

The samples are (n, *input.shape), or (n, h, w) where an image has one channel; uint8, float32 or float64, texts uint8.
They are memory-mapped, so a file may be larger than memory. The labels are (n,) whole numbers or names,
and so are the groups. Pickled arrays are refused.
"""

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

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
        if source.groups is not None:
            paths["groups"] = source_file(recipe, project, source.groups, "groups")
        return paths

    def read(self, recipe: Recipe, project: Project) -> "SourceSamples":
        """Return the samples, memory-mapped, with their labels and groups.

        Raises:
            DataError: a file that is no whole .npy file, or a shape, dtype or number of labels or groups the recipe does not
                allow.
        """
        from aeops.data.sources.samples import SourceSamples, require_dtype, sample_shape, source_groups, source_labels

        source: NpySource = recipe.data.source
        paths = self.files(recipe, project)
        array = map_source_npy(paths["samples"], recipe, source.path)
        require_dtype(array.dtype, recipe, source.path)
        shape = sample_shape(array.shape, recipe, source.path)
        array = array.reshape(shape)
        labels = groups = None
        if source.labels is not None:
            found = map_source_npy(paths["labels"], recipe, source.labels)
            labels = source_labels(found, shape[0], recipe, source.labels, source.path)
        if source.groups is not None:
            found = map_source_npy(paths["groups"], recipe, source.groups)
            groups = source_groups(found, shape[0], recipe, PurePosixPath(source.groups).stem, source.groups)
        return SourceSamples(array, labels, source.path, groups=groups)


SOURCE = NpyReader()


def map_source_npy(path: Path, recipe: Recipe, display_name: str) -> "np.ndarray":
    """Return the array of a .npy file, memory-mapped.

    Args:
        path: the file.
        recipe: the recipe whose source it is.
        display_name: the file, for messages.

    Raises:
        DataError: no whole .npy file of numbers.
    """
    from aeops.data.sources.samples import repair_hint
    from aeops.kinds.decoding import DecodeError
    from aeops.kinds.npy_bytes import map_npy

    try:
        return map_npy(path)
    except DecodeError as error:
        raise DataError(
            f"{display_name}: not readable as .npy ({error}): expected a whole file written by numpy.save: {repair_hint(recipe)}"
        ) from error
