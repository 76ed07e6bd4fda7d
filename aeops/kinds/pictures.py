"""Files of images to pixels and back: one way to read them, whoever sends them.

An image is turned upright as its EXIF orientation says. Transparent parts are laid on white, unless the model has a channel
for them (4 channels: red, green, blue, alpha). It is converted to the model's channels: 1 is grey (ITU-R 601 luma), 3 are red,
green and blue. Nothing changes its size but `fit_size`, which the page calls.
"""

import base64
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from aeops.errors import DataError
from aeops.kinds.decoding import DecodeError, decode_errors
from aeops.kinds.image_names import IMAGE_FORMATS

if TYPE_CHECKING:
    from PIL import Image

_Result = TypeVar("_Result")

PILLOW_PIXELS = 178_956_970  # from which on Pillow opens no file
MAX_PIXELS = 40_000_000  # a phone's camera; more is refused before it is decoded
MAX_WEBP_PIXELS = 30_000_000  # whose decoder holds four copies
STRIP_ROWS = 256  # of an image, that are converted at once
MAX_IMAGE_BYTES = 256 * 2**20  # of a file: more than so many pixels take without compression
SEVERAL_IMAGES_FORMATS = ("PNG", "TIFF", "WEBP")  # may hold pages or an animation; further images of a JPEG are previews
EXIF_ORIENTATION = 0x0112
EXIF_KEYS = frozenset(("exif", "xmp", "Raw profile type exif", "XML:com.adobe.xmp"))  # that Pillow notes of a file with some
TAGGED_FORMATS = ("TIFF", "MPO")  # whose orientation is a tag of their own
PILLOW_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's name for each number of 8-bit channels
# The error map's colours from 0 to 1, as in the report (matplotlib's inferno at five places).
INFERNO_STOPS = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))


def read_image(content: bytes, channels: int, description: str, changes: list[str]) -> "Image.Image":
    """Decode an image and convert it to the model's channels.

    Args:
        content: the bytes of a file in one of `IMAGE_FORMATS`.
        channels: 1, 3 or 4.
        description: its name in a message.
        changes: receives a sentence for each change.

    Raises:
        DataError: it cannot be read, has more than 8 bits a channel, too many pixels, or several pages.
    """

    def convert(source_image: "Image.Image") -> "Image.Image":
        require_eight_bits(source_image, description)
        require_one_image(source_image, description)
        stored_size = source_image.size
        image = upright(source_image)
        if image.size != stored_size:
            changes.append("Turned upright, as the camera noted.")
        return in_channels(image if channels == 4 else without_alpha(image, changes), channels, changes)

    return use_image(content, description, convert)


def use_image(content: bytes, description: str, use: "Callable[[Image.Image], _Result]") -> _Result:
    """Open a file of an image and return what `use` makes of it; the image is not decoded before.

    Raises:
        DataError: it cannot be read, or has too many pixels.
    """
    from PIL import Image

    try:
        with decode_errors(), Image.open(io.BytesIO(content), formats=IMAGE_FORMATS) as source_image:
            require_few_pixels(source_image, description)
            return use(source_image)
    except DecodeError as error:
        if isinstance(error.__cause__, Image.DecompressionBombError):  # of a header that Pillow itself refuses
            raise DataError(f"{description} has more than {PILLOW_PIXELS:,} pixels; {MAX_PIXELS:,} are allowed") from error
        raise DataError(
            f"{description} cannot be read as an image ({error}): expected {', '.join(IMAGE_FORMATS)}: replace or remove it"
        ) from error


def count_frames(image: "Image.Image") -> int:
    """Return how many pages or frames a file has; further images of a JPEG are previews, and do not count."""
    return int(getattr(image, "n_frames", 1)) if image.format in SEVERAL_IMAGES_FORMATS else 1


def require_one_image(image: "Image.Image", description: str) -> None:
    """Raise DataError where a file has several pages or frames."""
    if (count := count_frames(image)) > 1:
        reason = f"expected one image, got {count} pages or frames"
        raise DataError(
            f"{description}: {reason}: save each as a file of its own, or set input.frames to each (a sample of each) or first"
        )


def require_eight_bits(image: "Image.Image", description: str) -> None:
    """Raise DataError where an image has more than 8 bits a channel."""
    if image.mode.startswith(("I", "F")):
        raise DataError(f"{description}: expected 8 bits a channel, got more: convert it, or use a .npy file")


