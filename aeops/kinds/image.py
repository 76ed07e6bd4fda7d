"""Images: arrays (channels, height, width), and files that people have: PNG, JPEG, WebP, BMP, TIFF or .npy."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aeops.errors import DataError
from aeops.kinds import KIND_INFOS
from aeops.kinds.arrays import (
    NPY_SUFFIX,
    ArrayKind,
    describe_form,
    fit_numbers,
    fit_range,
    luma,
    makes_colours,
    read_npy_file,
    require_file,
)
from aeops.kinds.decoding import read_file_content
from aeops.kinds.folders import list_files
from aeops.kinds.image_names import IMAGE_FORMATS, IMAGE_SUFFIXES
from aeops.kinds.picture_samples import picture_samples
from aeops.kinds.pictures import (
    MAX_IMAGE_BYTES,
    PILLOW_MODES,
    channels_first,
    error_map,
    fit_size,
    png,
    read_image,
)
from aeops.kinds.results import ErrorLegend, Explanation, PageBlock, PageForm
from aeops.kinds.samples import FileSamples, FitOptions, FittedSample, SampleSpec

if TYPE_CHECKING:
    from ae_models.spec import InputSpec

NAMED_FILES = 3  # files that a message names


def read_folder(folder: Path, spec: SampleSpec) -> FileSamples:
    """Read every image of a folder and its subfolders, sorted by name; one that cannot be read is set aside with its reason.

    Hidden files are not counted.

    Raises:
        DataError: there is no image, or none that can be read.
    """
    listing = list_files(folder)
    names, images = [], []
    refused, skipped_count = dict(listing.problems), 0
    for file in listing.files:
        if file.suffix.lower() not in IMAGE_SUFFIXES:
            skipped_count += 1
            continue
        name = file.relative_to(folder).as_posix()
        try:
            images.append(read_pixels(file, spec))
            names += frame_names(name, len(images[-1]))
        except DataError as error:
            refused[name] = str(error)
    if not images:
        message = f"no image in {folder} that can be read: expected files that end in {', '.join(IMAGE_SUFFIXES)}"
        raise DataError("; ".join([message, *list(refused.values())[:NAMED_FILES]]))
    return FileSamples(names, np.concatenate(images), skipped=skipped_count, refused=refused)


def read_pixels(file: Path, spec: SampleSpec) -> np.ndarray:
    """Read a file's images, (k, channels, height, width), by the model's rules of size and pages.

    Raises:
        DataError: it is no image, or not one that the rules allow.
    """
    if spec.shape[0] not in PILLOW_MODES:
        raise DataError(f"{file}: the recipe's samples have {spec.shape[0]} channels, which no image has: use {NPY_SUFFIX}")
    return picture_samples(read_file_content(file, MAX_IMAGE_BYTES), spec, str(file), spec.shape[0])


def frame_names(name: str, count: int) -> list[str]:
    """Return the names of a file's samples: its own, or of several pages one each.

    >>> frame_names("scan.tiff", 2)
    ['scan.tiff#1', 'scan.tiff#2']
    """
    return [name] if count == 1 else [f"{name}#{number + 1}" for number in range(count)]


def fit_picture(content: bytes, spec: SampleSpec, options: FitOptions) -> FittedSample:
    """Make an image one sample of the model's channels, size and range."""
    channels, height, width = spec.shape
    if channels not in PILLOW_MODES:
        raise DataError(
            f"an image given; this recipe's samples have {channels} channels: drop a {NPY_SUFFIX} file, or paste numbers"
        )
    changes: list[str] = []
    image = fit_size(read_image(content, channels, "the file", changes), width, height, changes)
    values = channels_first(image, channels).astype(np.float64) / 255
    values, messages = invert_image(values, options, changes)
    if (spec.low, spec.high) != (0, 255):
        changes.append(f"Scaled from 0 to 255 to the model's {spec.low:g} to {spec.high:g}.")
    return FittedSample((spec.low + values * spec.span)[None], changes, messages)


def invert_image(values: np.ndarray, options: FitOptions, changes: list[str]) -> tuple[np.ndarray, list[str]]:
    """Swap light and dark of an image in [0, 1] where that was asked for, or where only that suits the recipe's bounds.

    Returns:
        The values, and hints.
    """
    if options.invert == "yes":
        changes.append("Light and dark changed places, as you asked.")
        return 1 - values, []
    mean, bounds = float(values.mean()), options.mean_bounds
    if bounds is None or bounds[0] <= mean <= bounds[1]:
        return values, []
    comparison = f"its mean is {mean:.2f} of the range, and the recipe expects {bounds[0]:g} to {bounds[1]:g}"
    if options.invert == "auto" and bounds[0] <= 1 - mean <= bounds[1]:
        changes.append(f"Light and dark changed places: {comparison}; the other way round it fits.")
        return 1 - values, []
    return values, [f"The sample is unlike what the recipe accepts: {comparison}."]


