"""Whatever was dropped or pasted -> one sample of the model's shape, and a list of all that was done to it.

Nothing is done silently: every change is a sentence in `Shaped.done`, and what cannot be decided for a person is refused.
"""

import io
import json
import math
import re
from dataclasses import dataclass
from tokenize import TokenError
from typing import Any

import numpy as np

from aeops.errors import DataError, UsageError
from aeops.serving.npy import MEDIA_TYPE, read_npy

LARGEST_UPLOAD = 8 * 2**20  # bytes
LARGEST_PICTURE = 40_000_000  # pixels: a phone's; more is refused before it is decoded
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
INVERT = ("auto", "no", "yes")
IMAGE, SERIES, TEXT = "image", "series", "text"


@dataclass(frozen=True)
class Wanted:
    """What the model takes.

    Attributes:
        kind: image, series or text.
        shape: of one sample as it is served.
        low, high: the range of its values.
        mean: the recipe's bounds of a sample's mean, scaled to [0, 1]; None where it has none.
    """

    kind: str
    shape: tuple[int, ...]
    low: float
    high: float
    mean: tuple[float, float] | None = None


@dataclass(frozen=True)
class Shaped:
    """One sample as the model takes it.

    Attributes:
        sample: an array of the model's shape in raw units, or a text.
        done: every change that was made to what was given, a sentence each.
        hints: what a person might want to try otherwise.
    """

    sample: Any
    done: list[str]
    hints: list[str]


def shape(content: bytes, kind: str, wanted: Wanted, row: int = 0, invert: str = "auto") -> Shaped:
    """The sample.

    Args:
        content: what was uploaded or pasted.
        kind: its media type: image/*, application/x-npy, or text/plain for what was pasted.
        row: which sample of several, from 0.
        invert: of an image, whether light and dark change places; auto: where only that suits the recipe's bounds.

    Raises:
        UsageError: an option that there is not.
        DataError: it cannot be made a sample of the model, and why.
    """
    if invert not in INVERT:
        raise UsageError(f"invert {invert!r} given; {', '.join(INVERT)} are allowed")
    if not content.strip():
        raise DataError("nothing was given: drop a file or paste a sample")
    if wanted.kind == TEXT:
        return of_text(content, kind)
    if kind.startswith("image/"):
        return of_picture(content, wanted, invert)
    if kind == MEDIA_TYPE:
        return of_array(read_array(content), wanted, row)
    if kind.startswith("text/") or kind == "application/json":
        return of_array(read_numbers(decoded(content)), wanted, row)
    raise DataError(f"a file of type {kind or 'unknown'} given; an image ({', '.join(FORMATS)}), a .npy file or text is allowed")


# ---------------------------------------------------------------- texts


def of_text(content: bytes, kind: str) -> Shaped:
    if not kind.startswith("text/") and kind != "application/json":
        raise DataError("this recipe takes texts: paste one, or drop a .txt file")
    text = decoded(content).strip()
    done = []
    if text.startswith('"'):
        try:
            text = str(json.loads(text))
            done.append("Read as a JSON string.")
        except ValueError:  # a text may begin with a quotation mark
            done.append("Taken as it is: it begins with a quotation mark and is no JSON.")
    if "\n" in text:
        text = " ".join(text.split())
        done.append("Line breaks were made spaces: a sample is one text.")
    return Shaped(text, done, [])


def decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError("the text is no UTF-8: convert it, as with iconv -t UTF-8") from error


# ---------------------------------------------------------------- arrays


def read_array(content: bytes) -> np.ndarray:
    """The array of a .npy file."""
    try:
        given = read_npy(content)
    except (ValueError, TokenError) as error:  # the second: what numpy lets through of a header that is no Python
        told = str(error).splitlines()[0]
        raise DataError(f"the file cannot be read as .npy ({told}): write it again with numpy.save") from error
    if given.dtype.kind not in "uif":
        raise DataError(f"an array of dtype {given.dtype} given; whole or real numbers are allowed")
    return given


