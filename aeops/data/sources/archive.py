"""Arrays in an .npz file, read a block of rows at a time: an archive unpacks in one direction only, and may be large."""

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aeops.data.sources.samples import repair_hint
from aeops.data.sources.spool import rows_per_block
from aeops.errors import DataError
from aeops.kinds.decoding import DecodeError, decode_errors
from aeops.kinds.npy_bytes import read_npy_header
from aeops.kinds.unpacking import MAX_STREAMED_BYTES, require_archive_size
from aeops.recipe.reader import Recipe


@dataclass(frozen=True)
class ArchiveArray:
    """One array of an .npz file.

    Attributes:
        path: the file.
        name: the array's name in it.
        display_name: both, for messages.
        shape, dtype: as its header says.
        recipe: the recipe whose source it is.
    """

    path: Path
    name: str
    display_name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    recipe: Recipe

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield the rows in order, some at a time, each block (k, ...).

        Raises:
            DataError: bytes are missing or damaged.
        """
        row_shape = self.shape[1:]
        block_rows = rows_per_block(row_shape, self.dtype)
        row_bytes = math.prod(row_shape) * self.dtype.itemsize
        with (
            _unpack_errors(self.display_name, self.recipe),
            zipfile.ZipFile(self.path) as archive,
            archive.open(f"{self.name}.npy") as stream,
        ):
            read_npy_header(stream)
            for start in range(0, self.shape[0], block_rows):
                shape = (min(block_rows, self.shape[0] - start), *row_shape)
                content = stream.read(shape[0] * row_bytes)
                if len(content) < shape[0] * row_bytes:
                    raise EOFError(f"it ends within its rows {start} to {start + shape[0]}")
                yield np.frombuffer(content, self.dtype).reshape(shape)

    def read_all(self) -> np.ndarray:
        """Return the whole array, in memory."""
        if self.shape[0] == 0:
            return np.empty(self.shape, self.dtype)
        return np.concatenate(list(self.blocks()))


def find_array(archive_path: Path, source_path: str, name: str, recipe: Recipe) -> ArchiveArray:
    """Return the array `name` of an .npz file, whose values are not read yet.

    Args:
        archive_path: the file.
        source_path: the file as the recipe names it.
        name: of the array.
        recipe: the recipe whose source it is.

    Raises:
        DataError: no .npz file, no such array in it, or one that cannot be read row by row.
    """
    display_name = f"{source_path}: {name}"
    with _unpack_errors(source_path, recipe):
        require_archive_size(archive_path, source_path, MAX_STREAMED_BYTES)
    with _unpack_errors(source_path, recipe), zipfile.ZipFile(archive_path) as archive:
        names = [file_name.removesuffix(".npy") for file_name in archive.namelist()]
        if name not in names:
            raise DataError(f"{source_path}: expected an array {name!r}, got {', '.join(sorted(names))}: {repair_hint(recipe)}")
        with archive.open(f"{name}.npy") as stream, _unpack_errors(display_name, recipe):
            header = read_npy_header(stream)
    if header.is_fortran and len(header.shape) > 1:
        raise DataError(
            f"{display_name}: expected values row by row, as numpy.ascontiguousarray makes them, got them column by column "
            f"(Fortran order): {repair_hint(recipe)}"
        )
    if not header.shape:
        raise DataError(f"{display_name}: expected an array of rows, got a single value: {repair_hint(recipe)}")
    return ArchiveArray(archive_path, name, display_name, header.shape, header.dtype, recipe)


@contextmanager
def _unpack_errors(display_name: str, recipe: Recipe) -> Iterator[None]:
    """Turn the errors of a damaged archive into DataError."""
    try:
        with decode_errors():
            yield
    except DecodeError as error:
        raise DataError(
            f"{display_name}: not readable as .npz ({error}): expected a whole file written by numpy.savez or "
            f"savez_compressed: {repair_hint(recipe)}"
        ) from error
