"""Looks at image files: their headers, and the values of some of them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aeops.data.sources.image_files import ImageFolder
from aeops.errors import DataError
from aeops.kinds.decoding import read_file_content
from aeops.kinds.image_names import name_problem
from aeops.kinds.picture_samples import DEEP_MODES, picture_samples
from aeops.kinds.pictures import EXIF_ORIENTATION, MAX_IMAGE_BYTES, count_frames, use_image

if TYPE_CHECKING:
    from PIL import Image

PROBED_FILES = 2000  # whose headers are read, evenly spaced
MEASURED_FILES = 300  # that are decoded at the proposed size
LEAST_DIFFERENT = 10  # pictures that have to differ: copies share a split, and each of the four needs some
GREY_MODES = ("1", "L", "LA", "La", *DEEP_MODES)
ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")


@dataclass
class ImageProbe:
    """What the headers of the probed files say.

    Attributes:
        names: the files that can be read, below the folder.
        sizes: (width, height) of each, upright.
        modes: Pillow's modes -> number of files.
        formats: formats -> number of files.
        frames: files with several pages or frames.
        turned: files that their EXIF orientation turns.
        transparent: files with an alpha channel.
        deepest: the largest value of the probed files of 16 bits, of those that were measured.
        problems: file -> why it cannot be read.
    """

    names: list[str] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    modes: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    frames: list[str] = field(default_factory=list)
    turned: int = 0
    transparent: int = 0
    deepest: int = 0
    problems: dict[str, str] = field(default_factory=dict)

    @property
    def deep_count(self) -> int:
        """Files with one channel of 16 bits."""
        return sum(self.modes[mode] for mode in DEEP_MODES)

    @property
    def is_deep(self) -> bool:
        """Whether most files have 16 bits a channel."""
        return 2 * self.deep_count > len(self.names)

    @property
    def is_grey(self) -> bool:
        """Whether no file has colours."""
        return self.modes.keys() <= set(GREY_MODES)


def evenly_spaced(names: Sequence[str], count: int) -> list[str]:
    """Return at most `count` of the names, evenly spaced."""
    if len(names) <= count:
        return list(names)
    return [names[int(place)] for place in np.linspace(0, len(names) - 1, count)]


def probe_images(folder: Path, listing: ImageFolder) -> ImageProbe:
    """Read the headers of files of a folder, evenly spaced."""
    probe = ImageProbe()
    for name in evenly_spaced(listing.images, PROBED_FILES):
        try:
            content = read_file_content(folder / name, MAX_IMAGE_BYTES)
            if problem := name_problem(name, content):
                raise DataError(problem)
            use_image(content, "the file", partial(_probe_one, probe, name))
        except DataError as error:
            probe.problems[name] = str(error).removeprefix("the file").removeprefix(str(folder / name)).lstrip(": ")
    return probe


def _probe_one(probe: ImageProbe, name: str, image: "Image.Image") -> None:
    orientation = image.getexif().get(EXIF_ORIENTATION, 1)
    frames = count_frames(image)
    mode = image.mode if image.mode != "P" or "transparency" not in image.info else "RGBA"
    if mode in DEEP_MODES and len(probe.names) < MEASURED_FILES:
        probe.deepest = max(probe.deepest, int(np.asarray(image).max()))
    else:
        image.load()  # a cut file has a whole header
    probe.names.append(name)
    probe.modes[mode] += 1
    probe.formats["JPEG" if image.format == "MPO" else str(image.format)] += 1
    probe.sizes.append(image.size[::-1] if orientation in (5, 6, 7, 8) else image.size)
    probe.turned += orientation != 1
    probe.transparent += mode in ALPHA_MODES
    if frames > 1:
        probe.frames.append(name)


@dataclass(frozen=True)
class ValueRange:
    """Statistics of samples scaled to [0, 1].

    Attributes:
        means, stds: the smallest and the largest of their means and deviations.
        blank: samples of a single colour.
        copies: samples that equal an earlier one, as far as they were compared.
        count: samples that were measured.
        different: of those with more than a single colour.
    """

    means: tuple[float, float]
    stds: tuple[float, float]
    blank: int
    copies: int
    count: int
    different: int


def require_different(values: ValueRange, name: str) -> None:
    """Raise DataError where measured images are so alike that there is nothing to learn, and nothing to test a model on."""
    if values.count < LEAST_DIFFERENT or values.different >= LEAST_DIFFERENT:
        return  # too few images are refused by their number
    reason = f"only {values.different} of {values.count:,} images that were measured differ from each other"
    if values.blank == values.count:
        reason = f"all {values.count:,} images that were measured show a single colour"
    raise DataError(
        f"{name}: {reason}: no model can be judged by them, as training and test need {LEAST_DIFFERENT} different ones or more: "
        "were they exported as they should be?"
    )


def measure_images(folder: Path, names: Sequence[str], rules: object) -> ValueRange:
    """Decode some of the files by the proposed rules, and measure them as validation does."""
    means, stds, seen, different = [], [], Counter[bytes](), set[bytes]()
    for name in evenly_spaced(names, MEASURED_FILES):
        try:
            content = read_file_content(folder / name, MAX_IMAGE_BYTES)
            samples = picture_samples(content, rules, "the file", rules.shape[0])  # type: ignore[arg-type, attr-defined]
        except DataError:
            continue  # counted among the problems
        for sample in samples / rules.high:  # type: ignore[attr-defined]
            means.append(float(sample.mean()))
            stds.append(float(sample.std()))
            seen[sample.tobytes()] += 1
            if stds[-1]:
                different.add(sample.tobytes())
    blank = stds.count(0)
    copies = seen.total() - len(seen)
    if not means:
        return ValueRange((0.0, 1.0), (0.0, 0.5), 0, 0, 0, 0)
    shown = (min(filter(None, stds), default=0.0), max(stds))
    return ValueRange((min(means), max(means)), shown, blank, copies, len(stds), len(different))