def read_numbers(text: str) -> np.ndarray:
    """JSON (a sample, a batch, or the service's {"inputs": ...}), else numbers between commas, semicolons or spaces."""
    text = text.strip()
    try:
        given = json.loads(text)
        given = given["inputs"] if isinstance(given, dict) and "inputs" in given else given
    except ValueError:
        given = [word for word in re.split(r"[\s,;]+", text) if word]
    except RecursionError as error:
        raise DataError("the JSON is nested too deeply; a sample or a list of samples is allowed") from error
    try:
        found = np.asarray(given, dtype=np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(
            "what was pasted is neither JSON of numbers nor a row of numbers, such as 0 0 12.5 255 or [[0, 1], [2, 3]]"
        ) from error
    return found


def of_array(given: np.ndarray, wanted: Wanted, row: int) -> Shaped:
    """A sample out of an array: as it is, of a batch one row, or a flat row of as many numbers as the model takes."""
    one = {wanted.shape} | ({wanted.shape[1:]} if wanted.shape[0] == 1 else set())
    numbers, done = math.prod(wanted.shape), []
    if given.shape in one:
        sample = given.reshape(wanted.shape)
    elif given.ndim > 0 and given.shape[1:] in one | {(numbers,)} and len(given):
        if not 0 <= row < len(given):
            raise DataError(f"sample {row} asked for; what was given holds the samples 0 to {len(given) - 1}")
        sample = given[row].reshape(wanted.shape)
        done += [f"Of {len(given):,} samples given, number {row} is shown."] if len(given) > 1 else []
    elif given.shape == (numbers,):
        sample = given.reshape(wanted.shape)
        done.append(f"A row of {numbers} numbers was laid out as {sizes(wanted.shape)}.")
    else:
        allowed = f"one sample of {sizes(wanted.shape)}, a batch of such, or a row of {numbers} numbers is allowed"
        raise DataError(f"{told_shape(given)} given; {allowed}")
    require_range(sample, wanted)
    return Shaped(sample, done, [])


def require_range(sample: np.ndarray, wanted: Wanted) -> None:
    inside = (sample >= wanted.low) & (sample <= wanted.high)  # false for NaN too
    if not inside.all():
        found = sample[~inside].flat[0]
        raise DataError(f"the sample holds {found:g}; values from {wanted.low:g} to {wanted.high:g} are allowed")


def sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def told_shape(given: np.ndarray) -> str:
    return f"{given.size} numbers" if given.ndim == 1 else f"an array of {sizes(given.shape) or 'a single number'}"


# ---------------------------------------------------------------- pictures


def of_picture(content: bytes, wanted: Wanted, invert: str) -> Shaped:
    if wanted.kind != IMAGE or wanted.shape[0] not in (1, 3):
        raise DataError(
            f"an image given; this recipe takes {wanted.kind}s of {sizes(wanted.shape)}: drop a .npy file, or paste numbers"
        )
    done: list[str] = []
    values = pixels(content, wanted, done) / 255  # (channels, height, width) in [0, 1]
    values, hints = inverted(values, wanted, invert, done)
    if (wanted.low, wanted.high) != (0, 255):
        done.append(f"Scaled from 0 to 255 to the model's {wanted.low:g} to {wanted.high:g}.")
    return Shaped(wanted.low + values * (wanted.high - wanted.low), done, hints)


def pixels(content: bytes, wanted: Wanted, done: list[str]) -> np.ndarray:
    """uint8 as float64 (channels, height, width) in the model's size; notes every step in `done`."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    channels, height, width = wanted.shape
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            if opened.width * opened.height > LARGEST_PICTURE:
                raise DataError(f"an image of {opened.width} x {opened.height} pixels given; {LARGEST_PICTURE:,} are allowed")
            if opened.mode.startswith(("I", "F")):
                raise DataError("an image of more than 8 bits a channel given; 8 are allowed: convert it, or drop a .npy file")
            opened.load()
            image: Image.Image = ImageOps.exif_transpose(opened)
            if image.size != opened.size:
                done.append("Turned upright, as the camera noted.")
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise DataError(
            f"the file cannot be read as an image ({type(error).__name__}); {', '.join(FORMATS)} are allowed"
        ) from error
    image = without_alpha(image, done)
    image = in_channels(image, channels, done)
    if image.size != (width, height):
        image = resized(image, width, height, done)
    return np.asarray(image, dtype=np.float64).reshape(height, width, channels).transpose(2, 0, 1)


def without_alpha(image: Any, done: list[str]) -> Any:
    from PIL import Image

    if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
        return image
    layer = image.convert("RGBA")
    if layer.getextrema()[3][0] == 255:
        return layer.convert("RGB")
    done.append("Transparent parts were laid on white.")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def in_channels(image: Any, channels: int, done: list[str]) -> Any:
    if channels == 1 and image.mode != "L":
        done.append("Made greyscale (ITU-R 601 luma).")
        return image.convert("L")
    if channels == 3 and image.mode != "RGB":
        done.append("Grey became three equal colours." if image.mode in ("L", "1") else f"Converted from {image.mode} to RGB.")
        return image.convert("RGB")
    return image


def resized(image: Any, width: int, height: int, done: list[str]) -> Any:
    """In proportion, the rest filled up with the colour that most of the border has."""
    from PIL import Image

    scale = min(width / image.width, height / image.height)
    inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    done.append(f"Resized from {image.width} x {image.height} to {inner[0]} x {inner[1]} pixels.")
    small = image.resize(inner, Image.Resampling.LANCZOS)
    if inner == (width, height):
        return small
    around = Image.new(image.mode, (width, height), border(image))
    around.paste(small, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    done.append(f"Filled up to {width} x {height} with the colour of its border.")
    return around


def border(image: Any) -> Any:
    """The middle one of the border's colours, channel by channel."""
    values = np.asarray(image)
    around = np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
    middle = np.median(around, axis=0).astype(int)
    return int(middle) if middle.ndim == 0 else tuple(int(channel) for channel in middle)


def inverted(values: np.ndarray, wanted: Wanted, invert: str, done: list[str]) -> tuple[np.ndarray, list[str]]:
    """Light and dark changed where that was asked for, or where only that suits the recipe's bounds of a sample's mean."""
    mean, bounds = float(values.mean()), wanted.mean
    if invert == "yes":
        done.append("Light and dark changed places, as you asked.")
        return 1 - values, []
    if bounds is None or bounds[0] <= mean <= bounds[1]:
        return values, []
    told = f"its mean is {mean:.2f} of the range, and the recipe expects {bounds[0]:g} to {bounds[1]:g}"
    if invert == "auto" and bounds[0] <= 1 - mean <= bounds[1]:
        done.append(f"Light and dark changed places: {told}; the other way round it fits.")
        return 1 - values, []
    return values, [f"The sample is unlike what the recipe accepts: {told}."]
