"""Arrays in an .npz file, read a block of rows at a time: an archive unpacks in one direction only, and may be large."""

import lzma
import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aeops.data.sources.npy import read_stream_header
from aeops.data.sources.samples import repair_hint
from aeops.data.sources.spool import rows_per_block
from aeops.errors import DataError
from aeops.recipe.reader import Recipe


@dataclass(frozen=True)
class ArchiveArray:
    """One array of an .npz file.

    Attributes:
        place: the file.
        name: the array's name in it.
        what: both, as a person would name them.
        shape, dtype: as its header says.
        recipe: whose source it is.
    """

    place: Path
    name: str
    what: str
    shape: tuple[int, ...]
    dtype: np.dtype
    recipe: Recipe

    def blocks(self) -> Iterator[np.ndarray]:
        """The rows in order, some at a time, each block (k, ...).

        Raises:
            DataError: bytes are missing or damaged.
        """
        rows = rows_per_block(self.shape[1:], self.dtype)
        row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        with (
            unpacking(self.what, self.recipe),
            zipfile.ZipFile(self.place) as archive,
            archive.open(f"{self.name}.npy") as stream,
        ):
            read_stream_header(stream, self.recipe, self.what)
            for start in range(0, self.shape[0], rows):
                shape = (min(rows, self.shape[0] - start), *self.shape[1:])
                held = stream.read(shape[0] * row_bytes)
                if len(held) < shape[0] * row_bytes:
                    raise EOFError(f"it ends within its rows {start} to {start + shape[0]}")
                yield np.frombuffer(held, self.dtype).reshape(shape)

    def whole(self) -> np.ndarray:
        """All of it, in memory."""
        parts = list(self.blocks())
        return np.concatenate(parts) if parts else np.empty(self.shape, self.dtype)


def find_array(place: Path, path: str, name: str, recipe: Recipe) -> ArchiveArray:
    """The array `name` of the file.

    Args:
        place: the file.
        path: the file as the recipe names it.
        name: of the array.
        recipe: whose source it is.

    Raises:
        DataError: no .npz file, no such array in it, or one that cannot be read row by row.
    """
    what = f"{path}: {name}"
    with unpacking(path, recipe), zipfile.ZipFile(place) as archive:
        names = [member.removesuffix(".npy") for member in archive.namelist()]
        if name not in names:
            raise DataError(f"{path}: no array {name!r}; {', '.join(sorted(names))} in it: {repair_hint(recipe)}")
        with archive.open(f"{name}.npy") as stream:
            shape, fortran, dtype = read_stream_header(stream, recipe, what)
    if fortran and len(shape) > 1:
        raise DataError(
            f"{what}: saved column by column (Fortran order); row by row is allowed, as numpy.ascontiguousarray makes it: "
            f"{repair_hint(recipe)}"
        )
    if not shape:
        raise DataError(f"{what}: a single value given; an array of rows allowed: {repair_hint(recipe)}")
    return ArchiveArray(place, name, what, shape, dtype, recipe)


@contextmanager
def unpacking(what: str, recipe: Recipe) -> Iterator[None]:
    """Tells what cannot be unpacked as bad data."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError) as error:
        says = " ".join(str(error).split())
        raise DataError(
            f"{what}: not readable as .npz ({says}); a whole file written by numpy.savez or savez_compressed is allowed: "
            f"{repair_hint(recipe)}"
        ) from error
