"""Keys `channels` and `steps` of the section `input`: the named channels of a stored series, and the windows cut from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from ae_models.names import names_of, repeated_names
from ae_models.spec.fields import bounded_field
from ae_models.spec.messages import join_names

__all__ = ["UNITS_PER_SECOND", "ChannelSpec", "StepsSpec", "channel_list_errors", "window_mistakes"]

UNITS_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}  # of time stamps that are numbers

_MAX_NAME_CHARACTERS = 200


@dataclass(frozen=True)
class ChannelSpec:
    """One channel of a series: numbers with time stamps, in a unit of their own.

    Attributes:
        name: by which readings are sent.
        min, max: allowed values: a step of a dataset with another value is set aside, and a gap.
        low, high: the values that a network reads as 0 and 1; left out: the lowest and the highest of the training steps.
        headroom: how far beyond low and high a value may lie, in lengths of that range, until its window is an anomaly.
    """

    name: str
    min: float | None = bounded_field(None, omit_default=True)
    max: float | None = bounded_field(None, omit_default=True)
    headroom: float = bounded_field(1.0, low=0.0, high=1e6, omit_default=True)
    low: float | None = bounded_field(None, omit_default=True)
    high: float | None = bounded_field(None, omit_default=True)

    def validation_errors(self) -> list[str]:
        errors = []
        if not self.name.strip() or not self.name.isprintable() or len(self.name) > _MAX_NAME_CHARACTERS:
            errors.append(f"name: expected a printable name of up to {_MAX_NAME_CHARACTERS} characters, got {self.name!r}")
        if self.min is not None and self.max is not None and not self.min < self.max:
            errors.append(f"min is {self.min:g} and max is {self.max:g}: min must be below max")
        if (self.low is None) is not (self.high is None):
            errors.append("low and high: expected both of them or neither, got one")
        elif self.low is not None and self.high is not None and not self.low < self.high:
            errors.append(f"low is {self.low:g} and high is {self.high:g}: low must be below high")
        return errors


@dataclass(frozen=True)
class StepsSpec:
    """The steps of a stored series, and the windows that a model takes of them.

    Attributes:
        every: seconds from one step to the next. Readings are brought to the steps of a grid that begins with a machine's first.
        length: steps of a window.
        stride: steps from one window to the next; those of a series overlap where it is below the length.
        fill: the longest gap that is filled by straight lines, in steps; windows do not reach over a longer one.
        time: the column with the time stamps: ISO 8601, or numbers since 1970.
        time_unit: of time stamps that are numbers: s, ms, us or ns since 1970, in the years 1971 to 2261; left out: seconds, of
            any year.
        time_of_day: the column with the time of day, where that of `time` holds the date alone; left out: there is none.
        machine: the column that says of which machine or run a reading is; left out: all are of one.
        timezone: of stamps that name none, such as Europe/Berlin.
    """

    every: float = bounded_field(low=1e-6, high=1e9)
    length: int = bounded_field(low=2, high=65536)
    stride: int = bounded_field(1, low=1, high=65536)
    fill: int = bounded_field(2, low=0, high=65536)
    time: str = "time"
    time_unit: str | None = bounded_field(None, one_of=tuple(UNITS_PER_SECOND), omit_default=True)
    time_of_day: str | None = bounded_field(None, omit_default=True)
    machine: str | None = bounded_field(None, omit_default=True)
    timezone: str = bounded_field("UTC", omit_default=True)

    @property
    def time_columns(self) -> tuple[str, ...]:
        """The columns that say when a reading was made: one, or that of the date and that of the time of day."""
        return (self.time,) if self.time_of_day is None else (self.time, self.time_of_day)

    @property
    def stamp_columns(self) -> tuple[str, ...]:
        """The columns that say when and of which machine a reading is."""
        return self.time_columns if self.machine is None else (*self.time_columns, self.machine)

    def validation_errors(self) -> list[str]:
        errors = []
        if self.stride > self.length:
            errors.append(f"stride is {self.stride} and length is {self.length}: no window would hold the steps in between")
        for name in repeated_names(self.stamp_columns):
            errors.append(f"time, time_of_day and machine name the column {name} twice: expected different columns")
        try:
            ZoneInfo(self.timezone)
        except (KeyError, ValueError, OSError):  # of no such zone, no such name, a folder of zones
            errors.append(f"timezone: expected a zone such as UTC or Europe/Berlin, got {self.timezone!r}")
        return errors


def channel_list_errors(channels: Sequence[ChannelSpec], steps: StepsSpec | None) -> list[str]:
    """Return a message for each mistake in the channels of a series and how they go with the columns of its steps."""
    if steps is None:
        return ["steps is missing: a series with channels needs {every, length} of its steps"]
    if not channels:
        return ["channels is empty and steps is set: expected {name} of one channel or more"]
    names = names_of(channels)
    repeated = repeated_names(names)
    errors = [f"channels names {join_names(repeated)} twice"] if repeated else []
    taken = [name for name in steps.stamp_columns if name in names]
    if taken:
        errors.append(f"channels names {join_names(taken)}, which steps reads as time or machine")
    return errors


def window_mistakes(channels: Sequence[ChannelSpec], steps: StepsSpec, shape: Sequence[int]) -> list[str]:
    """Return a message where a given shape is not that of a window."""
    expected = (len(channels), steps.length)
    if tuple(shape) == expected:
        return []
    return [f"shape is {list(shape)}, expected {list(expected)}, the channels and the length of a window: leave it out"]
