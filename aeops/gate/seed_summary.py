"""Values over seeds in a few numbers: mean, standard deviation, extremes, and the interval of the mean."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import t as student_t

from aeops.gate.seed_record import MetricSummary

LEVEL = 0.95  # of the interval of a mean
SIGNIFICANT_DIGITS = 6  # of a number in the record


def summarize_values(values: Sequence[float]) -> MetricSummary:
    """Return mean, standard deviation, extremes and the interval of the mean of 2 or more values.

    The interval is Student's: mean +- t(0.975, n - 1) sd / sqrt(n).
    """
    array = np.asarray(values, dtype=np.float64)
    mean, sd = float(array.mean()), float(array.std(ddof=1))
    half_width = float(student_t.ppf((1 + LEVEL) / 2, len(array) - 1)) * sd / math.sqrt(len(array))
    return {
        "mean": round_number(mean),
        "sd": round_number(sd),
        "min": round_number(float(array.min())),
        "max": round_number(float(array.max())),
        "interval": [round_number(mean - half_width), round_number(mean + half_width)],
        "values": list(map(round_number, array.tolist())),
    }


def round_number(value: float) -> float:
    """Return a number with SIGNIFICANT_DIGITS digits.

    >>> round_number(0.0123456789)
    0.0123457
    """
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}")