def error_panels(shown: np.ndarray, output: np.ndarray, spec: SampleSpec) -> list[PageBlock]:
    """Return the error at each pixel of an image; nothing where the reconstruction is of another shape.

    Args:
        shown: (1, channels, height, width) in raw units, within the range.
        output: its reconstruction in raw units.
        spec: the model's.
    """
    if makes_colours(shown.shape[1:], output.shape[1:]):
        output = luma(output)[:, None]
    if output.shape != shown.shape:
        return []
    error = np.abs(output - shown)[0].mean(axis=0) / spec.span
    caption = f"mean {error.mean():.3f}, most {error.max():.2f} of the range"
    return [PageBlock("image", error_map(error), "Error at each pixel", caption)]


def cause_panels(explanation: Explanation, spec: SampleSpec) -> list[PageBlock]:
    """Return how far each place is from normal, and the nearest normal sample, where the explanation has them."""
    blocks = []
    if "pixel_map" in explanation:
        distances = np.asarray(explanation["pixel_map"], np.float64)
        largest = float(distances.max())
        caption = f"how far each is from normal, up to {largest:.3g}"
        blocks.append(PageBlock("image", error_map(distances / (largest or 1.0)), "Score map", caption))
    if "nearest" in explanation:
        nearest = fit_range(np.asarray(explanation["nearest"]["sample"]), spec)
        blocks.append(PageBlock("image", png(nearest, spec.low, spec.high), "Nearest normal sample", "of the training"))
    return blocks


class ImageKind(ArrayKind):
    """See `aeops.kinds.interface.DataKind`."""

    ERROR_LEGEND: ErrorLegend = ErrorLegend("error at a pixel: 0", "1, the range of values")
    FILE_TYPES: tuple[str, ...] = KIND_INFOS["image"].file_types

    def read_file(self, path: Path, spec: SampleSpec) -> FileSamples:
        """Read a .npy file (one sample or a batch), an image, or every image of a folder and its subfolders, sorted by name.

        An image becomes what `aeops.kinds.picture_samples` says, by the model's rules for its size and its pages.

        Raises:
            UsageError: there is no such file.
            DataError: the file cannot be read, is refused by the model's rules, or the folder holds no image that can be read.
        """
        if path.is_dir():
            return read_folder(path, spec)
        require_file(path, f"a {NPY_SUFFIX} file, an image ({', '.join(IMAGE_SUFFIXES)}) or a folder of images")
        if path.suffix.lower() == NPY_SUFFIX:
            return read_npy_file(path, spec)
        if path.suffix.lower() in IMAGE_SUFFIXES:
            images = read_pixels(path, spec)
            return FileSamples(frame_names(path.name, len(images)), images)
        raise DataError(f"{path} is neither {NPY_SUFFIX} nor an image ({', '.join(IMAGE_SUFFIXES)}): convert it to one of these")

    def read_content(self, content: bytes, spec: SampleSpec) -> np.ndarray:
        """See `DataKind.read_content`."""
        return picture_samples(content, spec, "the image", spec.shape[0])

    def fit_sample(self, content: bytes, media_type: str, spec: SampleSpec, options: FitOptions) -> FittedSample:
        """See `DataKind.fit_sample`: an image in any size, a .npy file, JSON or a row of numbers."""
        if media_type.startswith("image/"):
            return fit_picture(content, spec, options)
        return fit_numbers(
            content, media_type, spec, options, f"an image ({', '.join(IMAGE_FORMATS)}), a {NPY_SUFFIX} file or text"
        )

    def page_form(self, spec: "InputSpec") -> PageForm:
        """See `DataKind.page_form`."""
        return PageForm(
            intro=describe_form("an image", spec),
            file_label="Drop an image or a .npy file here, or choose one",
            text_label="or paste a row of numbers, or JSON",
            accepts="image/png,image/jpeg,image/webp,image/bmp,image/tiff,.npy",
            has_invert=True,
            has_row=True,
        )

    def page_panels(
        self, batch: np.ndarray, output: np.ndarray | None, spec: SampleSpec, explanation: Explanation | None = None
    ) -> tuple[list[PageBlock], str]:
        """See `DataKind.page_panels`: the image, its reconstruction, the error at each pixel, and what explains its score."""
        shown = fit_range(batch, spec)
        blocks = [PageBlock("image", png(shown[0], spec.low, spec.high), "Given", "as the model sees it")]
        missing_error = "The scorer gives no reconstruction."
        if output is not None:
            blocks.append(PageBlock("image", png(output[0], spec.low, spec.high), "Reconstruction", "what the model makes of it"))
            error_blocks = error_panels(shown, output, spec)
            blocks += error_blocks
            missing_error = "" if error_blocks else "What this model makes is not what it is given, so there is no error to draw."
        return blocks + cause_panels(explanation or {}, spec), missing_error


KIND = ImageKind()
