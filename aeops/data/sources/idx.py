"""Images and labels in IDX files, as those of MNIST: four files, with or without .gz, in one folder.

An IDX file begins with two zero bytes, a byte for the type of its values (8: unsigned bytes), a byte for the number of its
dimensions, and the size of each as four bytes, the highest first; the values follow (the format is described on the page
"The MNIST database of handwritten digits" of LeCun, Cortes and Burges). The files named t10k are the source's test part.
Where no folder holds the files and the recipe gives an address, they are fetched into the state folder.
"""

import gzip
import io
import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ae_models.names import names_not_in
from aeops.data.sources.fetch import fetch_files
from aeops.errors import DataError
from aeops.files import file_sha256
from aeops.kinds.decoding import DecodeError, decode_errors
from aeops.project import Project
from aeops.recipe.reader import Recipe
from aeops.recipe.sources import IDX_FILES, IDX_NAMES, IdxSource

if TYPE_CHECKING:
    import numpy as np

    from aeops.data.sources.samples import SourceSamples

UNSIGNED_BYTES = 8  # the code of the type


class IdxReader:
    """The source of kind idx."""

    def files(self, recipe: Recipe, project: Project) -> dict[str, Path]:
        """Return the four files by their names without .gz; fetch them where no folder holds all and the recipe gives an address.

        Raises:
            DataError: no folder holds them, or what was fetched is not what the recipe says.
            InfrastructureError: they could not be fetched.
        """
        source: IdxSource = recipe.data.source
        folders = project.source_paths(source.folder)
        missing_files = []
        for folder in folders:
            paths = _find_idx_files(folder)
            missing_names = names_not_in(IDX_NAMES, paths)
            if not missing_names:
                return paths
            missing_files.append(f"{folder} lacks {', '.join(missing_names)}")
        if source.url is not None:
            fetched_folder = project.home / "sources" / source.folder
            fetch_files(source.url, source.sha256, fetched_folder, recipe.name)
            return _find_idx_files(fetched_folder)
        raise DataError(
            f"{source.folder}: no folder holds the four IDX files, with or without .gz: {'; '.join(missing_files)}: put them in "
            f"one of these folders or correct data.source.folder in recipes/{recipe.name}.yaml, then type ae run {recipe.name}"
        )

    def read(self, recipe: Recipe, project: Project) -> "SourceSamples":
        """Return the images as uint8 (n, 1, h, w) on disk, those of train before those of test, with labels and parts.

        Raises:
            DataError: a file is not the one whose checksum the recipe gives, is no whole IDX file, or does not fit the others
                or the recipe's input.shape.
        """
        import numpy as np

        from aeops.data.sources.samples import SourceSamples, part_names, sample_shape
        from aeops.data.sources.spool import spool_to_disk

        source: IdxSource = recipe.data.source
        paths = self.files(recipe, project)
        _require_checksums(paths, source, recipe)
        image_files, label_files = [], []
        for images_name, labels_name in IDX_FILES.values():
            image_files.append(_read_idx_header(paths[images_name], 3, recipe))
            label_files.append(_read_idx_header(paths[labels_name], 1, recipe))
        for file in image_files:
            sample_shape(file.shape, recipe, file.path.name)
        labels = []
        for label_file, image_file in zip(label_files, image_files, strict=True):
            labels.append(_read_idx_labels(label_file, image_file, recipe))
        blocks = _idx_image_blocks(image_files, recipe)
        array = spool_to_disk(blocks, recipe.fit.input.shape, np.dtype(np.uint8), project.home / "sources")
        splits = part_names(*(file.shape[0] for file in image_files))
        return SourceSamples(array, np.concatenate(labels), source.folder, splits)


SOURCE = IdxReader()


def _find_idx_files(folder: Path) -> dict[str, Path]:
    """Return the IDX files that the folder holds, by their names without .gz."""
    paths = {}
    for name in IDX_NAMES:
        for path in (folder / name, folder / f"{name}.gz"):  # the second wins where both are there
            if path.is_file():
                paths[name] = path
    return paths


