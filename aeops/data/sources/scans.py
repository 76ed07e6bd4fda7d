"""Noisy scans and their clean pages, cut into tiles of two channels: the input and the target.

The .npz file holds `noisy` (n, h, w), `clean` (pages, h, w), both uint8, `page` (n,), the clean page of each scan, and, where
the scans differ in the kind of their noise, `variant` (n,), which becomes the label. Tiles come scan by scan, each row by
row: tile i is of scan i // (rows * columns), by the number in its id. Tiles of one page are one group, whatever scan
they come from: the clean text must not leak from training to test.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from aeops.data.sources.files import source_file
from aeops.errors import DataError
from aeops.project import Project
from aeops.recipe.reader import Recipe
from aeops.recipe.sources import ScansSource

if TYPE_CHECKING:
    import numpy as np

    from aeops.data.sources.archive import ArchiveArray
    from aeops.data.sources.samples import SourceSamples


class ScansReader:
    """The source of kind scans."""

    def files(self, recipe: Recipe, project: Project) -> dict[str, Path]:
        """Return the one file of this source; raise DataError where it does not exist."""
        return {"samples": source_file(recipe, project, recipe.data.source.path, "path")}

    def read(self, recipe: Recipe, project: Project) -> "SourceSamples":
        """Return the tiles as uint8 (n, 2, side, side), noisy and clean, with their pages as groups.

        Its metadata are the numbers that put pages together: `scans`, and `rows` and `columns` of tiles a scan.

        Raises:
            DataError: a file that is no whole .npz file, or arrays that are not as the module says.
        """
        import numpy as np

        from aeops.data.sources.archive import find_array
        from aeops.data.sources.samples import SourceSamples, require_source_rows
        from aeops.data.sources.spool import spool_to_disk

        source: ScansSource = recipe.data.source
        archive_path = self.files(recipe, project)["samples"]
        noisy_scans = find_array(archive_path, source.path, "noisy", recipe)
        clean_pages = find_array(archive_path, source.path, "clean", recipe)
        _require_pages(noisy_scans, clean_pages, recipe)
        scan_count, height, width = noisy_scans.shape
        require_source_rows(scan_count, recipe, source.path)
        page_numbers = _read_page_numbers(archive_path, noisy_scans, clean_pages, recipe)
        folder = project.home / "sources"
        mapped_pages = spool_to_disk(clean_pages.blocks(), clean_pages.shape[1:], clean_pages.dtype, folder)
        blocks = _cut_scans(noisy_scans, mapped_pages, page_numbers, recipe)
        tiles = spool_to_disk(blocks, recipe.fit.input.shape, noisy_scans.dtype, folder)
        tile_rows, tile_columns = height // source.core, width // source.core
        tiles_per_scan = tile_rows * tile_columns
        labels = _read_variants(archive_path, scan_count, recipe)
        if labels is not None:
            labels = np.repeat(labels, tiles_per_scan)
        return SourceSamples(
            tiles,
            labels,
            source.path,
            groups=np.repeat(list(map("page-{:03d}".format, page_numbers)), tiles_per_scan),
            metadata={"scans": scan_count, "rows": tile_rows, "columns": tile_columns},
        )


SOURCE = ScansReader()


def _require_pages(noisy_scans: "ArchiveArray", clean_pages: "ArchiveArray", recipe: Recipe) -> None:
    """Raise DataError unless scans and pages are grey images of one size that the tiles' cores divide."""
    from aeops.data.sources.samples import repair_hint

    source: ScansSource = recipe.data.source
    for array in (noisy_scans, clean_pages):
        if array.dtype != "uint8" or len(array.shape) != 3:
            raise DataError(
                f"{array.display_name}: expected shape (n, h, w) of uint8, got {array.shape} of {array.dtype}: "
                f"{repair_hint(recipe)}"
            )
    if noisy_scans.shape[1:] != clean_pages.shape[1:]:
        raise DataError(
            f"{noisy_scans.display_name}: expected the height and width of {clean_pages.display_name}, whose shape is "
            f"{clean_pages.shape}, got shape {noisy_scans.shape}: {repair_hint(recipe)}"
        )
    height, width = noisy_scans.shape[1:]
    if height % source.core or width % source.core or not source.margin < min(height, width):
        raise DataError(
            f"{noisy_scans.display_name}: expected sides that data.source.core {source.core} divides and that are larger than "
            f"data.source.margin {source.margin}, got pages of {height} x {width} pixels: {repair_hint(recipe)}"
        )


def _read_page_numbers(
    archive_path: Path, noisy_scans: "ArchiveArray", clean_pages: "ArchiveArray", recipe: Recipe
) -> "np.ndarray":
    """Return the clean page of each scan as (scans,) int64, an index into the clean pages."""
    from aeops.data.sources.archive import find_array
    from aeops.data.sources.samples import integer_labels, repair_hint

    array = find_array(archive_path, recipe.data.source.path, "page", recipe)
    numbers = integer_labels(array.read_all(), noisy_scans.shape[0], recipe, array.display_name, noisy_scans.display_name)
    if numbers.min() < 0 or numbers.max() >= clean_pages.shape[0]:
        raise DataError(
            f"{array.display_name}: expected 0 to {clean_pages.shape[0] - 1}, indices into {clean_pages.display_name}, got "
            f"{numbers.min()} to {numbers.max()}: {repair_hint(recipe)}"
        )
    return numbers


def _cut_scans(
    noisy_scans: "ArchiveArray", clean_pages: "np.ndarray", page_numbers: "np.ndarray", recipe: Recipe
) -> "Iterator[np.ndarray]":
    """Yield the tiles of each scan, (rows * columns, 2, side, side)."""
    import numpy as np

    from aeops.data.sources.tiles import cut_tiles

    source: ScansSource = recipe.data.source
    images = itertools.chain.from_iterable(noisy_scans.blocks())
    for image, number in zip(images, page_numbers, strict=True):
        yield cut_tiles(np.stack([image, clean_pages[number]])[None], source.core, source.margin)


def _read_variants(archive_path: Path, scan_count: int, recipe: Recipe) -> "np.ndarray | None":
    """Return the kind of each scan's noise as (scans,) int64, or None where the file has no such array."""
    import zipfile

    from aeops.data.sources.archive import find_array
    from aeops.data.sources.samples import source_labels

    source_path = recipe.data.source.path
    with zipfile.ZipFile(archive_path) as archive:
        if "variant.npy" not in archive.namelist():
            return None
    array = find_array(archive_path, source_path, "variant", recipe)
    return source_labels(array.read_all(), scan_count, recipe, array.display_name, f"{source_path}: noisy")
