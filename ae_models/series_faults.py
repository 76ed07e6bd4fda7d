"""Faults of windows of a series (channels, steps) in [0, 1]. One channel, drawn at random, has the fault; the others go on.

A value is moved towards the end of the range that is farther away, so that there is room for it.
"""

import numpy as np

from ae_models.fault_interface import DonorFunction, Fault
from ae_models.sample_sets import SampleArray

__all__ = ["SERIES_FAULTS"]

_RANGE_UNIT = "of the range of values"
_WINDOW_UNIT = "of the window"
_MIN_STUCK_STEPS = 2  # of which the first has its own value


def _spike(series: SampleArray, strength: float, generator: np.random.Generator, draw_donor: DonorFunction) -> SampleArray:
    """Move the value of one step."""
    damaged = series.copy()
    channel, step = _draw_channel(series, generator), _draw_step(series, generator, 0.0, 1.0)
    damaged[channel, step] += strength * _direction(series[channel, step])
    return damaged


def _level_shift(series: SampleArray, strength: float, generator: np.random.Generator, draw_donor: DonorFunction) -> SampleArray:
    """Move all values from a step in the middle three fifths of the window on."""
    damaged = series.copy()
    channel, step = _draw_channel(series, generator), _draw_step(series, generator, 0.2, 0.8)
    damaged[channel, step:] += strength * _direction(series[channel, step:])
    return damaged


def _drift(series: SampleArray, strength: float, generator: np.random.Generator, draw_donor: DonorFunction) -> SampleArray:
    """Move the values more and more, in a straight line from 0 before the window to the strength at its last step."""
    damaged = series.copy()
    channel, steps = _draw_channel(series, generator), series.shape[1]
    damaged[channel] += strength * _direction(series[channel]) * np.arange(1, steps + 1) / steps
    return damaged


def _stuck(series: SampleArray, strength: float, generator: np.random.Generator, draw_donor: DonorFunction) -> SampleArray:
    """Hold the value of a step for a part of the window."""
    damaged = series.copy()
    channel, steps = _draw_channel(series, generator), series.shape[1]
    length = min(steps, max(_MIN_STUCK_STEPS, round(strength * steps)))
    first = int(generator.random() * (steps - length + 1))
    damaged[channel, first : first + length] = series[channel, first]
    return damaged


def _changed_frequency(
    series: SampleArray, strength: float, generator: np.random.Generator, draw_donor: DonorFunction
) -> SampleArray:
    """Let time run faster, or slower by the same factor, in all channels; past its end the window is read backwards."""
    factor = 1 + strength
    if generator.random() < 0.5:
        factor = 1 / factor
    steps = np.arange(series.shape[1])
    last = max(1, series.shape[1] - 1)
    positions = last - np.abs(steps * factor % (2 * last) - last)
    return np.stack([np.interp(positions, steps, channel) for channel in series])


def _lost_channel(series: SampleArray, strength: float, generator: np.random.Generator, draw_donor: DonorFunction) -> SampleArray:
    """Set a channel to the lowest value of the range until the end of the window."""
    damaged = series.copy()
    channel, steps = _draw_channel(series, generator), series.shape[1]
    damaged[channel, steps - max(1, round(strength * steps)) :] = 0
    return damaged


def _draw_channel(series: SampleArray, generator: np.random.Generator) -> int:
    return int(generator.integers(len(series)))


def _draw_step(series: SampleArray, generator: np.random.Generator, first: float, last: float) -> int:
    """Return a step between two shares of the window."""
    return int((first + (last - first) * generator.random()) * series.shape[1])


def _direction(values: SampleArray) -> int:
    """Return 1 or -1: which end of the range is farther from the mean of values; 1 from the middle."""
    return 1 if np.mean(values) <= 0.5 else -1


SERIES_FAULTS = (
    Fault("spike", "One reading is wrong.", _RANGE_UNIT, (0.05, 0.1, 0.2, 0.4, 0.8), highest=1.0, damage=_spike),
    Fault(
        "level-shift",
        "A sensor was knocked, or the process runs at another level.",
        _RANGE_UNIT,
        (0.03, 0.07, 0.15, 0.25, 0.4),
        highest=1.0,
        damage=_level_shift,
    ),
    Fault("drift", "A sensor ages or gets dirty.", _RANGE_UNIT, (0.03, 0.07, 0.15, 0.25, 0.4), highest=1.0, damage=_drift),
    Fault("stuck", "A sensor repeats its last reading.", _WINDOW_UNIT, (0.1, 0.2, 0.4, 0.7, 1.0), highest=1.0, damage=_stuck),
    Fault(
        "changed-frequency",
        "A machine runs faster or slower.",
        "faster or slower",
        (0.05, 0.1, 0.2, 0.5, 1.0),
        highest=10.0,
        damage=_changed_frequency,
    ),
    Fault(
        "lost-channel",
        "A cable is cut: the reading is the lowest there is.",
        _WINDOW_UNIT,
        (0.1, 0.2, 0.4, 0.7, 1.0),
        highest=1.0,
        damage=_lost_channel,
    ),
)
