"""A whole series scored by a model: what its windows say of each step and each channel, and the alarms as intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aeops.kinds.flags import REFUSED
from aeops.kinds.results import NamedColumn
from aeops.kinds.series_readings import Readings
from aeops.kinds.series_windows import (
    AlarmInterval,
    SeriesWindows,
    alarmed_steps,
    average_scores,
    average_values,
    find_intervals,
)

if TYPE_CHECKING:
    from aeops.kinds.scorer import SampleScorer

READING_ANSWERS = (
    NamedColumn("score", "double", True),
    NamedColumn("is_anomaly", "boolean", True),
    NamedColumn("flags", "strings", True),
    NamedColumn("alarm_start", "datetime", False),
    NamedColumn("alarm_end", "datetime", False),
    NamedColumn("channels", "strings", True),
)


@dataclass(frozen=True)
class SeriesScores:
    """The scores of a series.

    Attributes:
        windows: of the series.
        outputs: of the model for each window, each (k, ...).
        step_scores: the mean score of the windows that hold a step, (n,); NaN where none does.
        reconstruction: the mean of what they make of it, in raw units, (n, channels); likewise.
        residuals: squared, in lengths of the channels' ranges, (n, channels); likewise: the score of each step and channel.
        is_alarmed: whether a step is alarmed, bool (n,).
        alarms: the alarmed steps as intervals.
        threshold: of the model.
    """

    windows: SeriesWindows
    outputs: Mapping[str, np.ndarray]
    step_scores: np.ndarray
    reconstruction: np.ndarray
    residuals: np.ndarray
    is_alarmed: np.ndarray
    alarms: list[AlarmInterval]
    threshold: float


def score_series(
    detector: "SampleScorer", windows: SeriesWindows, outputs: Mapping[str, np.ndarray] | None = None
) -> SeriesScores:
    """Score a series with a model of its channels.

    Args:
        detector: the model.
        windows: of the series.
        outputs: of the model for these windows, with reconstructions, where they are known already.
    """
    spec, steps = detector.spec, len(windows.times)
    if outputs is None:
        outputs = detector.score(windows.cut(), reconstruction=True)
    threshold = float(detector.bundle["threshold"]["value"])
    step_scores = average_scores(outputs["score"], windows.starts, windows.length, steps)
    reconstruction = average_values(outputs["reconstruction"], windows.starts, steps)
    low, high = spec.value_range
    residuals = np.square((windows.values - reconstruction) / (high - low).reshape(-1))
    is_alarmed = alarmed_steps(step_scores, np.asarray(outputs["is_anomaly"], bool), windows, threshold)
    alarms = find_intervals(is_alarmed, step_scores, residuals, windows, spec.channels)
    return SeriesScores(windows, outputs, step_scores, reconstruction, residuals, is_alarmed, alarms, threshold)


# ---------------------------------------------------------------- readings


def score_readings(
    scorer: "SampleScorer", readings: Readings, windows: SeriesWindows, with_reconstruction: bool
) -> dict[str, np.ndarray]:
    """Return what a model says of the step of each reading, by the names of `READING_ANSWERS`, (n, ...) each.

    Args:
        scorer: a model of the channels.
        readings: in the order of their source.
        windows: of their series.
        with_reconstruction: whether to return the reconstruction of the step, too, (n, channels) in raw units.

    Returns:
        `score` is NaN and `is_anomaly` false where no window holds the step; `alarm_start` and `alarm_end`, UTC, and `channels`
        are those of the alarm that the step lies in, NaT and empty outside of alarms.
    """
    scores = score_series(scorer, windows)
    places = _step_places(readings, windows)
    starts = np.full(len(windows.times), np.datetime64("NaT"), "datetime64[us]")
    ends, channels = starts.copy(), np.full(len(windows.times), None, dtype=object)
    channels[:] = [[] for _ in channels]
    for alarm in scores.alarms:
        own = slice(alarm.first, alarm.last + 1)
        starts[own], ends[own] = _timestamp(alarm.start), _timestamp(alarm.end)
        channels[own] = _repeat([name for name, _ in alarm.channels], alarm.last + 1 - alarm.first)
    flags = _step_flags(scores)
    answers = {
        "score": scores.step_scores[places],
        "is_anomaly": scores.is_alarmed[places],
        "flags": flags[places],
        "alarm_start": starts[places],
        "alarm_end": ends[places],
        "channels": channels[places],
    }
    if with_reconstruction:
        answers["reconstruction"] = scores.reconstruction[places]
    return answers


def _repeat(value: Sequence[str], count: int) -> np.ndarray:
    """Return an array of `count` times the same list, object (count,)."""
    repeated = np.empty(count, dtype=object)
    repeated[:] = [list(value) for _ in range(count)]
    return repeated


def _timestamp(seconds: float) -> np.datetime64:
    return np.datetime64(round(seconds * 1e6), "us")


def _step_places(readings: Readings, windows: SeriesWindows) -> np.ndarray:
    """Return the step of each reading, by its place in the series, int64 (n,)."""
    places = np.zeros(len(readings.times), np.int64)
    for machine in np.unique(readings.machines).tolist():
        rows, steps = np.flatnonzero(readings.machines == machine), np.flatnonzero(windows.machines == machine)
        first = windows.times[steps[0]]  # at which the machine's grid begins
        cells = np.rint((windows.times[steps] - first) / windows.every)
        places[rows] = steps[np.searchsorted(cells, np.rint((readings.times[rows] - first) / windows.every))]
    return places


def _step_flags(scores: SeriesScores) -> np.ndarray:
    """Return what the windows that hold a step are flagged for, (n,); refused is a step that has no score for that reason."""
    windows, window_flags = scores.windows, scores.outputs["flags"]
    flags = np.zeros(len(windows.times), window_flags.dtype)
    flagged = np.flatnonzero(window_flags)
    for offset in range(windows.length):
        np.bitwise_or.at(flags, windows.starts[flagged] + offset, window_flags[flagged])
    flags[np.isfinite(scores.step_scores)] &= ~flags.dtype.type(REFUSED)
    return flags
