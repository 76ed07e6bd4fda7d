"""Whether the rows of a file are readings over time: their channels, machines and usual step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ae_models.names import names_not_in
from ae_models.spec import ChannelSpec, StepsSpec
from aeops.data.sources.reading_columns import plain_readings
from aeops.intake.column_roles import ColumnRoles, machine_column, number_columns
from aeops.intake.proposal import Choices
from aeops.kinds.series_grid import Steps, to_steps
from aeops.kinds.series_readings import CHANNEL_COLUMN, VALUE_COLUMN, Readings, is_long, read_columns
from aeops.kinds.series_windows import run_bounds
from aeops.recipe.addresses import is_address
from aeops.recipe.sources import SERIES_SUFFIXES
from aeops.recipe.table_sources import TableSource, TextFormat

REGULAR = 0.8  # share of the steps in time that are the usual one, from which rows are readings and no events
NEAR = 0.1  # of the usual step, within which a step is it
GAP = 1.5  # usual steps, from which on a step is a gap
MOST_REPEATED = 0.2  # share of the rows with the time of another one, up to which these are repeats
MOST_CHANNELS = 64
SHARES = {"validation": 0.1, "calibration": 0.2, "test": 0.2}
MOST_BAD = 0.5  # share of the steps that lack a channel, up to which readings are proposed as a series
LENGTHS, LEAST_WINDOWS = (64, 32, 16, 8), 40  # steps of a window, of which a series has to hold so many times the length
LEAST_STEPS = LEAST_WINDOWS * LENGTHS[-1]


@dataclass(frozen=True)
class FoundSeries:
    """Readings that were read, and what their times show.

    Attributes:
        columns: names of all columns.
        channels: names of the channels.
        steps: the columns of times and machines, and the unit of times.
        every: seconds of the usual step.
        regular: share of the steps in time, gaps left out, that are the usual one.
        gaps: steps that are longer than GAP usual ones.
        step_count: steps of a grid over all machines.
        coverage: the smallest share of its steps that a machine has readings at.
        incomplete: share of the steps that lack the value of a channel after short gaps were filled.
        calibration_runs: lengths of the unbroken runs of whole steps in the part that calibrates, in steps.
        slowest: channel that is read less often than others, whose step is the usual one; None: all are read as often.
        repeated: share of the rows of the wide form that have the machine and the time of another row.
        constant: channels of the long form that never change, which are left out.
        resting: machine -> channels that change at another machine, and never at this one.
        text: dialect of the file; None: it is none of text.
        time_format: of its time stamps; None: ISO 8601.
        readings: as they were read.
    """

    columns: tuple[str, ...]
    channels: tuple[str, ...]
    steps: StepsSpec
    every: float
    regular: float
    gaps: int
    step_count: int
    coverage: float
    incomplete: float
    calibration_runs: tuple[int, ...]
    slowest: str | None
    repeated: float
    constant: tuple[str, ...]
    resting: Mapping[str, Sequence[str]]
    text: TextFormat | None
    time_format: str | None
    readings: Readings

    @property
    def time(self) -> str:
        """The columns of times, for people."""
        return " and ".join(self.steps.time_columns)

    @property
    def machine(self) -> str | None:
        """The column of machines; None: all readings are of one."""
        return self.steps.machine

    @property
    def untimed_share(self) -> float:
        """The share of the rows that have no time."""
        return len(self.readings.untimed) / (len(self.readings.times) + len(self.readings.untimed))


@dataclass(frozen=True)
class _Grid:
    """The steps that readings come in: see the attributes of FoundSeries with these names."""

    every: float
    regular: float
    gaps: int
    step_count: int
    coverage: float
    incomplete: float
    calibration_runs: tuple[int, ...]
    slowest: str | None


def find_series(columns: Mapping[str, Any], text: TextFormat | None, roles: ColumnRoles, choices: Choices) -> FoundSeries | None:
    """Return the series in columns whose rows are ordered in time; None where no column is a channel.

    Args:
        columns: name -> cells.
        text: dialect of a text file, whose cells are texts; None: they are not.
        roles: of the columns.
        choices: what the person said.

    Raises:
        DataError: a time stamp that is none.
    """
    profile = roles.time_profile
    assert profile is not None, "rows without times are no series"
    steps = StepsSpec(
        every=1.0,
        length=2,
        time=profile.name,
        time_unit=profile.time_unit,
        time_of_day=profile.time_of_day,
        machine=choices.group or machine_column(roles.kept),
    )
    if {CHANNEL_COLUMN, VALUE_COLUMN} <= columns.keys():
        channels = tuple(sorted({str(cell) for cell in columns[CHANNEL_COLUMN] if str(cell).strip()}))
    else:
        channels = number_columns(roles.kept, but=(steps.machine, roles.time))
    if not 1 <= len(channels) <= MOST_CHANNELS:
        return None
    columns = plain_readings(columns, text, channels, steps, profile.date_format)
    specs = list(map(ChannelSpec, channels))
    readings = read_columns(columns, specs, steps, text is not None, roles.labels, skip_untimed=True)
    constant = _constant_channels(readings.values, channels)
    changing = [place for place, name in enumerate(channels) if name not in constant]
    channels, readings = tuple(names_not_in(channels, constant)), replace(readings, values=readings.values[:, changing])
    times = _times_by_machine(readings, np.ones(len(readings.times), bool))
    if not channels or max(map(len, times)) < 2:
        return None
    return FoundSeries(
        **vars(_find_grid(readings, channels, steps, times)),
        columns=tuple(columns),
        channels=channels,
        steps=steps,
        repeated=0.0 if is_long(list(columns), ()) else 1 - sum(map(len, times)) / len(readings.times),
        constant=tuple(constant),
        resting=_resting_channels(readings, channels),
        text=None if text == TextFormat() else text,
        time_format=profile.date_format,
        readings=readings,
    )


def _find_grid(readings: Readings, channels: Sequence[str], steps: StepsSpec, times_by_machine: Sequence[np.ndarray]) -> _Grid:
    """Return the usual step of readings of channels, and what of them is read at each."""
    slowest, intervals = _slowest_channel(readings, channels, np.concatenate(list(map(np.diff, times_by_machine))))
    every = _round_seconds(float(np.median(intervals)))
    is_gap = intervals > GAP * every
    regular = float((np.abs(intervals[~is_gap] - every) <= NEAR * every).mean()) if (~is_gap).any() else 0.0
    step_count, coverage = 0, 1.0
    for times in times_by_machine:
        steps_of_machine = round((times[-1] - times[0]) / every) + 1
        step_count += steps_of_machine
        coverage = min(coverage, len(times) / steps_of_machine)
    incomplete, runs = 0.0, tuple[int, ...]()
    if regular >= REGULAR:
        grid = to_steps(readings, replace(steps, every=every))
        is_whole = ~np.isnan(grid.values).any(axis=1)
        incomplete = float(1 - is_whole.mean())
        runs = _calibration_runs(grid, is_whole, every)
    return _Grid(every, regular, int(is_gap.sum()), step_count, coverage, incomplete, runs, slowest)


def _calibration_runs(grid: Steps, is_whole: np.ndarray, every: float) -> tuple[int, ...]:
    """Return the lengths of the unbroken runs of whole steps that calibrate: the split is drawn before others are set aside."""
    start = 1 - SHARES["calibration"] - SHARES["test"]
    first, last = np.quantile(grid.times, (start, start + SHARES["calibration"]))
    is_used = is_whole & (grid.times >= first) & (grid.times < last)
    bounds = run_bounds(grid.machines[is_used], grid.times[is_used], every)
    return tuple(end - begin for begin, end in bounds)


def _times_by_machine(readings: Readings, is_read: np.ndarray) -> list[np.ndarray]:
    """Return the different times of some readings, for each machine that has some; `is_read` is bool (n,)."""
    times = []
    for machine in np.unique(readings.machines[is_read]):
        times.append(np.unique(readings.times[is_read & (readings.machines == machine)]))
    return times


def _slowest_channel(readings: Readings, channels: Sequence[str], intervals: np.ndarray) -> tuple[str | None, np.ndarray]:
    """Return the channel that is read less often than readings come, and its steps in time; None and `intervals` without one."""
    slowest = None
    for place, name in enumerate(channels):
        own_times = _times_by_machine(readings, ~np.isnan(readings.values[:, place]))
        own = np.concatenate(list(map(np.diff, own_times)))
        if len(own) and np.median(own) > GAP * np.median(intervals):
            slowest, intervals = name, own
    return slowest, intervals


def _constant_channels(values: np.ndarray, channels: Sequence[str]) -> list[str]:
    """Return the channels whose readings, (n, channels) in all, never change, or that have none."""
    constant = []
    for place, name in enumerate(channels):
        read = values[:, place][~np.isnan(values[:, place])]
        if not len(read) or (read == read[0]).all():
            constant.append(name)
    return constant


def _resting_channels(readings: Readings, channels: Sequence[str]) -> dict[str, list[str]]:
    """Return the machines some of whose channels never change, each with these channels."""
    resting = {}
    for machine in np.unique(readings.machines).tolist():
        constant = _constant_channels(readings.values[readings.machines == machine], channels)
        if constant:
            resting[machine] = constant
    return resting


def _round_seconds(seconds: float) -> float:
    """Return the whole number of seconds that a step is near to, or the step in milliseconds.

    >>> _round_seconds(299.998), _round_seconds(0.02)
    (300.0, 0.02)
    """
    if seconds >= 1 and abs(seconds - round(seconds)) <= 0.01 * seconds:
        return float(round(seconds))
    return round(seconds, 3) or seconds


def refusal_reason(found: FoundSeries | None, source: TableSource, file_count: int) -> str:
    """Return why rows in the order of time are not proposed as a series; empty where they are."""
    if found is None:
        return f"no column is a channel, which is a number, or there are more than {MOST_CHANNELS}"
    if found.repeated > MOST_REPEATED:
        return (
            f"{found.repeated:.0%} of the rows have the time of another. If they are of several machines, say --group COLUMN; "
            f"if each is a reading of one channel, call the columns {CHANNEL_COLUMN} and {VALUE_COLUMN}; if the time of day is "
            "in another column, write it as 14:30:00"
        )
    if found.regular < REGULAR:
        return f"only {found.regular:.0%} of the steps in time take the usual {found.every:g} s: events, and no readings"
    if found.step_count < LEAST_STEPS:
        return f"a series needs at least {LEAST_STEPS} steps, got {found.step_count}"
    if found.incomplete > MOST_BAD:
        return f"{found.incomplete:.0%} of the steps of {found.every:g} s lack a reading of a channel"
    if file_count > 1 or is_address(source.path) or not source.path.lower().endswith(SERIES_SUFFIXES):
        expected = "one local .csv, .csv.gz or .parquet file"
        return f"a series is read out of {expected}: save it so, and type the command again"
    return ""
