"""Faults of images (channels, height, width) in [0, 1]. All channels are damaged at the same place.

Shares refer to the image itself, so that a strength means the same at 8 x 8 and at 512 x 512 pixels.
"""

import math

import numpy as np

from ae_models.fault_interface import DonorFunction, Fault
from ae_models.sample_sets import SampleArray

__all__ = ["IMAGE_FAULTS"]

_KERNEL_DEVIATIONS = 3  # of the blur, beyond which its kernel is cut off
_SCRATCH_SIDES = 28  # a scratch is as wide as this part of the shorter side, and at least a pixel
_AREA_STRENGTHS = (0.01, 0.03, 0.08, 0.15, 0.3)
_AREA_UNIT, _SIDE_UNIT = "of the image's area", "of the shorter side"


def _cut_and_paste(image: SampleArray, strength: float, generator: np.random.Generator, draw_donor: DonorFunction) -> SampleArray:
    """Paste a piece of the image somewhere else in it (CutPaste, Li et al. 2021, CVPR)."""
    height, width = _patch_size(image, strength)
    rows, columns = image.shape[1] - height + 1, image.shape[2] - width + 1
    source_draw, target_draw = generator.random(2)
    source = int(source_draw * rows * columns)
    target = (source + 1 + int(target_draw * (rows * columns - 1))) % (rows * columns)  # never the piece's own place, if another
    (top, left), (new_top, new_left) = divmod(source, columns), divmod(target, columns)
    damaged = image.copy()
    damaged[:, new_top : new_top + height, new_left : new_left + width] = image[:, top : top + height, left : left + width]
    return damaged


def _scratch(image: SampleArray, strength: float, generator: np.random.Generator, draw_donor: DonorFunction) -> SampleArray:
    """Draw a straight line of so many sides, in the value, lowest or highest, that is farther from what it covers."""
    height, width = image.shape[1:]
    side = min(height, width)
    centre_y, centre_x = (0.25 + 0.5 * generator.random(2)) * (height - 1, width - 1)
    angle = math.pi * generator.random()
    y, x = np.mgrid[:height, :width]
    along = (x - centre_x) * math.cos(angle) + (y - centre_y) * math.sin(angle)
    across = (y - centre_y) * math.cos(angle) - (x - centre_x) * math.sin(angle)
    beyond_end = np.maximum(np.abs(along) - strength * side / 2, 0)
    line_width = max(1.0, side / _SCRATCH_SIDES)
    coverage = np.clip(line_width / 2 + 0.5 - np.hypot(across, beyond_end), 0, 1)
    mean = float((image * coverage).sum() / (coverage.sum() * len(image)))
    scratched: SampleArray = image + coverage * (_farther_end(mean) - image)
    return scratched


def _blur(image: SampleArray, strength: float, generator: np.random.Generator, draw_donor: DonorFunction) -> SampleArray:
    """Apply a Gaussian blur of so many sides; beyond the border the image goes on with its outermost pixels."""
    deviation = strength * min(image.shape[1:])
    radius = math.ceil(_KERNEL_DEVIATIONS * deviation)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / deviation) ** 2)
    weights /= weights.sum()
    blurred = image
    for axis in (1, 2):
        padding = [(0, 0), (0, 0), (0, 0)]
        padding[axis] = (radius, radius)
        padded = np.pad(blurred, padding, mode="edge")
        # Sums of shifted images, no matrix product: the last digits of that depend on the number of threads.
        blurred = np.zeros_like(image)
        for shift, weight in enumerate(weights):
            window = [slice(None), slice(None), slice(None)]
            window[axis] = slice(shift, shift + image.shape[axis])
            blurred += weight * padded[tuple(window)]
    return blurred


def _occlusion(image: SampleArray, strength: float, generator: np.random.Generator, draw_donor: DonorFunction) -> SampleArray:
    """Cover a rectangle with one colour, drawn uniformly."""
    damaged = image.copy()
    rows, columns = _draw_place(image, strength, generator)
    damaged[:, rows, columns] = generator.random((len(image), 1, 1))
    return damaged


