"""Readings of a series at the steps of a grid: the rules by which irregular, repeated, late and missing readings are repaired.

Each machine has a grid of its own, which begins with its first reading. Of each reading the nearest step is taken.

- Several readings of a channel at one step, repeated time stamps among them: their mean.
- Readings in another order than that of time: sorted. More than `LATE_SHARE` of a machine's: refused, since a clock that jumps so
  often says nothing.
- A gap of a channel of up to `fill` steps: a straight line from the value before to the value after it.
- A longer gap of all channels: no steps, and no window reaches over it. Of some channels: steps that lack a value.
- An infinite value, or text in the place of a number: the step has it, whatever else was read there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ae_models.spec import StepsSpec
from aeops.errors import DataError
from aeops.kinds.series_readings import Readings
from aeops.kinds.series_times import describe_time

LATE_SHARE = 0.01  # of a machine's readings that may be older than one before them
MAX_STEPS = 100_000_000  # of a machine, from its first to its last reading
MISTYPED_BYTES = 200


@dataclass(frozen=True)
class GridFacts:
    """What was repaired, over all machines; goes to dataset.json.

    Attributes:
        readings: rows of the source.
        repeated: readings at a time at which their machine has one of the same channel.
        late: readings older than one of their machine before them.
        merged: readings beyond the first at a step.
        filled: steps that have a value of no reading in some channel.
        gaps: places where a machine has no steps between two of its readings.
    """

    readings: int
    repeated: int
    late: int
    merged: int
    filled: int
    gaps: int


@dataclass(frozen=True)
class Steps:
    """Steps in the order of machines and time.

    Attributes:
        machines: names, str (n,).
        times: seconds since 1970 UTC, float64 (n,).
        values: float64 (n, channels); NaN where a channel has no value.
        readings: how many readings each step has, int64 (n,); 0 for one that was filled in.
        mistyped: cells that are no numbers, bytes (n,).
        label_counts: how many readings of each label a step has, int64 (n, labels); None where there are no labels.
        facts: what was repaired.
    """

    machines: np.ndarray
    times: np.ndarray
    values: np.ndarray
    readings: np.ndarray
    mistyped: np.ndarray
    label_counts: np.ndarray | None
    facts: GridFacts


def to_steps(readings: Readings, steps: StepsSpec, labels: np.ndarray | None = None, label_count: int = 0) -> Steps:
    """Bring readings to the steps of the machines' grids.

    Args:
        readings: in the order of their source.
        steps: the distance of steps, and the longest gap to fill.
        labels: of the readings, whole numbers from 0, (n,); None where there are none.
        label_count: of different labels.

    Raises:
        DataError: too many readings of a machine are late, or its time stamps lie too far apart.
    """
    parts, totals = [], np.zeros(5, np.int64)
    machines, places = np.unique(readings.machines, return_inverse=True)
    order = np.argsort(places, kind="stable")
    bounds = np.searchsorted(places[order], np.arange(len(machines) + 1))
    for index, machine in enumerate(machines.tolist()):
        rows = order[bounds[index] : bounds[index + 1]]
        part, counts = _machine_steps(readings, rows, steps, machine, labels, label_count)
        parts.append(part)
        totals += counts
    return Steps(
        machines=np.repeat(machines, [len(part["times"]) for part in parts]),
        times=_concatenate(parts, "times"),
        values=_concatenate(parts, "values"),
        readings=_concatenate(parts, "readings"),
        mistyped=_concatenate(parts, "mistyped"),
        label_counts=_concatenate(parts, "labels") if labels is not None else None,
        facts=GridFacts(len(readings.times), *map(int, totals)),
    )


def _concatenate(parts: Sequence[Mapping[str, np.ndarray]], name: str) -> np.ndarray:
    return np.concatenate([part[name] for part in parts])


def _machine_steps(
    readings: Readings, rows: np.ndarray, steps: StepsSpec, machine: str, labels: np.ndarray | None, label_count: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the steps of one machine, and the counts of `GridFacts` after the first."""
    times, values = readings.times[rows], readings.values[rows]
    has_value = ~np.isnan(values)
    late = _count_late(times, rows, has_value, machine)
    first = times.min()
    used, place, counts, means = mean_by_cell(np.rint((times - first) / steps.every).astype(np.int64), values)
    if used[-1] >= MAX_STEPS:
        raise DataError(
            f"{_named(machine)}readings from {describe_time(first)} to {describe_time(float(times.max()))} make {used[-1] + 1:,} "
            f"steps of {steps.every:g} s, expected at most {MAX_STEPS:,}: is a time stamp wrong, or input.steps.every?"
        )
    read_counts = np.bincount(place, minlength=len(used))
    repeated = _count_repeated(times, has_value)
    filled_cells, filled_values = _fill_gaps(used, means, steps.fill)
    reading_counts = np.zeros(len(filled_cells), np.int64)
    own = np.searchsorted(filled_cells, used)
    reading_counts[own] = read_counts
    part = {
        "times": np.round(first + filled_cells * steps.every, 6),
        "values": filled_values,
        "readings": reading_counts,
        "mistyped": _mistyped_cells(readings, rows, own[place], len(filled_cells)),
    }
    if labels is not None:
        part["labels"] = np.zeros((len(filled_cells), label_count), np.int64)
        np.add.at(part["labels"], (own[place], labels[rows]), 1)
    expected = np.full(filled_values.shape, True)
    expected[own] = counts == 0
    filled = int((expected & ~np.isnan(filled_values)).any(axis=1).sum())
    merged = int(np.clip(counts - 1, 0, None).sum(axis=0).max(initial=0))
    gaps = int((np.diff(filled_cells) > 1).sum())
    return part, np.array([repeated, late, merged, filled, gaps])


