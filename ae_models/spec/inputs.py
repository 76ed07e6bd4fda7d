"""Kinds of input, and the section `input`: one stored sample."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ae_models.spec.columns import SCALINGS, ColumnBlock, ColumnSpec, column_blocks, column_list_errors, with_categories
from ae_models.spec.fields import bounded_field
from ae_models.spec.series import ChannelSpec, StepsSpec, channel_list_errors, window_mistakes

__all__ = [
    "ARRAY_KINDS",
    "FRAME_RULES",
    "IMAGE",
    "INPUT_KINDS",
    "RESIZE_RULES",
    "SERIES",
    "TABLE",
    "TEXT",
    "VECTOR_KINDS",
    "InputSpec",
    "number_columns",
]

IMAGE, SERIES, TEXT, TABLE = "image", "series", "text", "table"
ARRAY_KINDS = (IMAGE, SERIES)  # values are numbers of one range; a text is made of token ids, a row of a table of columns
VECTOR_KINDS = (IMAGE, SERIES, TABLE)  # what a network reads has distances
INPUT_KINDS = (IMAGE, SERIES, TABLE, TEXT)
_AXES = {IMAGE: ("channels", "height", "width"), SERIES: ("channels", "steps"), TEXT: ("bytes",), TABLE: ("columns",)}
RESIZE_RULES = ("refuse", "pad", "stretch", "crop")
FRAME_RULES = ("refuse", "first", "each")
_DEFAULT_SHAPE, _DEFAULT_RANGE = (1, 28, 28), (0.0, 255.0)
_OWN_RANGES = (0.0, 1.0)  # has no meaning: each column or channel has its own


@dataclass(frozen=True)
class InputSpec:
    """One stored sample: an image (channels, height, width), a window of a series (channels, steps), a text (bytes,) or a row of
    a table (columns,).

    Values lie in [low, high]. A text is its UTF-8 bytes, padded with zeros. A row is float64, as `ColumnSpec` says; its shape
    follows from its columns. A series with channels is stored step by step; the shape is that of the windows that are cut from
    it, and each channel has a range of its own.
    """

    kind: str = bounded_field(IMAGE, one_of=INPUT_KINDS)  # of data
    shape: tuple[int, ...] = bounded_field((1, 28, 28), low=1, high=65536)  # of a stored sample
    low: float = bounded_field(0.0)  # lowest value
    high: float = bounded_field(255.0)  # highest value
    target_channels: int = bounded_field(0, low=0, high=4096)  # the last channels, which the model predicts from the others
    given: str = bounded_field("clean", one_of=("clean", "corrupted"))  # input of the served model; training always corrupts
    # Files of images of another size: refused, fitted in with their border's colour around, stretched, or their middle cut out.
    resize: str = bounded_field("refuse", one_of=RESIZE_RULES, omit_default=True)
    # Files with several pages or an animation: refused, the first image of each, or each image as a sample of its own.
    frames: str = bounded_field("refuse", one_of=FRAME_RULES, omit_default=True)
    columns: tuple[ColumnSpec, ...] = bounded_field((), omit_default=True)  # of a table, in the order of an array of rows
    scaling: str = bounded_field("robust", one_of=SCALINGS, omit_default=True)  # of a table's numbers
    one_hot: int = bounded_field(32, low=1, high=4096, omit_default=True)  # categories of a column with a place of their own
    channels: tuple[ChannelSpec, ...] = bounded_field((), omit_default=True)  # of a series that is stored step by step
    # Of a series with channels: its steps, and the windows that are cut from them.
    steps: StepsSpec | None = bounded_field(None, omit_default=True)  # noqa: RUF009  # a field, not a shared default

    def __post_init__(self) -> None:
        """Derive a table's shape from its columns and that of a window from its channels and steps, and leave them no range."""
        if self.shape == _DEFAULT_SHAPE and self.kind == TABLE and self.columns:
            object.__setattr__(self, "shape", (len(self.columns),))
        if self.shape == _DEFAULT_SHAPE and self.channels and self.steps is not None:
            object.__setattr__(self, "shape", (len(self.channels), self.steps.length))
        if self.has_own_ranges and (self.low, self.high) == _DEFAULT_RANGE:
            object.__setattr__(self, "low", _OWN_RANGES[0])
            object.__setattr__(self, "high", _OWN_RANGES[1])

    @property
    def has_own_ranges(self) -> bool:
        """Whether each column or channel has a range of its own, so that `low` and `high` mean nothing."""
        return self.kind == TABLE or bool(self.channels)

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Shape of a sample as a dataset holds it: of a series with channels a single step."""
        return (len(self.channels),) if self.channels else self.shape

    @property
    def ranges(self) -> tuple[tuple[float, float], ...]:
        """The values of each channel that a network reads as 0 and 1; 0 and 1 where they are not learnt yet."""
        pairs = []
        for channel in self.channels:
            is_known = channel.low is not None and channel.high is not None
            pairs.append((channel.low, channel.high) if is_known else _OWN_RANGES)
        return tuple(pairs)  # type: ignore[arg-type]  # None was ruled out

    def with_ranges(self, ranges: Mapping[str, Sequence[float]]) -> "InputSpec":
        """Return the series with these values as low and high, by the names of the channels."""
        channels = []
        for channel in self.channels:
            low, high = ranges.get(channel.name, (channel.low, channel.high))
            channels.append(replace(channel, low=low, high=high))
        return replace(self, channels=tuple(channels))

    @property
    def blocks(self) -> tuple[ColumnBlock, ...]:
        """The places of a table's columns in the vector that a network reads of a row."""
        return column_blocks(self.columns, self.one_hot)

    def with_categories(self, categories: Mapping[str, Sequence[str]]) -> "InputSpec":
        """Return the table with these categories, by the names of the columns."""
        return replace(self, columns=with_categories(self.columns, categories))

    def validation_errors(self) -> list[str]:
        errors = []
        for key in ("resize", "frames"):
            if self.kind != IMAGE and getattr(self, key) != "refuse":
                errors.append(f"{key} is {getattr(self, key)}, expected none for kind {self.kind}: it is of files of images")
        if self.kind != SERIES and (self.channels or self.steps is not None):
            errors.append(f"channels and steps are of kind {SERIES}, got kind {self.kind}: leave them out")
        if self.kind == TABLE:
            return errors + self._table_errors()
        if self.columns:
            errors.append(f"columns is set, expected none for kind {self.kind}")
        if self.kind == SERIES and (self.channels or self.steps is not None):
            return errors + self._series_errors()
        axes = _AXES[self.kind]
        if len(self.shape) != len(axes):
            errors.append(f"shape is {list(self.shape)}, expected [{', '.join(axes)}] for kind {self.kind}")
        if not self.low < self.high:
            errors.append(f"low is {self.low:g} and high is {self.high:g}: low must be below high")
        if self.kind == TEXT and (self.low, self.high) != (0, 255):
            errors.append(f"low is {self.low:g} and high is {self.high:g}, expected 0 and 255: a text is made of bytes")
        if self.kind == TEXT and self.given != "clean":
            errors.append(f"given is {self.given}, expected clean for kind text")
        if self.target_channels and self.kind != IMAGE:
            errors.append(f"target_channels is {self.target_channels}, expected 0 for kind {self.kind}")
        elif self.target_channels >= self.shape[0]:
            errors.append(
                f"target_channels is {self.target_channels}, expected at most {self.shape[0] - 1} with {self.shape[0]} channels: "
                "the model needs an input"
            )
        return errors

    def _series_errors(self) -> list[str]:
        errors = channel_list_errors(self.channels, self.steps)
        if self.channels and self.steps is not None:
            errors += window_mistakes(self.channels, self.steps, self.shape)
        if (self.low, self.high) != _OWN_RANGES:
            errors.append(f"low is {self.low:g} and high is {self.high:g}: leave them out, a channel has its own range")
        if self.target_channels:
            errors.append(f"target_channels is {self.target_channels}, expected 0 for kind {SERIES}")
        return errors

    def _table_errors(self) -> list[str]:
        errors = column_list_errors(self.columns)
        if self.columns and self.shape != (len(self.columns),):
            errors.append(f"shape is {list(self.shape)}, expected [{len(self.columns)}], the number of columns: leave it out")
        if (self.low, self.high) != _OWN_RANGES:
            errors.append(f"low is {self.low:g} and high is {self.high:g}: leave them out, a column has its own min and max")
        if self.given != "clean":
            errors.append(f"given is {self.given}, expected clean for kind {TABLE}")
        if self.target_channels:
            errors.append(f"target_channels is {self.target_channels}, expected 0 for kind {TABLE}")
        return errors


def number_columns(count: int, missing: bool = False) -> tuple[ColumnSpec, ...]:
    """Return so many columns of numbers, called c0, c1, ...: for plain arrays without names."""
    return tuple(ColumnSpec(f"c{index}", missing=missing) for index in range(count))