def _require_checksums(paths: dict[str, Path], source: IdxSource, recipe: Recipe) -> None:
    """Raise DataError where a file has another SHA-256 than the recipe gives for a file of its name."""
    for path in paths.values():
        expected_sha256 = source.sha256.get(path.name)
        if expected_sha256 is None:
            continue
        sha256 = file_sha256(path)
        if sha256 != expected_sha256:
            raise DataError(
                f"{path}: expected SHA-256 {expected_sha256[:12]}... (data.source.sha256), got {sha256[:12]}...: put the "
                f"whole file there, or correct recipes/{recipe.name}.yaml, then type ae run {recipe.name}"
            )


def _idx_image_blocks(files: "list[IdxFile]", recipe: Recipe) -> "Iterator[np.ndarray]":
    """Yield the images of the files in order, blocks of (k, *input.shape)."""
    for file in files:
        for block in _read_values(file, recipe):
            yield block.reshape(-1, *recipe.fit.input.shape)


# ---------------------------------------------------------------- one file


@dataclass(frozen=True)
class IdxFile:
    """A file and the sizes in its header."""

    path: Path
    shape: tuple[int, ...]


def _read_idx_header(path: Path, dimensions: int, recipe: Recipe) -> IdxFile:
    """Read the sizes in the file's header.

    Raises:
        DataError: it holds no unsigned bytes in so many dimensions.
    """
    with _open_stream(path, recipe) as stream:
        header = stream.read(4 + 4 * dimensions)
    expected_magic = bytes([0, 0, UNSIGNED_BYTES, dimensions])
    if header[:4] != expected_magic:
        raise DataError(
            f"{path.name}: expected {expected_magic.hex()} at its start, as in an IDX file of unsigned bytes in {dimensions} "
            f"dimensions, got {header[:4].hex() or 'nothing'}: {_repair_file_hint(path, recipe)}"
        )
    if len(header) < 4 + 4 * dimensions:
        raise DataError(f"{path.name}: truncated within its header: {_repair_file_hint(path, recipe)}")
    return IdxFile(path, struct.unpack(f">{dimensions}I", header[4:]))


def _read_values(file: IdxFile, recipe: Recipe) -> "Iterator[np.ndarray]":
    """Yield the values in order, some rows at a time, each block (k, ...) uint8.

    Raises:
        DataError: the file holds fewer or more of them than its header says.
    """
    import numpy as np

    from aeops.data.sources.spool import rows_per_block

    row_bytes, rows = math.prod(file.shape[1:]), rows_per_block(file.shape[1:], np.dtype(np.uint8))
    with _open_stream(file.path, recipe) as stream:
        stream.read(4 + 4 * len(file.shape))
        for start in range(0, file.shape[0], rows):
            count = min(rows, file.shape[0] - start)
            content = stream.read(count * row_bytes)
            if len(content) < count * row_bytes:
                raise _length_error(file, f"{start * row_bytes + len(content)} values: truncated", recipe)
            yield np.frombuffer(content, np.uint8).reshape(count, *file.shape[1:])
        if stream.read(1):
            raise _length_error(file, "more values", recipe)


def _length_error(file: IdxFile, observed_length: str, recipe: Recipe) -> DataError:
    shape = " x ".join(map(str, file.shape))
    return DataError(
        f"{file.path.name}: expected {math.prod(file.shape)} values, {shape} as its header says, got {observed_length}: "
        f"{_repair_file_hint(file.path, recipe)}"
    )


def _read_idx_labels(label_file: IdxFile, image_file: IdxFile, recipe: Recipe) -> "np.ndarray":
    """Return the labels of a part as (n,) int64."""
    import numpy as np

    from aeops.data.sources.samples import integer_labels

    values = np.concatenate([np.empty(0, np.uint8), *_read_values(label_file, recipe)])
    return integer_labels(values, image_file.shape[0], recipe, label_file.path.name, image_file.path.name)


@contextmanager
def _open_stream(path: Path, recipe: Recipe) -> Iterator[io.BufferedIOBase]:
    """Open the file's bytes, unpacked; raise DataError where they cannot be unpacked."""
    open_file = gzip.open if path.suffix == ".gz" else open
    try:
        with decode_errors(), open_file(path, "rb") as stream:
            yield stream
    except DecodeError as error:
        raise DataError(f"{path.name}: truncated or no gzip file ({error}): {_repair_file_hint(path, recipe)}") from error


def _repair_file_hint(path: Path, recipe: Recipe) -> str:
    return f"put the whole file in {path.parent}, then type ae run {recipe.name}"
