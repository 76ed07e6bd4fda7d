"""A series that grows: the last steps of a machine, and the windows that new readings complete. numpy and standard library only.

Each step that has a reading and a whole window before it is scored by the window that ends with it. A gap of up to `fill` steps
is filled by straight lines; after a longer one the window begins anew.

One rule says what a reading that comes late is worth: it counts as long as its step is not final. What comes together, in a
request or a file, is brought into the order of time first. A step is final once a request has brought it or a later one, since
windows were scored with what was there; readings at final steps are ignored and counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ae_models.spec import StepsSpec
from aeops.errors import DataError
from aeops.kinds.series_grid import MAX_STEPS, mean_by_cell
from aeops.kinds.series_readings import Readings


@dataclass(frozen=True)
class OpenAlarm:
    """An alarm of a machine that has not ended: no window's length has passed since its last anomaly.

    Attributes:
        start, end: times of its first and its last anomalous step, seconds since 1970 UTC.
        peak: of the step with the highest score.
        peak_score: that score.
    """

    start: float
    end: float
    peak: float
    peak_score: float


@dataclass(frozen=True)
class FeedState:
    """What is known of a machine.

    Attributes:
        first: time of its first reading, at which its grid begins.
        last: place of its last step on that grid.
        values: the last steps without a gap, at most a window's less one, float64 (k, channels).
        alarm: the open alarm, if there is one.
    """

    first: float
    last: int
    values: np.ndarray
    alarm: OpenAlarm | None = None


@dataclass(frozen=True)
class FeedSteps:
    """What new readings bring.

    Attributes:
        state: after them, with the alarm as it was before.
        times: of the steps that are scored, (n,).
        windows: that end with them, float32 (n, channels, length).
        ignored: readings that came too late or at a step that was there already.
        waiting: steps that the next window lacks; 0 where there is a window for each new step.
    """

    state: FeedState
    times: np.ndarray
    windows: np.ndarray
    ignored: int
    waiting: int


def extend_feed(state: FeedState | None, readings: Readings, steps: StepsSpec, most: int) -> FeedSteps:
    """Return what new readings of one machine bring.

    Args:
        state: of the machine; None: these are its first readings.
        readings: in any order; several at one step count by their mean.
        steps: of the model.
        most: steps that are scored at once.

    Raises:
        DataError: a reading so far away that the grid has more than MAX_STEPS, or more steps than are scored at once.
    """
    first = float(readings.times.min()) if state is None else state.first
    cells = np.rint((readings.times - first) / steps.every).astype(np.int64)
    if cells.max() >= MAX_STEPS:
        raise DataError(
            f"expected readings within {MAX_STEPS:,} steps of {steps.every:g} s of the machine's first one, got later ones"
        )
    last = -1 if state is None else state.last
    is_new = cells > last
    values = np.zeros((0, readings.values.shape[1])) if state is None else state.values
    windows, times = [], []
    new_steps = mean_by_cell(cells[is_new], readings.values[is_new])
    if len(new_steps.cells) > most:
        raise DataError(
            f"expected at most {most:,} steps in one request, got {len(new_steps.cells):,}: send fewer readings at once"
        )
    for cell, value in zip(new_steps.cells.tolist(), new_steps.means, strict=True):
        values = np.concatenate([_bridge(values, cell - last - 1, value, steps.fill), value[np.newaxis]])[-steps.length :]
        last = cell
        if len(values) == steps.length:
            windows.append(values.T)
            times.append(first + cell * steps.every)
    kept = values[-(steps.length - 1) :]
    new_state = FeedState(first, last, kept, state.alarm if state else None)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which lies outside of every range
        shape = (0, readings.values.shape[1], steps.length)
        stacked = np.stack(windows).astype(np.float32) if windows else np.zeros(shape, np.float32)
    waiting = max(0, steps.length - 1 - len(kept)) if not windows else 0
    return FeedSteps(new_state, np.array(times), stacked, int((~is_new).sum()), waiting)


def ended_windows(readings: Readings, steps: StepsSpec, most: int) -> tuple[list[tuple[str, float]], np.ndarray]:
    """Return the windows that end with the steps of whole readings, as if each machine had sent its own for the first time.

    Args:
        readings: of one machine or several, in any order.
        steps: of the model.
        most: steps of a machine that are scored at once.

    Returns:
        Machine and time of the last step of each window, and the windows, float32 (n, channels, length).

    Raises:
        DataError: as `extend_feed`; or no machine has a window's steps in a row.
    """
    ends: list[tuple[str, float]] = []
    windows, waiting = [], steps.length
    for machine in np.unique(readings.machines).tolist():
        rows = readings.machines == machine
        own = Readings(readings.times[rows], readings.machines[rows], readings.values[rows], {})
        brought = extend_feed(None, own, steps, most)
        ends += [(machine, time) for time in brought.times.tolist()]
        windows.append(brought.windows)
        waiting = min(waiting, brought.waiting + 1)
    if not ends:
        raise DataError(
            f"expected {steps.length} steps of {steps.every:g} s in a row, a window of the model: {waiting} more are needed; "
            f"gaps of more than {steps.fill} steps are not filled"
        )
    return ends, np.concatenate(windows)


def _bridge(values: np.ndarray, gap: int, value: np.ndarray, fill: int) -> np.ndarray:
    """Return the steps before a new one: with a gap of up to `fill` steps filled, and none after a longer gap."""
    if gap == 0 or not len(values):
        return values
    if gap > fill:
        return values[:0]
    shares = (np.arange(1, gap + 1) / (gap + 1))[:, np.newaxis]
    return np.concatenate([values, values[-1] * (1 - shares) + value * shares])


def follow_alarm(
    alarm: OpenAlarm | None, times: Sequence[float], scores: Sequence[float], is_anomaly: Sequence[bool], reach: float
) -> OpenAlarm | None:
    """Return the open alarm after newly scored steps: an anomaly opens or extends it, `reach` seconds without one end it.

    >>> follow_alarm(None, [0, 60, 120], [1.0, 9.0, 2.0], [False, True, False], reach=600)
    OpenAlarm(start=60, end=60, peak=60, peak_score=9.0)
    >>> follow_alarm(None, [0, 60, 900], [1.0, 9.0, 2.0], [False, True, False], reach=600) is None
    True
    """
    for time, score, flagged in zip(times, scores, is_anomaly, strict=True):
        if alarm is not None and time - alarm.end >= reach:
            alarm = None
        if flagged and alarm is None:
            alarm = OpenAlarm(time, time, time, score)
        elif flagged and alarm is not None:
            peak, peak_score = (time, score) if score > alarm.peak_score else (alarm.peak, alarm.peak_score)
            alarm = OpenAlarm(alarm.start, time, peak, peak_score)
    return alarm
