"""Files of images as samples of a model: its channels, size and range, by the rules of its section input.

    resize: refuse | pad | stretch | crop      what becomes of an image of another size
    frames: refuse | first | each              what becomes of a file with several pages or an animation

The same for a dataset, for `ae score` and for the scoring service, so that clients send the files that they have. Images have 8
bits a channel, or where `high` is above 255 one channel of 16 bits, in the file's own units.
"""

from typing import TYPE_CHECKING, Protocol

import numpy as np

from aeops.errors import DataError
from aeops.kinds.pictures import (
    PILLOW_MODES,
    channels_first,
    count_frames,
    fit_size,
    in_channels,
    require_eight_bits,
    require_one_image,
    upright,
    use_image,
    without_alpha,
)

if TYPE_CHECKING:
    from PIL import Image

MAX_FRAMES = 1000  # of a file of which each is a sample
DEEP_SAMPLE_MODE = "F"  # in which their samples are brought to size, as resampling gives fractions
DEEP_MODES = ("I;16", "I;16L", "I;16B", "I")  # Pillow's names of one channel of 16 bits


class PictureRules(Protocol):
    """What a section input, of a recipe or a bundle, says of files of images."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def resize(self) -> str: ...
    @property
    def frames(self) -> str: ...


def is_deep(rules: PictureRules) -> bool:
    """Return whether the model's images have 16 bits a channel."""
    return rules.high > 255


def sample_dtype(rules: PictureRules) -> np.dtype:
    """Return the dtype of `picture_samples`."""
    return np.dtype(np.float32 if is_deep(rules) else np.uint8)


def sample_mode(rules: PictureRules) -> str:
    """Return Pillow's mode of the images of `sample_pictures`."""
    return DEEP_SAMPLE_MODE if is_deep(rules) else PILLOW_MODES[rules.shape[0]]


def picture_samples(content: bytes, rules: PictureRules, description: str, channels: int) -> np.ndarray:
    """Return the samples in a file of an image, (k, channels, height, width); k is 1 unless `frames` is each.

    Args:
        content: the bytes of the file.
        rules: the model's.
        description: the file, for messages.
        channels: of a sample: all of those that a file has, without targets.

    Raises:
        DataError: it is no image, has too many pixels, another depth, or what the rules refuse.
    """
    pictures = sample_pictures(content, rules, description, channels)
    if len(pictures) == 1:
        return channels_first(pictures[0], channels)[None]
    return np.stack([channels_first(picture, channels) for picture in pictures])


def sample_pictures(content: bytes, rules: PictureRules, description: str, channels: int) -> "list[Image.Image]":
    """Return the samples of `picture_samples` as images of the model's size, in Pillow's mode of `sample_mode`."""
    return use_image(content, description, lambda source: _samples_of(source, rules, description, channels))


def _samples_of(source: "Image.Image", rules: PictureRules, description: str, channels: int) -> "list[Image.Image]":
    if channels not in PILLOW_MODES or (is_deep(rules) and channels != 1):
        depth = "of 16 bits " if is_deep(rules) else ""
        raise DataError(f"{description}: the model's samples have {channels} channels {depth}each, which no file has: use .npy")
    if rules.frames == "refuse":
        require_one_image(source, description)
    if rules.frames != "each":
        return [_one_sample(source, rules, description, channels)]
    count = count_frames(source)
    if count > MAX_FRAMES:
        raise DataError(f"{description} has {count:,} pages or frames, expected at most {MAX_FRAMES:,}: split it")
    samples = []
    for frame in range(count):
        source.seek(frame)
        samples.append(_one_sample(source.copy() if count > 1 else source, rules, description, channels))
    return samples


def mask_sample(content: bytes, rules: PictureRules, description: str) -> np.ndarray:
    """Return the mask in a file of an image, bool (height, width), moved and scaled as its image is; marked where it is not 0.

    A pixel of a smaller mask is marked where any that it is made of was.
    """
    from PIL import Image, ImageOps

    height, width = rules.shape[-2:]
    values = use_image(content, description, _mask_values)
    if values.ndim == 3:
        values = values[..., : 3 if values.shape[2] > 2 else 1].max(axis=2)
    image = Image.fromarray((values != 0).astype(np.float32))
    if rules.resize == "crop":
        image = ImageOps.fit(image, (width, height), Image.Resampling.BOX)
    elif rules.resize == "pad":
        image = ImageOps.pad(image, (width, height), Image.Resampling.BOX, color=0)
    elif image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BOX)
    return np.asarray(np.asarray(image) > 0)


def _mask_values(source: "Image.Image") -> np.ndarray:
    return np.asarray(upright(source).convert("RGB") if source.mode == "P" else upright(source))


def _one_sample(source: "Image.Image", rules: PictureRules, description: str, channels: int) -> "Image.Image":
    if is_deep(rules):
        image = _deep_image(source, description)
        return _limited(_resized(image, rules, description), image)
    require_eight_bits(source, description)
    image = upright(source)
    if image.mode != PILLOW_MODES[channels] or "transparency" in image.info:
        image = in_channels(image if channels == 4 else without_alpha(image, []), channels, [])
    return _resized(image, rules, description)


def _deep_image(source: "Image.Image", description: str) -> "Image.Image":
    """Return an image of 16 bits as one of real numbers, in the same units."""
    from PIL import Image

    if source.mode not in DEEP_MODES:
        raise DataError(f"{description}: expected one channel of 16 bits, as input.high is above 255, got mode {source.mode}")
    return Image.fromarray(np.asarray(upright(source)).astype(np.float32))


def _limited(resized: "Image.Image", image: "Image.Image") -> "Image.Image":
    """Return real numbers within the extremes that they were made of: resampling goes beyond them at edges."""
    if resized is image:
        return image
    from PIL import Image

    values = np.asarray(image)
    return Image.fromarray(np.clip(np.asarray(resized), values.min(), values.max()))


def _resized(image: "Image.Image", rules: PictureRules, description: str) -> "Image.Image":
    height, width = rules.shape[-2:]
    if image.size == (width, height):
        return image
    from PIL import Image, ImageOps

    if rules.resize == "pad":
        return fit_size(image, width, height, [])
    if rules.resize == "stretch":
        return image.resize((width, height), Image.Resampling.LANCZOS)
    if rules.resize == "crop":
        return ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
    raise DataError(f"{description}: expected {width}x{height} pixels, got {image.width}x{image.height}: resize it first")