class CellMeans(NamedTuple):
    """Values of readings, by the cells of a grid that they fall into.

    Attributes:
        cells: those with readings, ascending, int64 (k,).
        places: of each reading's cell among them, (n,).
        counts: of the values of each cell and channel, float64 (k, channels).
        means: of these values, (k, channels); NaN where there are none, infinite where one of them is.
    """

    cells: np.ndarray
    places: np.ndarray
    counts: np.ndarray
    means: np.ndarray


def mean_by_cell(cells: np.ndarray, values: np.ndarray) -> CellMeans:
    """Return the mean of each channel's values (n, channels) in each cell, given the cell of each reading, (n,)."""
    used, places = np.unique(cells, return_inverse=True)
    has_value = ~np.isnan(values)
    sums, counts = np.zeros((len(used), values.shape[1])), np.zeros((len(used), values.shape[1]))
    with np.errstate(invalid="ignore", divide="ignore"):  # no value at all, or infinite ones of both signs
        np.add.at(sums, places, np.where(has_value, values, 0.0))
        np.add.at(counts, places, has_value)
        means = np.where(np.isnan(sums), np.inf, sums) / np.where(counts > 0, counts, np.nan)
    return CellMeans(used, places, counts, means)


def _count_late(times: np.ndarray, rows: np.ndarray, has_value: np.ndarray, machine: str) -> int:
    """Return how many readings come after a later one of the same channel; raise DataError where they are too many."""
    most = 0
    for channel in range(has_value.shape[1]):
        places = np.flatnonzero(has_value[:, channel])
        is_late = times[places] < np.maximum.accumulate(times[places])
        late = int(is_late.sum())
        if late > LATE_SHARE * len(places):
            place = int(places[is_late][0])
            before = float(times[places[places < place]].max())
            raise DataError(
                f"{_named(machine)}expected readings in the order of time, but for {LATE_SHARE:.0%}, got {late:,} of "
                f"{len(places):,} that are older than one before them, first in row {rows[place]}: "
                f"{describe_time(float(times[place]))} after {describe_time(before)}: sort the file, or say in "
                "input.steps.machine whose readings they are"
            )
        most = max(most, late)
    return most


def _named(machine: str) -> str:
    return f"machine {machine}: " if machine else ""


def _count_repeated(times: np.ndarray, has_value: np.ndarray) -> int:
    """Return how many readings come after another one of the same time and channel."""
    most = 0
    for channel in range(has_value.shape[1]):
        own = times[has_value[:, channel]]
        most = max(most, len(own) - len(np.unique(own)))
    return most


def _fill_gaps(cells: np.ndarray, values: np.ndarray, fill: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the cells (k,) and values (k, channels) with gaps of up to `fill` cells filled, channel by channel."""
    distances = np.diff(cells)
    inside = np.flatnonzero((distances > 1) & (distances - 1 <= fill))
    added = [np.arange(cells[index] + 1, cells[index + 1]) for index in inside]
    all_cells = np.sort(np.concatenate([cells, *added])) if added else cells
    filled = np.full((len(all_cells), values.shape[1]), np.nan)
    filled[np.searchsorted(all_cells, cells)] = values
    for channel in range(values.shape[1]):
        known = np.flatnonzero(~np.isnan(filled[:, channel]))
        if not len(known):
            continue
        missing = np.flatnonzero(np.isnan(filled[:, channel]))
        after = np.searchsorted(known, missing)
        inner = missing[(after > 0) & (after < len(known))]
        left, right = known[np.searchsorted(known, inner) - 1], known[np.searchsorted(known, inner)]
        length = all_cells[right] - all_cells[left]
        near = (length - 1 <= fill) & np.isfinite(filled[left, channel]) & np.isfinite(filled[right, channel])
        inner, left, right, length = inner[near], left[near], right[near], length[near]
        share = (all_cells[inner] - all_cells[left]) / length
        filled[inner, channel] = filled[left, channel] * (1 - share) + filled[right, channel] * share
    return all_cells, filled


def _mistyped_cells(readings: Readings, rows: np.ndarray, places: np.ndarray, count: int) -> np.ndarray:
    texts = np.zeros(count, f"S{MISTYPED_BYTES}")
    if readings.mistyped:
        for row, place in zip(rows.tolist(), places.tolist(), strict=True):
            if row in readings.mistyped and not texts[place]:
                texts[place] = readings.mistyped[row].encode(errors="replace")[:MISTYPED_BYTES]
    return texts