def _foreign_patch(image: SampleArray, strength: float, generator: np.random.Generator, draw_donor: DonorFunction) -> SampleArray:
    """Replace a rectangle by the same place of another sample."""
    damaged = image.copy()
    rows, columns = _draw_place(image, strength, generator)
    damaged[:, rows, columns] = draw_donor()[:, rows, columns]
    return damaged


def _brightness(image: SampleArray, strength: float, generator: np.random.Generator, draw_donor: DonorFunction) -> SampleArray:
    """Make the whole image brighter or darker, each half of the time."""
    return image + _draw_sign(generator) * strength


def _rotation(image: SampleArray, strength: float, generator: np.random.Generator, draw_donor: DonorFunction) -> SampleArray:
    """Turn the image around its centre, to the left or to the right, and interpolate between its pixels.

    What comes in from outside has the value of the nearest pixel of the border.
    """
    height, width = image.shape[1:]
    angle = _draw_sign(generator) * math.radians(strength)
    centre_y, centre_x = (height - 1) / 2, (width - 1) / 2
    y, x = np.mgrid[:height, :width].astype(np.float64)
    y, x = y - centre_y, x - centre_x
    source_y = np.clip(centre_y + y * math.cos(angle) - x * math.sin(angle), 0, height - 1)
    source_x = np.clip(centre_x + y * math.sin(angle) + x * math.cos(angle), 0, width - 1)
    top, left = np.floor(source_y).astype(int), np.floor(source_x).astype(int)
    bottom, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    down, across = source_y - top, source_x - left
    upper = image[:, top, left] * (1 - across) + image[:, top, right] * across
    lower = image[:, bottom, left] * (1 - across) + image[:, bottom, right] * across
    rotated: SampleArray = upper * (1 - down) + lower * down
    return rotated


def _patch_size(image: SampleArray, area: float) -> tuple[int, int]:
    """Return height and width of a rectangle with the image's own proportions, at least a pixel each."""
    height, width = (max(1, round(math.sqrt(area) * side)) for side in image.shape[1:])
    return height, width


def _draw_place(image: SampleArray, area: float, generator: np.random.Generator) -> tuple[slice, slice]:
    """Return the rows and columns of a rectangle that lies inside the image."""
    place = []
    for size, side, draw in zip(_patch_size(image, area), image.shape[1:], generator.random(2), strict=True):
        first = int(draw * (side - size + 1))
        place.append(slice(first, first + size))
    return place[0], place[1]


def _draw_sign(generator: np.random.Generator) -> int:
    return 1 if generator.random() < 0.5 else -1


def _farther_end(value: float) -> float:
    """Return 0 or 1, the one that is farther from a value in [0, 1]; 1 from the middle."""
    return 1.0 if value <= 0.5 else 0.0


IMAGE_FAULTS = (
    Fault(
        "cut-and-paste", "A part sits where another one belongs.", _AREA_UNIT, _AREA_STRENGTHS, highest=1.0, damage=_cut_and_paste
    ),
    Fault(
        "scratch",
        "A thin line on the surface or the lens.",
        _SIDE_UNIT,
        (0.1, 0.2, 0.4, 0.7, 1.0),
        highest=2.0,
        damage=_scratch,
    ),
    Fault(
        "blur",
        "The lens is out of focus or dirty.",
        _SIDE_UNIT,
        (0.01, 0.02, 0.035, 0.055, 0.08),
        highest=0.5,
        damage=_blur,
    ),
    Fault(
        "occlusion",
        "Something of one colour stands before the object.",
        _AREA_UNIT,
        _AREA_STRENGTHS,
        highest=1.0,
        damage=_occlusion,
    ),
    Fault(
        "foreign-patch",
        "A part comes from another object of the same kind.",
        _AREA_UNIT,
        _AREA_STRENGTHS,
        highest=1.0,
        damage=_foreign_patch,
    ),
    Fault(
        "brightness",
        "The lamp or the exposure has changed.",
        "of the range of values",
        (0.03, 0.07, 0.15, 0.25, 0.4),
        highest=1.0,
        damage=_brightness,
    ),
    Fault(
        "rotation",
        "The object or the camera is turned.",
        "degrees",
        (5.0, 10.0, 20.0, 45.0, 90.0),
        highest=180.0,
        damage=_rotation,
    ),
)
