"""Reconstructions as files: one PNG a sample under its old name, or all of them as one array."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

import numpy as np

from aeops.codec.container import Source
from aeops.errors import DataError

CHANNELS = (1, 3, 4)  # grey, colour, colour with transparency


def image_names(sources: Sequence[Source]) -> list[str]:
    """A PNG's name for each sample: `a.jpg` becomes `a.png`, the samples of `x.npy` become `x-0.png` and so on.

    Raises:
        DataError: two samples would have the same name.
    """
    names = [name for source in sources for name in names_of(source)]
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise DataError(f"{len(twice)} names are taken twice, such as {twice[0]}: rename a file, or make two archives of them")
    return names


def names_of(source: Source) -> list[str]:
    stem = PurePath(source.name).stem
    if source.samples is None:
        return [f"{stem}.png"]
    digits = len(str(source.samples - 1))
    return [f"{stem}-{place:0{digits}}.png" for place in range(source.samples)]


def require_images(shape: tuple[int, ...]) -> None:
    """Raises DataError where no PNG can hold a sample of this shape."""
    if len(shape) != 3 or shape[0] not in CHANNELS:
        raise DataError(f"samples of shape {shape} are no images: give -o a name that ends in .npy to write them as an array")


def write_images(folder: Path, names: Sequence[str], blocks: Iterable[np.ndarray], low: float, high: float) -> None:
    """Writes one PNG a sample.

    Args:
        folder: where to.
        names: one a sample.
        blocks: (n, c, h, w) in raw units.
        low, high: the raw values that become 0 and 255.
    """
    from PIL import Image

    written = 0
    for block in blocks:
        for pixels, name in zip(levels(block, low, high), names[written : written + len(block)], strict=True):
            Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(folder / name)
        written += len(block)


def levels(raw: np.ndarray, low: float, high: float) -> np.ndarray:
    """Raw values as the nearest of 256 levels, uint8."""
    return ((raw - low) / (high - low) * 255).round().clip(0, 255).astype(np.uint8)


def as_stored(raw: np.ndarray, low: float, high: float) -> np.ndarray:
    """Raw values as an array holds them: bytes where the range is that of bytes, else float32."""
    return levels(raw, low, high) if (low, high) == (0, 255) else raw.astype(np.float32)
