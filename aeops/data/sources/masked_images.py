"""Images with labels in an .npz file, and a mask of the defects of each.

The file holds the images, uint8 (n, h, w) or (n, h, w, c), one label an image, and masks (n, h, w): 0 where a pixel is good.
Where the recipe names an array of groups, images of one group share a split: several pictures of one part must not be in training
and test. With `shrink: k`, each square of k x k pixels becomes one: the mean of the image, and marked in the mask where any of
them is. No training reads a mask: evaluation alone looks them up in the same file, by the number in a sample's id.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aeops.data.sources.files import source_file
from aeops.errors import DataError
from aeops.project import Project
from aeops.recipe.reader import Recipe
from aeops.recipe.sources import MaskedImagesSource

if TYPE_CHECKING:
    import numpy as np

    from aeops.data.sources.archive import ArchiveArray
    from aeops.data.sources.samples import SourceSamples


class MaskedImagesReader:
    """The source of kind masked-images."""

    def files(self, recipe: Recipe, project: Project) -> dict[str, Path]:
        """Return the one file of this source; raise DataError where it does not exist."""
        return {"samples": source_file(recipe, project, recipe.data.source.path, "path")}

    def read(self, recipe: Recipe, project: Project) -> "SourceSamples":
        """Return the images as uint8 (n, c, h, w) on disk, with their labels and groups.

        Its metadata is `masked`, the number of images whose mask marks a pixel.

        Raises:
            DataError: a file that is no whole .npz file, or arrays that are not as the module says.
        """
        from aeops.data.sources.archive import find_array
        from aeops.data.sources.samples import SourceSamples, require_source_rows, source_labels
        from aeops.data.sources.spool import spool_to_disk

        source: MaskedImagesSource = recipe.data.source
        archive_path = self.files(recipe, project)["samples"]
        images = find_array(archive_path, source.path, source.samples, recipe)
        _require_images(images, recipe)
        rows = images.shape[0]
        require_source_rows(rows, recipe, source.path)
        masked = 0
        for block in _find_masks(archive_path, rows, recipe).blocks():
            masked += int(block.any(axis=(1, 2)).sum())
        label_array = find_array(archive_path, source.path, source.labels, recipe)
        labels = source_labels(label_array.read_all(), rows, recipe, label_array.display_name, images.display_name)
        blocks = _shrunken_images(images, source.shrink)
        array = spool_to_disk(blocks, recipe.fit.input.shape, images.dtype, project.home / "sources")
        groups = _read_groups(archive_path, rows, recipe)
        return SourceSamples(array, labels, source.path, groups=groups, metadata={"masked": masked})


SOURCE = MaskedImagesReader()


def read_masks(recipe: Recipe, project: Project, source_sha256: str, ids: Sequence[str]) -> "np.ndarray":
    """Return the masks of samples, bool (k, h, w), by their ids.

    Args:
        recipe: whose source it is.
        project: where the file is looked for.
        source_sha256: of the source when the samples were ingested, as dataset.json holds it.
        ids: of the samples; they end in the number of the image in the file.

    Raises:
        DataError: the file is missing, or is another one than the samples came from.
    """
    import numpy as np

    from aeops.data.dataset import lines_sha256
    from aeops.files import file_sha256

    archive_path = SOURCE.files(recipe, project)["samples"]
    content_sha256 = lines_sha256({"samples": file_sha256(archive_path)})
    if content_sha256 != source_sha256:
        raise DataError(
            f"{archive_path}: expected the file that the samples came from (source {source_sha256[:12]}), got another one "
            f"({content_sha256[:12]}): put the old one back, or type ae run {recipe.name} to ingest the new one"
        )
    numbers = [int(sample_id.rpartition("-")[2]) for sample_id in ids]
    masks = _find_masks(archive_path, None, recipe).read_all()[numbers] != 0
    return np.asarray(_squares(masks, recipe.data.source.shrink).any(axis=(2, 4)))


def _require_images(images: "ArchiveArray", recipe: Recipe) -> None:
    """Raise DataError unless the images have the recipe's shape."""
    from aeops.data.sources.samples import describe_shapes, repair_hint, require_dtype

    require_dtype(images.dtype, recipe, images.display_name)
    channels, height, width = recipe.fit.input.shape
    height, width = height * recipe.data.source.shrink, width * recipe.data.source.shrink
    allowed = [(height, width, channels)] + [(height, width)] * (channels == 1)
    if images.shape[1:] not in allowed:
        expected = describe_shapes(allowed)
        raise DataError(
            f"{images.display_name}: expected shape {expected} (the recipe's input.shape is {list(recipe.fit.input.shape)}, "
            f"data.source.shrink {recipe.data.source.shrink}), got {images.shape}: {repair_hint(recipe)}"
        )


def _find_masks(archive_path: Path, rows: int | None, recipe: Recipe) -> "ArchiveArray":
    """Return the array of masks; raise DataError unless there is one for each image, of its height and width."""
    from aeops.data.sources.archive import find_array
    from aeops.data.sources.samples import repair_hint

    source: MaskedImagesSource = recipe.data.source
    masks = find_array(archive_path, source.path, source.masks, recipe)
    _, height, width = recipe.fit.input.shape
    height, width = height * source.shrink, width * source.shrink
    expected_rows = masks.shape[0] if rows is None else rows
    if masks.shape != (expected_rows, height, width) or masks.dtype.kind not in "bui":
        raise DataError(
            f"{masks.display_name}: expected whole numbers of shape {(expected_rows, height, width)}, a mask for each image, got "
            f"{masks.shape} of {masks.dtype}: {repair_hint(recipe)}"
        )
    return masks


def _read_groups(archive_path: Path, rows: int, recipe: Recipe) -> "np.ndarray | None":
    """Return the group of each image, str (n,); None where the recipe names no array of them."""
    from aeops.data.sources.archive import find_array
    from aeops.data.sources.samples import source_groups

    source: MaskedImagesSource = recipe.data.source
    if source.groups is None:
        return None
    array = find_array(archive_path, source.path, source.groups, recipe)
    return source_groups(array.read_all(), rows, recipe, source.groups, array.display_name)


def _shrunken_images(images: "ArchiveArray", shrink: int) -> "Iterator[np.ndarray]":
    """Yield the images as (k, c, h, w), each square of `shrink` pixels a side as their mean."""
    import numpy as np

    for block in images.blocks():
        channels_first = block[:, None] if block.ndim == 3 else block.transpose(0, 3, 1, 2)
        if shrink == 1:
            yield channels_first
            continue
        flat = channels_first.reshape(-1, *channels_first.shape[2:])
        means = _squares(flat.astype(np.float64), shrink).mean(axis=(2, 4))
        if block.dtype.kind == "u":
            means = np.rint(means)
        yield means.astype(block.dtype).reshape(*channels_first.shape[:2], *means.shape[1:])


def _squares(images: "np.ndarray", side: int) -> "np.ndarray":
    """Return images (n, h, w) as squares (n, h / side, side, w / side, side)."""
    count, height, width = images.shape
    return images.reshape(count, height // side, side, width // side, side)