def upright(image: "Image.Image") -> "Image.Image":
    """Decode an image and turn it as its EXIF orientation says."""
    image.load()
    # Making an Exif object takes longer than decoding a small image: only where there is something to make it of.
    if image.format in TAGGED_FORMATS or not EXIF_KEYS.isdisjoint(image.info):
        from PIL import ImageOps

        ImageOps.exif_transpose(image, in_place=True)
    return image


def require_few_pixels(image: "Image.Image", description: str) -> None:
    """Raise DataError where an image, which is not decoded yet, has too many pixels."""
    max_pixels = MAX_WEBP_PIXELS if image.format == "WEBP" else MAX_PIXELS
    if image.width * image.height > max_pixels:
        raise DataError(f"{description} has {image.width} x {image.height} pixels; {max_pixels:,} are allowed")


def without_alpha(image: "Image.Image", changes: list[str]) -> "Image.Image":
    """Lay transparent parts on white."""
    from PIL import Image

    if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
        return image
    opaque_image, is_transparent = Image.new("RGB", image.size), False
    for top in range(0, image.height, STRIP_ROWS):  # of a large image, several copies with alpha would take a gigabyte
        strip = image.crop((0, top, image.width, min(top + STRIP_ROWS, image.height))).convert("RGBA")
        is_transparent |= strip.getchannel("A").getextrema()[0] != 255
        opaque_image.paste(Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip).convert("RGB"), (0, top))
    if is_transparent:
        changes.append("Transparent parts were laid on white.")
    return opaque_image


def in_channels(image: "Image.Image", channels: int, changes: list[str]) -> "Image.Image":
    """Convert an image to 1, 3 or 4 channels."""
    mode = PILLOW_MODES[channels]
    if image.mode == mode:
        return image
    if channels == 1:
        changes.append("Made greyscale (ITU-R 601 luma).")
    elif channels == 3 and image.mode in ("L", "1"):
        changes.append("Grey became three equal colours.")
    else:
        changes.append(f"Converted from {image.mode} to {mode}.")
    return image.convert(mode)


def channels_first(image: "Image.Image", channels: int) -> np.ndarray:
    """Return an image's pixels as uint8 (channels, height, width)."""
    return np.asarray(image).reshape(image.height, image.width, channels).transpose(2, 0, 1)


def fit_size(image: "Image.Image", width: int, height: int, changes: list[str]) -> "Image.Image":
    """Resize an image in proportion, and fill up the rest with the colour that most of its border has."""
    from PIL import Image

    if image.size == (width, height):
        return image
    scale = min(width / image.width, height / image.height)
    inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    changes.append(f"Resized from {image.width} x {image.height} to {inner[0]} x {inner[1]} pixels.")
    resized_image = image.resize(inner, Image.Resampling.LANCZOS)
    if inner == (width, height):
        return resized_image
    padded_image = Image.new(image.mode, (width, height), border_colour(image))
    padded_image.paste(resized_image, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    changes.append(f"Filled up to {width} x {height} with the colour of its border.")
    return padded_image


def border_colour(image: "Image.Image") -> int | tuple[int, ...]:
    """Return the median of the border's colours, channel by channel."""
    width, height = image.size
    edges = [(0, 0, width, 1), (0, height - 1, width, height), (0, 0, 1, height), (width - 1, 0, width, height)]
    border_values = []
    for edge in edges:
        edge_values = np.asarray(image.crop(edge))
        border_values.append(edge_values.reshape(-1, *edge_values.shape[2:]))
    median = np.median(np.concatenate(border_values), axis=0).astype(int)
    if median.ndim == 0:
        return int(median)
    return tuple(median.tolist())


# ---------------------------------------------------------------- pixels to pictures


def png(values: np.ndarray, low: float, high: float) -> str:
    """Return an image (channels, height, width) in raw units as a data address; of two channels, the first is shown."""
    unit_values = np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)
    return data_address(np.rint(unit_values * 255).astype(np.uint8))


def data_address(pixels: np.ndarray) -> str:
    """Return uint8 (channels, height, width) as a PNG in a data address."""
    from PIL import Image

    if len(pixels) >= 3:
        image = Image.fromarray(np.ascontiguousarray(pixels[:3].transpose(1, 2, 0)))
    else:
        image = Image.fromarray(pixels[0])
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def error_map(error: np.ndarray) -> str:
    """Return errors in 0..1, (height, width), in the report's colours, as a data address."""
    positions = np.linspace(0, 1, len(INFERNO_STOPS))
    flat = np.clip(error, 0, 1).ravel()
    colours = []
    for stops in zip(*INFERNO_STOPS, strict=True):  # of one channel
        colours.append(np.interp(flat, positions, stops))
    return data_address(np.rint(np.stack(colours)).astype(np.uint8).reshape(3, *error.shape))
