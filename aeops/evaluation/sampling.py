"""Evenly spaced indices: which of many samples a figure or a measurement uses."""

import numpy as np


def even_indices(count: int, limit: int) -> np.ndarray:
    """Return at most `limit` of the indices 0 to count - 1, evenly spaced and ascending, both ends included."""
    return np.unique(np.linspace(0, count - 1, min(count, limit)).round().astype(int))


def strip_indices(count: int, limit: int) -> np.ndarray:
    """Return the indices of at most `limit` samples for a figure, evenly spaced, rounded down."""
    return np.linspace(0, count - 1, min(limit, count)).astype(int)
