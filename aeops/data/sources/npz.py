"""Images in named arrays of an .npz file, with their labels and, if asked for, the edges of each as a further channel.

The arrays are (n, c, h, w), (n, h, w, c) or (n, h, w), as `layout` says. The test arrays, where the recipe names some,
are the source's own test part.
"""

from collections.abc import Iterator
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


def files(recipe: Recipe, project: Project) -> dict[str, Path]:
    """The one file of this source; raises DataError where it does not exist."""
    return {"samples": source_file(recipe, project, recipe.data.source.path, "path")}


def read(recipe: Recipe, project: Project) -> "SourceSamples":
    """The images with channels first, train before test, on disk; labels and parts where the recipe names them.

    Raises:
        DataError: a file that is no whole .npz file, a missing array, or a shape, dtype or number of labels the recipe
            does not allow.
    """
    from aeops.data.sources.samples import SourceSamples, part_names, require_samples
    from aeops.data.sources.spool import spool_to_disk

    source: NpzSource = recipe.data.source
    place = files(recipe, project)["samples"]
    arrays = opened(place, source, source.samples, recipe)
    for array in arrays:
        require_images(array, source, recipe)
    counts = [array.shape[0] for array in arrays]
    require_samples(sum(counts), recipe, source.path)
    labels = read_labels(opened(place, source, source.labels, recipe), arrays, recipe) if source.labels else None
    made = (block for array in arrays for block in made_images(array, source, recipe))
    images = spool_to_disk(made, recipe.fit.input.shape, arrays[0].dtype, project.home / "sources")
    splits = part_names(*counts) if source.own_test else None
    return SourceSamples(images, labels, source.path, splits)


def opened(place: Path, source: NpzSource, parts: PartArrays, recipe: Recipe) -> "list[ArchiveArray]":
    """The arrays of the parts, train before test."""
    from aeops.data.sources.archive import find_array

    return [find_array(place, source.path, name, recipe) for name in (parts.train, parts.test) if name is not None]


def require_images(array: "ArchiveArray", source: NpzSource, recipe: Recipe) -> None:
    """Raises DataError unless the array holds images of the recipe's shape, but for the channel of the edges."""
    from aeops.data.sources.samples import repair_hint, require_dtype

    require_dtype(array.dtype, recipe, array.what)
    channels, height, width = recipe.fit.input.shape
    channels -= source.edges is not None
    sizes = {"n": "n", "c": channels, "h": height, "w": width}
    allowed = tuple(sizes[axis] for axis in source.layout)
    if array.shape[1:] != allowed[1:] or (source.layout == "nhw" and channels != 1):
        edges = ", one channel of it for the edges" if source.edges else ""
        raise DataError(
            f"{array.what}: shape {array.shape} given; ({', '.join(map(str, allowed))}) allowed with layout {source.layout}, "
            f"as the recipe's input.shape {list(recipe.fit.input.shape)} says{edges}: {repair_hint(recipe)}"
        )


def made_images(array: "ArchiveArray", source: NpzSource, recipe: Recipe) -> "Iterator[np.ndarray]":
    """The images of an array, blocks of (k, *input.shape)."""
    from aeops.data.sources.edges import append_edges

    for block in array.blocks():
        images = channels_first(block, source.layout)
        yield append_edges(images, source.edges, recipe.fit.input) if source.edges else images


def channels_first(block: "np.ndarray", layout: str) -> "np.ndarray":
    """A block of images as (k, c, h, w)."""
    if layout == "nhw":
        return block[:, None]
    return block.transpose(0, 3, 1, 2) if layout == "nhwc" else block


def read_labels(labels: "list[ArchiveArray]", arrays: "list[ArchiveArray]", recipe: Recipe) -> "np.ndarray":
    """The labels of all parts, (n,) int64."""
    import numpy as np

    from aeops.data.sources.samples import integer_labels

    parts = zip(labels, arrays, strict=True)
    return np.concatenate([integer_labels(one.whole(), of.shape[0], recipe, one.what, of.what) for one, of in parts])
