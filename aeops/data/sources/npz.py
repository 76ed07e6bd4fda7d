"""Images in named arrays of an .npz file, with their labels and, on request, the edges of each as a further channel.

The arrays are (n, c, h, w), (n, h, w, c) or (n, h, w), as `layout` says. The test arrays, where the recipe names some,
are the source's own test part.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aeops.data.sources.files import source_file
from aeops.errors import DataError
from aeops.project import Project
from aeops.recipe.reader import Recipe
from aeops.recipe.sources import NpzSource, PartArrays

if TYPE_CHECKING:
    import numpy as np

    from aeops.data.sources.archive import ArchiveArray
    from aeops.data.sources.samples import SourceSamples


class NpzReader:
    """The source of kind npz."""

    def files(self, recipe: Recipe, project: Project) -> dict[str, Path]:
        """Return the one file of this source; raise DataError where it does not exist."""
        return {"samples": source_file(recipe, project, recipe.data.source.path, "path")}

    def read(self, recipe: Recipe, project: Project) -> "SourceSamples":
        """Return the images with channels first, train before test, on disk; labels, groups and parts where the recipe has them.

        Raises:
            DataError: a file that is no whole .npz file, a missing array, or a shape, dtype or number of labels or groups the
                recipe does not allow.
        """
        from aeops.data.sources.samples import SourceSamples, part_names, require_source_rows
        from aeops.data.sources.spool import spool_to_disk

        source: NpzSource = recipe.data.source
        archive_path = self.files(recipe, project)["samples"]
        arrays = _find_parts(archive_path, source.samples, recipe)
        for array in arrays:
            _require_images(array, source, recipe)
        counts = [array.shape[0] for array in arrays]
        require_source_rows(sum(counts), recipe, source.path)
        labels = None
        if source.labels is not None:
            labels = _read_npz_labels(_find_parts(archive_path, source.labels, recipe), arrays, recipe)
        blocks = _npz_image_blocks(arrays, source, recipe)
        images = spool_to_disk(blocks, recipe.fit.input.shape, arrays[0].dtype, project.home / "sources")
        splits = None
        if source.own_test:
            splits = part_names(*counts)
        groups = None
        if source.groups is not None:
            groups = _read_npz_groups(_find_parts(archive_path, source.groups, recipe), counts, recipe)
        return SourceSamples(images, labels, source.path, splits, groups)


SOURCE = NpzReader()


def _find_parts(archive_path: Path, parts: PartArrays, recipe: Recipe) -> "list[ArchiveArray]":
    """Return the arrays of the parts, train before test."""
    from aeops.data.sources.archive import find_array

    arrays = [find_array(archive_path, recipe.data.source.path, parts.train, recipe)]
    if parts.test is not None:
        arrays.append(find_array(archive_path, recipe.data.source.path, parts.test, recipe))
    return arrays


def _require_images(array: "ArchiveArray", source: NpzSource, recipe: Recipe) -> None:
    """Raise DataError unless the array holds images of the recipe's shape, but for the channel of the edges."""
    from aeops.data.sources.samples import repair_hint, require_dtype

    require_dtype(array.dtype, recipe, array.display_name)
    channels, height, width = recipe.fit.input.shape
    channels -= source.edges is not None
    sizes = {"n": "n", "c": channels, "h": height, "w": width}
    expected_shape = tuple(map(sizes.__getitem__, source.layout))
    if array.shape[1:] != expected_shape[1:] or (source.layout == "nhw" and channels != 1):
        edges = ""
        if source.edges is not None:
            edges = ", one channel of it for the edges"
        raise DataError(
            f"{array.display_name}: expected shape ({', '.join(map(str, expected_shape))}) with layout {source.layout} (the "
            f"recipe's input.shape is {list(recipe.fit.input.shape)}{edges}), got {array.shape}: {repair_hint(recipe)}"
        )


def _npz_image_blocks(arrays: "list[ArchiveArray]", source: NpzSource, recipe: Recipe) -> "Iterator[np.ndarray]":
    """Yield the images of the arrays, blocks of (k, *input.shape)."""
    from aeops.data.sources.edges import append_edges

    for array in arrays:
        for block in array.blocks():
            images = _move_channels_first(block, source.layout)
            if source.edges is not None:
                images = append_edges(images, source.edges, recipe.fit.input)
            yield images


def _move_channels_first(block: "np.ndarray", layout: str) -> "np.ndarray":
    """Return a block of images as (k, c, h, w)."""
    if layout == "nhw":
        return block[:, None]
    if layout == "nhwc":
        return block.transpose(0, 3, 1, 2)
    return block


def _read_npz_labels(label_arrays: "list[ArchiveArray]", image_arrays: "list[ArchiveArray]", recipe: Recipe) -> "np.ndarray":
    """Return the labels of all parts, (n,) int64."""
    import numpy as np

    from aeops.data.sources.samples import source_labels

    labels = []
    for array, images in zip(label_arrays, image_arrays, strict=True):
        rows = images.shape[0]
        labels.append(source_labels(array.read_all(), rows, recipe, array.display_name, images.display_name))
    return np.concatenate(labels)


def _read_npz_groups(group_arrays: "list[ArchiveArray]", counts: Sequence[int], recipe: Recipe) -> "np.ndarray":
    """Return the groups of all parts, str (n,)."""
    import numpy as np

    from aeops.data.sources.samples import source_groups

    name, groups = recipe.data.source.groups.train, []
    for array, count in zip(group_arrays, counts, strict=True):
        groups.append(source_groups(array.read_all(), count, recipe, name, array.display_name))
    return np.concatenate(groups)
