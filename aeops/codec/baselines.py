"""Encode images as JPEG, WebP and PNG by Pillow at the smallest size, as baselines of a learned codec."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np

# Each format's settings for the smallest files; `quality` is added for the first two.
FORMAT_SETTINGS: dict[str, dict[str, Any]] = {"JPEG": {"optimize": True}, "WebP": {"method": 6}, "PNG": {"optimize": True}}


@dataclass(frozen=True)
class EncodedImages:
    """The result of encoding a set of images in one format.

    Attributes:
        file_sizes: bytes of each image's file, (n,).
        black_size: bytes of the file of a black image of that size.
        decoded_images: the decoded images, uint8 (n, c, h, w).
    """

    file_sizes: np.ndarray
    black_size: int
    decoded_images: np.ndarray

    @property
    def header_free(self) -> float:
        """Mean bytes a file beyond those of a black image's: what the format spends on the content.

        More than the format's headers is subtracted (of WebP the RIFF and VP8 headers are 30 bytes, a black image takes 58),
        so this is a lower bound for a set of images in one file with one common header.
        """
        return float(self.file_sizes.mean()) - self.black_size


def encode_images(images: np.ndarray, image_format: str, quality: int | None = None) -> EncodedImages:
    """Encode each image in memory and decode it again.

    Args:
        images: uint8 (n, c, h, w), c being 1 or 3.
        image_format: one of FORMAT_SETTINGS.
        quality: 0 to 100, for JPEG and WebP.
    """
    file_sizes, decoded_images = [], []
    for image in images:
        file = _encode_image(image, image_format, quality)
        file_sizes.append(len(file))
        decoded_images.append(_decode_image(file, len(image)))
    return EncodedImages(
        file_sizes=np.array(file_sizes),
        black_size=len(_encode_image(np.zeros_like(images[0]), image_format, quality)),
        decoded_images=np.stack(decoded_images),
    )


def _encode_image(image: np.ndarray, image_format: str, quality: int | None) -> bytes:
    from PIL import Image

    settings = dict(FORMAT_SETTINGS[image_format])
    if quality is not None:
        settings["quality"] = max(1, quality) if image_format == "JPEG" else quality  # JPEG has no quality 0
    buffer = io.BytesIO()
    pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
    Image.fromarray(pixels).save(buffer, image_format, **settings)
    return buffer.getvalue()


def _decode_image(file: bytes, channels: int) -> np.ndarray:
    """Return an image's pixels, uint8 (channels, h, w)."""
    from PIL import Image

    with Image.open(io.BytesIO(file)) as image:
        if channels == 1:
            return np.asarray(image.convert("L"))[None]
        return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
