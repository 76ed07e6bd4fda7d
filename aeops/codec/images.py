"""Write reconstructions as files: one PNG a sample under its old name, or all of them as one array."""

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

import numpy as np

from ae_models.names import repeated_names
from aeops.codec.container import MAX_FILE_NAME_BYTES, ArchiveSource, count_samples
from aeops.errors import DataError

PNG_CHANNELS = (1, 3, 4)  # grey, colour, colour with transparency
MAX_IMAGES = 2**20  # in one folder


def image_names(sources: Sequence[ArchiveSource]) -> list[str]:
    """Return a PNG's name for each sample: `a.jpg` becomes `a.png`, the samples of `x.npy` become `x-0.png` and so on.

    Raises:
        DataError: two samples would have the same name, a name is too long for a file, or there are more than `MAX_IMAGES`.
    """
    sample_count = count_samples(sources)
    if sample_count > MAX_IMAGES:
        raise DataError(
            f"expected at most {MAX_IMAGES:,} samples as images in one folder, got {sample_count:,}: give -o a name that ends in "
            ".npy to write them as an array"
        )
    names: list[str] = []
    for source in sources:
        names += _png_names(source)
    taken_twice = repeated_names(names)
    if taken_twice:
        raise DataError(
            f"{len(taken_twice)} names are taken twice, such as {taken_twice[0]}: rename a file, or make two archives of them"
        )
    for name in names:
        if len(name.encode()) > MAX_FILE_NAME_BYTES:
            raise DataError(f"the name {name[:40]}... is longer than {MAX_FILE_NAME_BYTES} bytes: rename the file")
    return names


def _png_names(source: ArchiveSource) -> list[str]:
    base_name = PurePath(source.name).stem
    if source.samples is None:
        return [f"{base_name}.png"]
    digits = len(str(source.samples - 1))
    return [f"{base_name}-{index:0{digits}}.png" for index in range(source.samples)]


def require_image_shape(shape: tuple[int, ...]) -> None:
    """Check that a PNG can hold samples of this shape.

    Raises:
        DataError: it cannot.
    """
    if len(shape) != 3 or shape[0] not in PNG_CHANNELS:
        raise DataError(f"samples of shape {shape} are no images: give -o a name that ends in .npy to write them as an array")


def write_images(folder: Path, names: Sequence[str], blocks: Iterable[np.ndarray], low: float, high: float) -> None:
    """Write one PNG a sample.

    Args:
        folder: an existing one.
        names: one a sample.
        blocks: (n, c, h, w) in raw units.
        low: the raw value that becomes 0.
        high: the raw value that becomes 255.
    """
    from PIL import Image

    remaining_names = iter(names)
    for block in blocks:
        for pixels in to_uint8(block, low, high):
            image = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
            Image.fromarray(image).save(folder / next(remaining_names))


def to_uint8(raw: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return raw values as the nearest of 256 levels from `low` to `high`, uint8."""
    return ((raw - low) / (high - low) * 255).round().clip(0, 255).astype(np.uint8)


def to_array_dtype(raw: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return raw values as a .npy file holds them: uint8 where the range is 0 to 255, else float32."""
    if (low, high) == (0, 255):
        return to_uint8(raw, low, high)
    return raw.astype(np.float32)
