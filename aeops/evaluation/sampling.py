"""Which of many samples a figure, a measurement or a baseline uses."""

import numpy as np

MAX_BASELINE_ROWS = 20_000  # training samples that baselines are fitted to: with more, evaluation takes minutes
MAX_BASELINE_VALUES = 2**26  # of these samples together: 256 MiB
BASELINE_SEED = 1_732_050_807  # of the draw of these samples


def even_indices(count: int, limit: int) -> np.ndarray:
    """Return at most `limit` of the indices 0 to count - 1, evenly spaced and ascending, both ends included."""
    return np.unique(np.linspace(0, count - 1, min(count, limit)).round().astype(int))


def strip_indices(count: int, limit: int) -> np.ndarray:
    """Return the indices of at most `limit` samples for a figure, evenly spaced, rounded down."""
    return np.linspace(0, count - 1, min(limit, count)).astype(int)


def baseline_rows(rows: int, values: int) -> int:
    """Return how many training samples baselines are fitted to.

    Args:
        rows: number of training samples.
        values: of a sample.

    >>> baseline_rows(500_000, 784), baseline_rows(2_000, 784), baseline_rows(500_000, 2**25)
    (20000, 2000, 2)
    """
    return min(rows, MAX_BASELINE_ROWS, max(1, MAX_BASELINE_VALUES // values))


def draw_baseline_rows(rows: int, values: int) -> np.ndarray:
    """Return the ascending indices of a random subsample of the training samples: all of them, if they are few enough."""
    count = baseline_rows(rows, values)
    if count == rows:
        return np.arange(rows)
    return np.sort(np.random.default_rng(BASELINE_SEED).choice(rows, count, replace=False))
