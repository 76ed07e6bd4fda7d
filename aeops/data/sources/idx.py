"""Images and labels in IDX files, as those of MNIST: four files, with or without .gz, in one folder.

An IDX file begins with two zero bytes, a byte for the type of its values (8: unsigned bytes), a byte for the number of its
dimensions, and the size of each as four bytes, the highest first; the values follow (the format is described on the page
"The MNIST database of handwritten digits" of LeCun, Cortes and Burges). The files named t10k are the source's test part.
Where no folder holds the files and the recipe gives an address, they are fetched into the state folder.
"""

import gzip
import io
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aeops.data.sources.fetch import fetch_files
from aeops.errors import DataError
from aeops.files import file_sha256
from aeops.project import Project
from aeops.recipe.reader import Recipe
from aeops.recipe.sources import IDX_FILES, IDX_NAMES, IdxSource

if TYPE_CHECKING:
    import numpy as np

    from aeops.data.sources.samples import SourceSamples

UNSIGNED_BYTES = 8  # the code of the type


def files(recipe: Recipe, project: Project) -> dict[str, Path]:
    """The four files by their names without .gz; fetched first where no folder holds them all and the recipe gives an address.

    Raises:
        DataError: no folder holds them, or what was fetched is not what the recipe says.
        InfrastructureError: they could not be fetched.
    """
    source: IdxSource = recipe.data.source
    places = project.source_paths(source.folder)
    for place in places:
        found = files_in(place)
        if len(found) == len(IDX_NAMES):
            return found
    if source.url is not None:
        folder = project.home / "sources" / source.folder
        fetch_files(source.url, source.sha256, folder, recipe.name)
        return files_in(folder)
    looked = "; ".join(
        f"{place} lacks {', '.join(name for name in IDX_NAMES if name not in files_in(place))}" for place in places
    )
    raise DataError(
        f"{source.folder}: no folder holds the four IDX files, with or without .gz: {looked}: put them in one of these "
        f"folders or correct data.source.folder in recipes/{recipe.name}.yaml, then type ae run {recipe.name}"
    )


def files_in(folder: Path) -> dict[str, Path]:
    """The IDX files that the folder holds, by their names without .gz."""
    places = {name: [folder / f"{name}.gz", folder / name] for name in IDX_NAMES}
    return {
        name: next(place for place in found if place.is_file()) for name, found in places.items() if any(map(Path.is_file, found))
    }


def read(recipe: Recipe, project: Project) -> "SourceSamples":
    """The images as uint8 (n, 1, h, w) on disk, those of train before those of test, with labels and parts.

    Raises:
        DataError: a file is not the one whose sum the recipe gives, is no whole IDX file, or does not fit the others or
            the recipe's input.shape.
    """
    import numpy as np

    from aeops.data.sources.samples import SourceSamples, part_names, sample_shape
    from aeops.data.sources.spool import spool_to_disk

    source: IdxSource = recipe.data.source
    found = files(recipe, project)
    require_sums(found, source, recipe)
    images = [header(found[names[0]], 3, recipe) for names in IDX_FILES.values()]
    labels = [header(found[names[1]], 1, recipe) for names in IDX_FILES.values()]
    for each in images:
        sample_shape(each.shape, recipe, each.place.name)
    read_labels = np.concatenate([labels_of(one, of, recipe) for one, of in zip(labels, images, strict=True)])
    blocks = (block.reshape(-1, *recipe.fit.input.shape) for each in images for block in values(each, recipe))
    array = spool_to_disk(blocks, recipe.fit.input.shape, np.dtype(np.uint8), project.home / "sources")
    return SourceSamples(array, read_labels, source.folder, part_names(*(each.shape[0] for each in images)))


def require_sums(found: dict[str, Path], source: IdxSource, recipe: Recipe) -> None:
    """Raises DataError where a file has another sum than the recipe gives for a file of its name."""
    for place in found.values():
        wanted = source.sha256.get(place.name)
        if wanted is not None and file_sha256(place) != wanted:
            raise DataError(
                f"{place}: SHA-256 {file_sha256(place)[:12]}... given; {wanted[:12]}... allowed (data.source.sha256): put the "
                f"whole file there, or correct recipes/{recipe.name}.yaml, then type ae run {recipe.name}"
            )


# ---------------------------------------------------------------- one file


@dataclass(frozen=True)
class IdxFile:
    """A file and the sizes that its header states."""

    place: Path
    shape: tuple[int, ...]


def header(place: Path, dimensions: int, recipe: Recipe) -> IdxFile:
    """The file's sizes.

    Raises:
        DataError: it holds no unsigned bytes in so many dimensions.
    """
    with opened(place, recipe) as stream:
        head = stream.read(4 + 4 * dimensions)
    wanted = bytes([0, 0, UNSIGNED_BYTES, dimensions])
    if head[:4] != wanted:
        raise DataError(
            f"{place.name}: begins with {head[:4].hex() or 'nothing'}; {wanted.hex()} allowed, as an IDX file of unsigned bytes "
            f"in {dimensions} dimensions does: {mend(place, recipe)}"
        )
    if len(head) < 4 + 4 * dimensions:
        raise DataError(f"{place.name}: truncated within its header: {mend(place, recipe)}")
    return IdxFile(place, tuple(int.from_bytes(head[at : at + 4], "big") for at in range(4, len(head), 4)))


def values(file: IdxFile, recipe: Recipe) -> "Iterator[np.ndarray]":
    """The values in order, some rows at a time, each block (k, ...) uint8.

    Raises:
        DataError: the file holds fewer or more of them than its header says.
    """
    import numpy as np

    from aeops.data.sources.spool import rows_per_block

    row_bytes, rows = math.prod(file.shape[1:]), rows_per_block(file.shape[1:], np.dtype(np.uint8))
    with opened(file.place, recipe) as stream:
        stream.read(4 + 4 * len(file.shape))
        for start in range(0, file.shape[0], rows):
            count = min(rows, file.shape[0] - start)
            held = stream.read(count * row_bytes)
            if len(held) < count * row_bytes:
                given = start * row_bytes + len(held)
                raise wrong_length(file, f"truncated: {given} values given", recipe)
            yield np.frombuffer(held, np.uint8).reshape(count, *file.shape[1:])
        if stream.read(1):
            raise wrong_length(file, "more values given", recipe)


def wrong_length(file: IdxFile, given: str, recipe: Recipe) -> DataError:
    shape = " x ".join(map(str, file.shape))
    return DataError(
        f"{file.place.name}: {given}; {math.prod(file.shape)} allowed, {shape} as its header says: {mend(file.place, recipe)}"
    )


def labels_of(labels: IdxFile, images: IdxFile, recipe: Recipe) -> "np.ndarray":
    """The labels of a part as (n,) int64."""
    import numpy as np

    from aeops.data.sources.samples import integer_labels

    held = list(values(labels, recipe))
    whole = np.concatenate(held) if held else np.empty(0, np.uint8)
    return integer_labels(whole, images.shape[0], recipe, labels.place.name, images.place.name)


@contextmanager
def opened(place: Path, recipe: Recipe) -> Iterator[io.BufferedIOBase]:
    """The file's bytes, unpacked; raises DataError where they cannot be."""
    try:
        with gzip.open(place) if place.suffix == ".gz" else place.open("rb") as stream:
            yield stream
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{place.name}: truncated or no gzip file ({error}): {mend(place, recipe)}") from error


def mend(place: Path, recipe: Recipe) -> str:
    return f"put the whole file in {place.parent}, then type ae run {recipe.name}"
