"""Steps of a series as a dataset holds them: a row a step with its machine, its time and a column for each channel.

In memory a block of steps is structured, (n,), with the fields below and one for each channel; in a shard it is Parquet. Windows
are never stored: the stage prepare cuts them.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ae_models.spec import ChannelSpec
from aeops.kinds.results import SAMPLE_COLUMNS, ExpectedRange, ExpectedValue, open_range
from aeops.kinds.series_grid import MISTYPED_BYTES, Steps
from aeops.kinds.series_readings import MACHINE_BYTES
from aeops.kinds.table_cells import decode_texts

if TYPE_CHECKING:
    from ae_models.spec import InputSpec

MACHINE, TIME, MISTYPED = "(machine)", "(time)", "(mistyped)"  # no channel may have these names
STEP_COLUMNS: dict[str, str] = {
    **SAMPLE_COLUMNS,
    "readings": "int64",  # of the source at this step; 0: it was filled in
    "mistyped": "str",  # cells that are no numbers
    "every": "float64",  # of the step's machine: median seconds from one reading to the next
    "coverage": "float64",  # of its machine: the lowest share of steps with a reading over the channels
    "constant": "str",  # of its machine: the channels that never change
    "blank": "bool",  # whether there are such channels
    "duplicate_of": "str",
    "duplicate_across_splits": "bool",
}
LEAST_LENGTH = 1e-3  # of the range of a channel that is constant in training: this share of its value, or this
LATEST_READING = 1.5  # steps: readings that come less often do not make a series of such steps


def step_dtype(channels: Sequence[ChannelSpec]) -> np.dtype:
    """Return the dtype of a block of steps."""
    fields: list[tuple[str, str]] = [(MACHINE, f"S{MACHINE_BYTES}"), (TIME, "f8")]
    for channel in channels:
        fields.append((channel.name, "f8"))
    fields.append((MISTYPED, f"S{MISTYPED_BYTES}"))
    return np.dtype(fields)


def step_rows(steps: Steps, channels: Sequence[ChannelSpec]) -> np.ndarray:
    """Return steps as a block."""
    rows = np.zeros(len(steps.times), step_dtype(channels))
    rows[MACHINE], rows[TIME], rows[MISTYPED] = np.char.encode(steps.machines, "utf-8"), steps.times, steps.mistyped
    for place, channel in enumerate(channels):
        rows[channel.name] = steps.values[:, place]
    return rows


def step_values(block: np.ndarray, channels: Sequence[ChannelSpec]) -> np.ndarray:
    """Return the values of a block, float64 (n, channels)."""
    return np.stack([block[channel.name] for channel in channels], axis=1)


def machine_names(block: np.ndarray) -> np.ndarray:
    """Return the machine of each step of a block, str (n,)."""
    return np.char.decode(block[MACHINE], "utf-8")


def to_columns(block: np.ndarray, channels: Sequence[ChannelSpec]) -> dict[str, Any]:
    """Return a block as columns by name, as Parquet holds them: times in microseconds, UTC."""
    times = np.rint(block[TIME] * 1e6).astype("int64").astype("datetime64[us]")
    columns: dict[str, Any] = {MACHINE: machine_names(block).astype(object), TIME: times}
    for channel in channels:
        columns[channel.name] = block[channel.name]
    if (block[MISTYPED] != b"").any():
        columns[MISTYPED] = decode_texts(block[MISTYPED].tolist())
    return columns


def from_columns(columns: Mapping[str, Any], channels: Sequence[ChannelSpec]) -> np.ndarray:
    """Return the block of columns that `to_columns` made."""
    times = np.asarray(columns[TIME])
    block = np.zeros(len(times), step_dtype(channels))
    block[MACHINE] = list(map(str.encode, columns[MACHINE]))
    block[TIME] = (times.astype("datetime64[us]") - np.datetime64(0, "us")) / np.timedelta64(1, "s")
    for channel in channels:
        block[channel.name] = np.array(columns[channel.name], np.float64)  # None becomes NaN
    if MISTYPED in columns:
        block[MISTYPED] = list(map(str.encode, columns[MISTYPED]))
    return block


def machine_facts(steps: Steps, every: float, channels: Sequence[ChannelSpec]) -> dict[str, np.ndarray]:
    """Return what the index says of the machine of each step, (n,) each: every, coverage and constant.

    Args:
        steps: all steps of all machines, in the order of machines and time.
        every: seconds from one step of the grid to the next.
        channels: of the series.
    """
    facts: dict[str, list[Any]] = {"every": [], "coverage": [], "constant": []}
    _, starts = np.unique(steps.machines, return_index=True)
    for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(steps.times)], strict=True):
        own = slice(start, stop)
        read_times = steps.times[own][steps.readings[own] > 0]
        median = float(np.median(np.diff(read_times))) if len(read_times) > 1 else every
        grid_steps = round((steps.times[own][-1] - steps.times[own][0]) / every) + 1
        values = steps.values[own]
        present = ~np.isnan(values)
        has_reading = present & (steps.readings[own] > 0)[:, np.newaxis]
        coverage = float(has_reading.sum(axis=0).min()) / grid_steps
        constant = []
        for place, channel in enumerate(channels):
            if _is_constant(values[:, place][present[:, place]]) and stop - start > 1:
                constant.append(channel.name)
        for name, value in (("every", median), ("coverage", round(coverage, 9)), ("constant", ", ".join(constant))):
            facts[name] += [value] * (stop - start)
    return {
        "every": np.asarray(facts["every"]),
        "coverage": np.asarray(facts["coverage"]),
        "constant": np.asarray(facts["constant"], dtype=object),
    }


def _is_constant(values: np.ndarray) -> bool:
    return len(values) > 0 and bool((values == values[0]).all())


def channel_expectations(channels: Sequence[ChannelSpec]) -> list[ExpectedRange | ExpectedValue]:
    """Return what is expected of the channels of each step: a value, a finite one, and one inside of min and max."""
    expected: list[ExpectedRange | ExpectedValue] = []
    largest = float(np.finfo(np.float64).max)
    for number, channel in enumerate(channels):
        name, low, high, unexpected = channel.name, channel.min, channel.max, f"{channel.name}: {{}}"
        sentence = f"{name} has a value at each step."
        expected.append(ExpectedValue(f"{name}: present", name, None, "a value", f"{name}: no value", sentence, True))
        sentence = f"{name} is finite."
        expected.append(ExpectedRange(f"{name}: finite", name, -largest, largest, "finite numbers", unexpected, sentence, True))
        if (low, high) != (None, None):
            allowed, setting = open_range(low, high), f"input.channels.{number}"
            sentence = f"{name} is {allowed} at each step."
            expected.append(ExpectedRange(f"{name}: range", name, low, high, allowed, unexpected, sentence, setting=setting))
    return expected


def step_expectations(spec: "InputSpec", completeness: float, refuse_blank: bool) -> list[ExpectedRange | ExpectedValue]:
    """Return what is expected of each step's row of the index: its cells, and the sampling and coverage of its machine."""
    assert spec.steps is not None, "a series with channels has steps"
    every = spec.steps.every
    expected: list[ExpectedRange | ExpectedValue] = [
        ExpectedValue("type", "mistyped", "", "numbers", "{}", "Each cell is a number.", True),
        ExpectedRange(
            "sampling",
            "every",
            None,
            LATEST_READING * every,
            f"readings of a machine every {every:g} s (input.steps.every) or more often",
            "one every {} s",
            f"Each machine has a reading every {every:g} s or more often.",
        ),
    ]
    if completeness > 0:
        allowed = f"readings of a machine at {completeness:.0%} of its steps or more, in each channel"
        sentence = f"Each machine has readings at {completeness:.0%} of its steps or more, in each channel."
        expected.append(ExpectedRange("coverage", "coverage", completeness, None, allowed, "at a share of {}", sentence))
    if refuse_blank:
        sentence = "Each channel of a machine changes."
        expected.append(ExpectedValue("constant", "constant", "", "channels that change", "no change in {}", sentence))
    return expected


def learn_ranges(low: np.ndarray, high: np.ndarray, channels: Sequence[ChannelSpec]) -> dict[str, tuple[float, float]]:
    """Return the values that a network reads as 0 and 1, by the names of the channels.

    Args:
        low, high: extremes of the training steps, (channels,).
        channels: those that have their own keep it.
    """
    ranges = {}
    for channel, smallest, largest in zip(channels, low.tolist(), high.tolist(), strict=True):
        if channel.low is not None and channel.high is not None:
            ranges[channel.name] = (channel.low, channel.high)
            continue
        # Constant in training: any change is then many lengths away.
        least = max(abs(smallest) * LEAST_LENGTH, LEAST_LENGTH)
        ranges[channel.name] = (smallest, max(largest, smallest + least))
    return ranges
