"""Windows of the steps of a series: where they begin, and what their scores say of each step.

A window has `length` steps of one machine, each `every` seconds after the one before; none reaches over a gap. numpy only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import numpy as np

from ae_models.spec import ChannelSpec
from aeops.kinds.series_times import describe_time

GOLDEN_RATIO = (5**0.5 - 1) / 2
SPEAKING_SHARE = 0.2  # of an alarm's squared residual, from which on a channel is named


@dataclass(frozen=True)
class SeriesWindows:
    """Windows of a series in the order of its steps.

    Attributes:
        machines: of the steps, str (n,).
        times: of the steps, seconds since 1970 UTC, float64 (n,).
        values: of the steps, float64 (n, channels).
        starts: the first step of each window, int64 (k,), ascending.
        length: steps of a window.
        every: seconds from one step to the next.
    """

    machines: np.ndarray
    times: np.ndarray
    values: np.ndarray
    starts: np.ndarray
    length: int
    every: float

    def cut(self) -> np.ndarray:
        """Return the windows, float32 (k, channels, length)."""
        return cut_windows(self.values, self.starts, self.length)

    def names(self) -> list[str]:
        """Return a name for each window: its machine, if there are several, and the time of its first step."""
        return step_names(self.machines[self.starts], self.times[self.starts])

    @property
    def unscored(self) -> np.ndarray:
        """True for each step that no window holds, bool (n,): those of runs that are shorter than a window."""
        return np.asarray(count_windows(self.starts, self.length, len(self.times)) == 0)


def step_name(machine: str, time: float) -> str:
    """Return the name of a step or of the window that begins there.

    >>> step_name("press-1", 1_400_000_000)
    'press-1@2014-05-13T16:53:20Z'
    """
    return f"{machine}@{describe_time(float(time))}" if machine else describe_time(float(time))


def split_step_name(name: str) -> tuple[str, float]:
    """Return the machine and the time, seconds since 1970, of a name that `step_name` wrote; a folder before it is left out.

    >>> split_step_name("press-1@2014-05-13T16:53:20Z"), split_step_name("week 3/2014-05-13T16:53:20Z")
    (('press-1', 1400000000.0), ('', 1400000000.0))

    Raises:
        ValueError: another text.
    """
    machine, at, time = name.rpartition("@")
    if not at:
        time = name.rpartition("/")[2]
    return machine, datetime.fromisoformat(time).timestamp()


def step_names(machines: np.ndarray, times: np.ndarray) -> list[str]:
    """Return `step_name` of each step; machines is (n,) str, times is (n,) seconds since 1970."""
    return list(map(step_name, machines.tolist(), times.tolist()))


def run_bounds(machines: np.ndarray, times: np.ndarray, every: float, parts: np.ndarray | None = None) -> list[tuple[int, int]]:
    """Return first step and end of each unbroken run of steps: of one machine, without a gap, and of one part."""
    if not len(times):
        return []
    is_break = machines[1:] != machines[:-1]
    is_break |= np.abs(np.diff(times) - every) > every / 2
    if parts is not None:
        is_break |= parts[1:] != parts[:-1]
    edges = [0, *(np.flatnonzero(is_break) + 1).tolist(), len(times)]
    return list(pairwise(edges))


def window_starts(runs: Sequence[tuple[int, int]], length: int, stride: int) -> np.ndarray:
    """Return the first step of each window of whole series, int64 (k,).

    The last window of a run ends with it, so that every step of a run that is long enough has a window.

    Args:
        runs: first step and end of each unbroken run.
        length, stride: of the windows, in steps.
    """
    starts: list[np.ndarray] = []
    for first, end in runs:
        if end - first >= length:
            own = np.arange(first, end - length + 1, stride)
            starts.append(own if own[-1] == end - length else np.append(own, end - length))
    return np.concatenate(starts).astype(np.int64) if starts else np.zeros(0, np.int64)


def spread_starts(runs: Sequence[tuple[int, int]], length: int, stride: int) -> np.ndarray:
    """Return the first step of each window to train, calibrate or test on, int64 (k,): one in each stride, at changing places.

    At even distances the windows of a series with a period that the stride divides would have few phases, those of one split
    others than those of the next. The places are multiples of the golden ratio, which fill a stride evenly.

    Args:
        runs: first step and end of each unbroken run.
        length, stride: of the windows, in steps.
    """
    starts: list[np.ndarray] = []
    for first, end in runs:
        places = np.arange(max(0, -(-(end - first - length + 1) // stride)))
        own = first + places * stride + np.floor(stride * np.mod(places * GOLDEN_RATIO, 1.0)).astype(np.int64)
        starts.append(own[own + length <= end])
    return np.concatenate(starts).astype(np.int64) if starts else np.zeros(0, np.int64)


def cut_windows(values: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    """Return windows of values (n, channels) as float32 (k, channels, length)."""
    if not len(starts):
        return np.zeros((0, values.shape[1], length), np.float32)
    views = np.lib.stride_tricks.sliding_window_view(values, length, axis=0)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which lies outside of every range
        return np.asarray(views[starts], dtype=np.float32)


def count_windows(starts: np.ndarray, length: int, steps: int) -> np.ndarray:
    """Return how many windows hold each step, int64 (steps,)."""
    changes = np.zeros(steps + 1, np.int64)
    np.add.at(changes, starts, 1)
    np.add.at(changes, starts + length, -1)
    return np.cumsum(changes)[:-1]


def average_scores(scores: np.ndarray, starts: np.ndarray, length: int, steps: int) -> np.ndarray:
    """Return the score of each step: the mean score of the windows that hold it, float64 (steps,); NaN where none does."""
    is_scored = np.isfinite(scores)
    changes = np.zeros(steps + 1)
    np.add.at(changes, starts[is_scored], scores[is_scored].astype(np.float64))
    np.add.at(changes, starts[is_scored] + length, -scores[is_scored].astype(np.float64))
    counts = count_windows(starts[is_scored], length, steps)
    return np.where(counts > 0, np.cumsum(changes)[:-1] / np.maximum(counts, 1), np.nan)


def average_values(windows: np.ndarray, starts: np.ndarray, steps: int) -> np.ndarray:
    """Return the mean over the windows that hold a step of what they say of it, float64 (steps, channels); NaN where none does.

    Args:
        windows: (k, channels, length).
        starts: the first step of each window.
        steps: of the series.
    """
    sums = np.zeros((steps, windows.shape[1]))
    for offset in range(windows.shape[2]):
        np.add.at(sums, starts + offset, windows[:, :, offset].astype(np.float64))
    counts = count_windows(starts, windows.shape[2], steps)[:, np.newaxis]
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


# ---------------------------------------------------------------- alarms


@dataclass(frozen=True)
class AlarmInterval:
    """Steps of a machine in a row that are alarmed.

    Attributes:
        machine: its name; empty where there is one machine.
        first, last: the places of its first and its last step in the series.
        start, end: their times, seconds since 1970 UTC.
        peak: the time of the step with the highest score.
        peak_score: that score.
        channels: the channels that spoke: each with its share of the squared residual, the largest first; empty without.
    """

    machine: str
    first: int
    last: int
    start: float
    end: float
    peak: float
    peak_score: float
    channels: tuple[tuple[str, float], ...]

    @property
    def channels_text(self) -> str:
        """The channels that spoke in words, such as `temperature 80%, pressure 20%`."""
        return ", ".join(f"{name} {share:.0%}" for name, share in self.channels)

    def to_dict(self) -> dict[str, object]:
        """Return the interval ready for JSON, times in ISO 8601."""
        machine = {"machine": self.machine} if self.machine else {}
        return {
            **machine,
            "start": describe_time(self.start),
            "end": describe_time(self.end),
            "peak": describe_time(self.peak),
            "peak_score": self.peak_score,
            "channels": [{"channel": name, "share": share} for name, share in self.channels],
        }


def alarmed_steps(step_scores: np.ndarray, is_anomaly: np.ndarray, windows: SeriesWindows, threshold: float) -> np.ndarray:
    """Return the steps that are alarmed, bool (n,): their score is above the threshold, or all of their windows are flagged."""
    steps = len(windows.times)
    flagged = count_windows(windows.starts[is_anomaly], windows.length, steps)
    counts = count_windows(windows.starts, windows.length, steps)
    with np.errstate(invalid="ignore"):  # a step without a score is none
        return np.asarray((step_scores > threshold) | ((counts > 0) & (flagged == counts)))


def find_intervals(
    is_alarmed: np.ndarray,
    step_scores: np.ndarray,
    residuals: np.ndarray | None,
    windows: SeriesWindows,
    channels: Sequence[ChannelSpec],
) -> list[AlarmInterval]:
    """Return alarmed steps as intervals. Those of one machine that lie less than a window apart, and so share windows, are one.

    Args:
        is_alarmed: of each step, bool (n,).
        step_scores: (n,).
        residuals: squared, in lengths of the channels' ranges, (n, channels); None where there are none.
        windows: of the series.
        channels: of the series.
    """
    intervals = []
    places = np.flatnonzero(is_alarmed)
    if not len(places):
        return []
    same_machine = windows.machines[places[1:]] == windows.machines[places[:-1]]
    near = np.diff(windows.times[places]) < windows.length * windows.every
    edges = np.flatnonzero(~(same_machine & near)) + 1
    for part in np.split(places, edges):
        first, last = int(part[0]), int(part[-1])
        scores = np.nan_to_num(step_scores[first : last + 1], nan=-np.inf)
        peak = first + int(np.argmax(scores))
        intervals.append(
            AlarmInterval(
                machine=str(windows.machines[first]),
                first=first,
                last=last,
                start=float(windows.times[first]),
                end=float(windows.times[last]),
                peak=float(windows.times[peak]),
                peak_score=float(step_scores[peak]),
                channels=_speaking_channels(residuals, first, last, channels),
            )
        )
    return intervals


def _speaking_channels(
    residuals: np.ndarray | None, first: int, last: int, channels: Sequence[ChannelSpec]
) -> tuple[tuple[str, float], ...]:
    if residuals is None:
        return ()
    sums = np.nansum(residuals[first : last + 1], axis=0)
    total = float(sums.sum())
    if not total > 0 or not np.isfinite(total):
        return ()
    order = np.argsort(-sums, kind="stable")
    speaking: list[tuple[str, float]] = []
    for place in order.tolist():
        share = float(sums[place]) / total
        if not speaking or share >= SPEAKING_SHARE:  # the loudest always speaks
            speaking.append((channels[place].name, share))
    return tuple(speaking)
