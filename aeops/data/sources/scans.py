"""Noisy scans and their clean pages, cut into tiles of two channels: what is given, and what is to be made of it.

The .npz file holds `noisy` (n, h, w), `clean` (pages, h, w), both uint8, `page` (n,), the clean page of each scan, and, where
the scans differ in the kind of their noise, `variant` (n,), which becomes the label. Tiles come scan by scan, each row by
row: tile i is of scan i // (rows * columns), as the number in its id tells. Tiles of one page are one group, whatever scan
they are of: the clean text must not leak from training to test.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from aeops.data.sources.files import source_file
from aeops.errors import DataError
from aeops.project import Project
from aeops.recipe.reader import Recipe

if TYPE_CHECKING:
    import numpy as np

    from aeops.data.sources.archive import ArchiveArray
    from aeops.data.sources.samples import SourceSamples


def files(recipe: Recipe, project: Project) -> dict[str, Path]:
    """The one file of this source; raises DataError where it does not exist."""
    return {"samples": source_file(recipe, project, recipe.data.source.path, "path")}


def read(recipe: Recipe, project: Project) -> "SourceSamples":
    """The tiles as uint8 (n, 2, side, side), noisy and clean, with their pages as groups.

    Its facts tell how to put pages together: `scans`, and `rows` and `columns` of tiles a scan.

    Raises:
        DataError: a file that is no whole .npz file, or arrays that are not as the module says.
    """
    import numpy as np

    from aeops.data.sources.archive import find_array
    from aeops.data.sources.samples import SourceSamples, integer_labels, repair_hint, require_samples
    from aeops.data.sources.spool import spool_to_disk

    source, place = recipe.data.source, files(recipe, project)["samples"]
    noisy, clean, pages = (find_array(place, source.path, name, recipe) for name in ("noisy", "clean", "page"))
    require_pages(noisy, clean, recipe)
    scans, height, width = noisy.shape
    require_samples(scans, recipe, source.path)
    page = integer_labels(pages.whole(), scans, recipe, pages.what, noisy.what)
    if page.min() < 0 or page.max() >= clean.shape[0]:
        raise DataError(
            f"{pages.what}: {page.min()} to {page.max()} given; 0 to {clean.shape[0] - 1} allowed, the places in "
            f"{clean.what}: {repair_hint(recipe)}"
        )
    each = (height // source.core) * (width // source.core)  # tiles a scan
    folder = project.home / "sources"
    clean_pages = spool_to_disk(clean.blocks(), clean.shape[1:], clean.dtype, folder)
    tiles = spool_to_disk(cut_scans(noisy, clean_pages, page, recipe), recipe.fit.input.shape, noisy.dtype, folder)
    variant = read_variant(place, scans, recipe)
    return SourceSamples(
        tiles,
        None if variant is None else np.repeat(variant, each),
        source.path,
        groups=np.repeat([f"page-{number:03d}" for number in page], each),
        facts={"scans": scans, "rows": height // source.core, "columns": width // source.core},
    )


def require_pages(noisy: "ArchiveArray", clean: "ArchiveArray", recipe: Recipe) -> None:
    """Raises DataError unless scans and pages are grey images of one size that the tiles' cores divide."""
    from aeops.data.sources.samples import repair_hint

    core, margin = recipe.data.source.core, recipe.data.source.margin
    for array in (noisy, clean):
        if array.dtype != "uint8" or len(array.shape) != 3:
            raise DataError(
                f"{array.what}: shape {array.shape} of {array.dtype} given; (n, h, w) of uint8 allowed: {repair_hint(recipe)}"
            )
    if noisy.shape[1:] != clean.shape[1:]:
        raise DataError(
            f"{noisy.what}: shape {noisy.shape} given, and {clean.shape} of {clean.what}; the same height and width "
            f"allowed: {repair_hint(recipe)}"
        )
    height, width = noisy.shape[1:]
    if height % core or width % core or not margin < min(height, width):
        raise DataError(
            f"{noisy.what}: pages of {height} x {width} pixels given; data.source.core {core} must divide both sides and "
            f"margin {margin} be below them: {repair_hint(recipe)}"
        )


def cut_scans(noisy: "ArchiveArray", clean: "np.ndarray", page: "np.ndarray", recipe: Recipe) -> "Iterator[np.ndarray]":
    """The tiles of each scan, (rows * columns, 2, side, side)."""
    import numpy as np

    from aeops.data.sources.tiles import cut_tiles

    scans = (scan for block in noisy.blocks() for scan in block)
    for scan, number in zip(scans, page, strict=True):
        yield cut_tiles(np.stack([scan, clean[number]])[None], recipe.data.source.core, recipe.data.source.margin)


def read_variant(place: Path, scans: int, recipe: Recipe) -> "np.ndarray | None":
    """The kind of each scan's noise as (scans,) int64, or None where the file does not tell it."""
    import zipfile

    from aeops.data.sources.archive import find_array
    from aeops.data.sources.samples import integer_labels

    path = recipe.data.source.path
    with zipfile.ZipFile(place) as archive:
        if "variant.npy" not in archive.namelist():
            return None
    variant = find_array(place, path, "variant", recipe)
    return integer_labels(variant.whole(), scans, recipe, variant.what, f"{path}: noisy")
