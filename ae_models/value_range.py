"""The raw values that a network reads as 0 and 1, and those that it may be given, of each channel of a series too. numpy only."""

from typing import Any

import numpy as np

from ae_models.spec import InputSpec

__all__ = ["allowed_range", "value_range"]


def value_range(input_spec: InputSpec) -> tuple[Any, Any]:
    """Return low and high: two numbers, or float64 (channels, 1) each, which broadcast over windows (n, channels, steps).

    >>> value_range(InputSpec(shape=(1, 8, 8)))
    (0.0, 255.0)
    """
    if not input_spec.channels:
        return input_spec.low, input_spec.high
    ranges = np.array(input_spec.ranges, dtype=np.float64)
    return ranges[:, :1], ranges[:, 1:]


def allowed_range(input_spec: InputSpec) -> tuple[Any, Any]:
    """Return the lowest and the highest value that a network is given: its range, that of a channel with its headroom.

    >>> from ae_models.spec import ChannelSpec, StepsSpec
    >>> channels = (ChannelSpec("degrees", headroom=0.5, low=10.0, high=30.0),)
    >>> low, high = allowed_range(InputSpec(kind="series", channels=channels, steps=StepsSpec(every=60, length=4)))
    >>> float(low[0, 0]), float(high[0, 0])
    (0.0, 40.0)
    """
    low, high = value_range(input_spec)
    if not input_spec.channels:
        return low, high
    reach = np.array([[channel.headroom] for channel in input_spec.channels]) * (high - low)
    return low - reach, high + reach
