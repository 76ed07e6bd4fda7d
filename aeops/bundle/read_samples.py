"""Samples from files that people have: .npy, images, a folder of images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

from aeops.errors import DataError, UsageError

IMAGES = (".jpeg", ".jpg", ".png")
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's name for each number of 8-bit channels


class Numbered(Sequence[str]):
    """The names of a file's samples, `batch.npy[0]` and so on, made when they are asked for: a file may have millions."""

    def __init__(self, file: str, places: range) -> None:
        self._file, self._places = file, places

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        return (f"{self._file}[{place}]" for place in self._places)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[str]: ...
    def __getitem__(self, place: int | slice) -> str | Sequence[str]:
        if isinstance(place, slice):
            return Numbered(self._file, self._places[place])
        return f"{self._file}[{self._places[place]}]"


@dataclass(frozen=True)
class Samples:
    """Samples and what to call each of them.

    Attributes:
        names: one a sample.
        values: (n, *shape) as in the file; memory-mapped where the file allows it.
        passed_over: how many files of the folder are no images.
    """

    names: Sequence[str]
    values: np.ndarray
    passed_over: int = 0


def read_samples(path: Path, shape: tuple[int, ...]) -> Samples:
    """Reads a .npy file (one sample or a batch), an image, or every image of a folder, sorted by name.

    Args:
        path: the file or folder.
        shape: of one sample, (channels, height, width); an image is converted to its channels, never to its size.

    Raises:
        UsageError: there is no such file.
        DataError: a file cannot be read, is of another size, or the folder holds no image.
    """
    if path.is_dir():
        return read_folder(path, shape)
    if not path.is_file():
        raise UsageError(f"no file {path}; a .npy file, an image ({', '.join(IMAGES)}) or a folder of images is allowed")
    if path.suffix.lower() == ".npy":
        return read_npy(path, shape)
    if path.suffix.lower() in IMAGES:
        return Samples([path.name], read_image(path, shape)[None])
    raise DataError(f"{path} is neither .npy nor an image ({', '.join(IMAGES)}): convert it to one of these")


def read_npy(file: Path, shape: tuple[int, ...]) -> Samples:
    try:
        values = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(
            f"{file} cannot be read as .npy ({str(error).splitlines()[0]}): write it again with numpy.save"
        ) from error
    if not isinstance(values, np.ndarray):
        raise DataError(f"{file} holds several arrays; one array in a .npy file is allowed")
    one = values.shape in (shape, shape[1:] if shape[0] == 1 else shape)
    count = 1 if one or values.ndim == 0 else len(values)
    return Samples(Numbered(file.name, range(count)), values)


def read_folder(folder: Path, shape: tuple[int, ...]) -> Samples:
    files = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    images = [file for file in files if file.suffix.lower() in IMAGES]
    if not images:
        raise DataError(f"no image in {folder}; files that end in {', '.join(IMAGES)} are allowed")
    values = np.stack([read_image(file, shape) for file in images])
    return Samples([file.name for file in images], values, passed_over=len(files) - len(images))


def read_image(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    """One image as uint8 (channels, height, width).

    Raises:
        DataError: it cannot be read, has more than 8 bits a channel, or is of another size.
    """
    from PIL import Image, UnidentifiedImageError

    channels, height, width = shape
    if channels not in MODES:
        raise DataError(f"{file} given; the recipe's samples have {channels} channels, which no image has: give a .npy file")
    try:
        with Image.open(file) as image:
            if image.mode.startswith(("I", "F")):
                raise DataError(f"{file} has more than 8 bits a channel; 8 are allowed: convert it, or give a .npy file")
            if image.size != (width, height):
                raise DataError(f"{file} is {image.width}x{image.height} pixels; {width}x{height} are allowed: resize it first")
            pixels = np.asarray(image.convert(MODES[channels]))
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError) as error:
        raise DataError(f"{file} cannot be read as an image ({type(error).__name__}): replace or remove it") from error
    return pixels.reshape(height, width, channels).transpose(2, 0, 1)
