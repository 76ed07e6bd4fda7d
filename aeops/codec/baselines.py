"""JPEG, WebP and PNG of images, as Pillow writes them at the least size: what a learned codec is measured beside."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np

# Each format's settings for the smallest files; `quality` comes beside them for the first two.
FORMATS: dict[str, dict[str, Any]] = {"JPEG": {"optimize": True}, "WebP": {"method": 6}, "PNG": {"optimize": True}}


@dataclass(frozen=True)
class Coded:
    """What a format makes of a set of images.

    Attributes:
        stored: bytes of each image's file, (n,).
        blank: bytes of the file of a black image of that size.
        made: the images that come out again, uint8 (n, c, h, w).
    """

    stored: np.ndarray
    blank: int
    made: np.ndarray

    @property
    def header_free(self) -> float:
        """Mean bytes a file beyond those of a black image's: what the format spends on saying something.

        More than the format's headers goes off (of WebP the RIFF and VP8 headers are 30 bytes, a black image takes 58), so
        that this is the least that a set of images in one file with one common header could take.
        """
        return float(self.stored.mean()) - self.blank


def coded(images: np.ndarray, form: str, quality: int | None = None) -> Coded:
    """Writes each image to memory and reads it again.

    Args:
        images: uint8 (n, c, h, w), c being 1 or 3.
        form: one of FORMATS.
        quality: 0 to 100, for JPEG and WebP.
    """
    files = [written(image, form, quality) for image in images]
    return Coded(
        stored=np.array([len(file) for file in files]),
        blank=len(written(np.zeros_like(images[0]), form, quality)),
        made=np.stack([read(file, len(images[0])) for file in files]),
    )


def written(image: np.ndarray, form: str, quality: int | None) -> bytes:
    from PIL import Image

    given = {} if quality is None else {"quality": max(1, quality) if form == "JPEG" else quality}  # JPEG has no quality 0
    buffer = io.BytesIO()
    pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
    Image.fromarray(pixels).save(buffer, form, **FORMATS[form], **given)
    return buffer.getvalue()


def read(file: bytes, channels: int) -> np.ndarray:
    """An image's pixels, uint8 (channels, h, w)."""
    from PIL import Image

    with Image.open(io.BytesIO(file)) as image:
        pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
