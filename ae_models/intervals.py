"""Intervals of shares and means, at 95 % unless another level is asked for. numpy, and scipy where it is asked for."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["clopper_pearson", "mean_interval", "poisson_interval"]

_QUANTILE = 1.959964  # of the normal law, for 95 %


def clopper_pearson(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a binomial share (Clopper and Pearson 1934).

    Args:
        successes: from 0 to `trials`.
        trials: 1 or more.
        level: confidence, in (0, 1).
    """
    from scipy.stats import beta  # takes a second to load

    tail_probability = (1 - level) / 2
    low, high = 0.0, 1.0
    if successes > 0:
        low = float(beta.ppf(tail_probability, successes, trials - successes + 1))
    if successes < trials:
        high = float(beta.ppf(1 - tail_probability, successes + 1, trials - successes))
    return low, high


def poisson_interval(events: int, level: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of the mean of a Poisson law of which a number of events was seen (Garwood 1936).

    >>> [round(end, 3) for end in poisson_interval(0)]
    [0.0, 3.689]
    """
    from scipy.stats import chi2  # takes a second to load

    tail_probability = (1 - level) / 2
    low = float(chi2.ppf(tail_probability, 2 * events)) / 2 if events else 0.0
    return low, float(chi2.ppf(1 - tail_probability, 2 * events + 2)) / 2


def mean_interval(values: npt.NDArray[Any], groups: npt.NDArray[Any]) -> tuple[float, float] | None:
    """Return the 95 % interval of the mean of values (n,) where samples of one group belong together.

    Uses the normal law with the variance of a ratio of totals over groups, as in cluster sampling (Cochran 1977, Sampling
    Techniques, section 9A.1).

    Args:
        values: (n,).
        groups: the group of each value, (n,).

    Returns:
        None below two groups.
    """
    _, place = np.unique(groups, return_inverse=True)
    sizes, group_totals = np.bincount(place), np.bincount(place, weights=values)
    count, mean = len(sizes), float(values.mean())
    if count < 2:
        return None
    spread = math.sqrt(count / (count - 1) * float(np.square(group_totals - mean * sizes).sum())) / len(values)
    return mean - _QUANTILE * spread, mean + _QUANTILE * spread
