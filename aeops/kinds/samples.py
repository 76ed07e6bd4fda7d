"""Samples of any kind, as readers return them and as a model takes them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self, overload

import numpy as np

from ae_models.spec import ChannelSpec, InputSpec, SampleRules, StepsSpec
from aeops.errors import UsageError
from aeops.kinds.series_windows import SeriesWindows
from aeops.kinds.table_vectors import ServedColumn, read_columns

INVERT_CHOICES = ("auto", "no", "yes")  # of light and dark


@dataclass(frozen=True)
class SampleSpec:
    """The samples that a model takes and what it makes of them.

    Attributes:
        shape: of one sample as it is served, such as (channels, height, width); (tokens,) for texts.
        output_shape: of a reconstruction.
        low, high: the range of a sample's values.
        stored_shape: of a sample as a dataset stores it; empty where it is not known.
        rules: for samples that are not as those of the training; None: of a bundle of format 1 or 2, whose network takes no
            values outside the range, and none that are missing.
        columns: of a table, in the order of an array of rows; empty for other kinds.
        one_hot: categories of a column that have a place of their own in a vector, at most.
        resize, frames: what becomes of files of images of another size, and of several pages; see `ae_models.spec.InputSpec`.
        channels: of a series that is stored step by step, each with a range of its own; empty for others, also for bare windows.
        steps: of such a series; None for others.
    """

    shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    low: float
    high: float
    stored_shape: tuple[int, ...] = ()
    rules: SampleRules | None = None
    columns: tuple[ServedColumn, ...] = ()
    one_hot: int = 32
    resize: str = "refuse"
    frames: str = "refuse"
    channels: tuple[ChannelSpec, ...] = ()
    steps: StepsSpec | None = None

    @classmethod
    def from_bundle(cls, document: Mapping[str, Any]) -> Self:
        """Read the spec from a bundle's bundle.json; a bundle of format 1 takes and makes what is stored."""
        input_spec = document["input"]
        rules = SampleRules.from_dict(document["samples"]) if "samples" in document else None
        return cls(
            tuple(document.get("given", input_spec)["shape"]),
            tuple(document.get("made", input_spec)["shape"]),
            float(input_spec["low"]),
            float(input_spec["high"]),
            tuple(input_spec["shape"]),
            rules,
            read_columns(document),
            int(input_spec.get("one_hot", InputSpec().one_hot)),
            str(input_spec.get("resize", InputSpec().resize)),
            str(input_spec.get("frames", InputSpec().frames)),
            tuple(ChannelSpec(**channel) for channel in input_spec.get("channels", [])),
            StepsSpec(**input_spec["steps"]) if "steps" in input_spec else None,
        )

    @property
    def span(self) -> float:
        """Return the length of the range."""
        return self.high - self.low

    @property
    def value_range(self) -> tuple[Any, Any]:
        """Return low and high: two numbers, or of a series with channels float32 (channels, 1) each."""
        if not self.channels:
            return self.low, self.high
        ranges = np.array([(channel.low, channel.high) for channel in self.channels], dtype=np.float32)
        return ranges[:, :1], ranges[:, 1:]

    @property
    def allowed_range(self) -> tuple[Any, Any]:
        """Return the lowest and the highest value inside the range, likewise: that of a channel has its headroom."""
        low, high = self.value_range
        if not self.channels:
            return low, high
        reach = np.array([[channel.headroom] for channel in self.channels], dtype=np.float32) * (high - low)
        return low - reach, high + reach

    def unit(self, samples: np.ndarray) -> np.ndarray:
        """Return raw values (n, ...) as float32 in [0, 1], those of a channel by its own range."""
        low, high = self.value_range
        return np.asarray((samples.astype(np.float32) - low) / (high - low), dtype=np.float32)


class CheckedSamples(NamedTuple):
    """Samples as a network takes them.

    Attributes:
        model_input: (n, ...); values may lie outside the range or be missing, where the network takes such.
        flags: of each sample, (n,); see `aeops.kinds.flags`.
    """

    model_input: np.ndarray
    flags: np.ndarray


class NumberedNames(Sequence[str]):
    """The names of a file's samples, `batch.npy[0]` and so on, made when they are needed: a file may have millions."""

    def __init__(self, file: str, rows: range) -> None:
        self._file, self._rows = file, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[str]:
        for row in self._rows:
            yield f"{self._file}[{row}]"

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return NumberedNames(self._file, self._rows[index])
        return f"{self._file}[{self._rows[index]}]"


@dataclass(frozen=True)
class FileSamples:
    """The samples of a file or folder.

    Attributes:
        names: one a sample.
        values: (n, *shape) as in the file, or texts as strings, object (n,); memory-mapped where the file allows it.
            A .npy file may hold one sample without its batch axis.
        skipped: how many files of a folder are of another kind.
        refused: files of a folder that should hold a sample and cannot be read -> the reason.
        series: of a file with a series, whose windows the samples are; None for others.
    """

    names: Sequence[str]
    values: np.ndarray
    skipped: int = 0
    refused: Mapping[str, str] = field(default_factory=dict)
    series: SeriesWindows | None = None


@dataclass(frozen=True)
class FitOptions:
    """What a person may say about the sample that they dropped or pasted.

    Attributes:
        row: which sample of several, from 0.
        invert: one of `INVERT`: whether light and dark of an image change places; auto: where only that suits `mean_bounds`.
        mean_bounds: the recipe's bounds of a sample's mean, scaled to [0, 1]; None where it has none.
    """

    row: int = 0
    invert: str = "auto"
    mean_bounds: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Raise UsageError for an `invert` that there is not."""
        if self.invert not in INVERT_CHOICES:
            raise UsageError(f"invert: expected {', '.join(INVERT_CHOICES)}, got {self.invert!r}")


@dataclass(frozen=True)
class FittedSample:
    """One sample made to fit a model, and all that was done to it.

    Attributes:
        batch: (1, *shape) in raw units, or (1,) with a string.
        changes: every change, a sentence each.
        hints: what a person might want to try otherwise.
    """

    batch: np.ndarray
    changes: list[str]
    hints: list[str]
