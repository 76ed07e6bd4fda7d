"""Which of many samples a figure, a measurement or a baseline uses."""

import numpy as np

MAX_BASELINE_ROWS = 20_000  # training samples that baselines are fitted to: with more, evaluation takes minutes
MAX_BASELINE_VALUES = 2**24  # of these samples together: 64 MiB
BASELINE_SEED = 1_732_050_807  # of the draw of these samples
# Neighbours are looked for among fewer training samples where many samples are scored, so that the work does not grow with the
# product of both: at most so many multiplications, some 15 s of one core. A distance costs that of its values and of its sorting.
MAX_NEIGHBOUR_PRODUCTS = 2**38
SORTING_PRODUCTS = 256
MIN_NEIGHBOUR_ROWS = 2_000


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

    >>> baseline_rows(500_000, 784), baseline_rows(2_000, 784), baseline_rows(500_000, 2**23)
    (20000, 2000, 2)
    """
    return min(rows, MAX_BASELINE_ROWS, max(1, MAX_BASELINE_VALUES // values))


def neighbour_rows(rows: int, values: int, scored: int) -> int:
    """Return among how many training samples neighbours are looked for.

    Args:
        rows: number of training samples.
        values: of a sample, as neighbours are looked for.
        scored: number of samples whose neighbours are looked for.

    >>> neighbour_rows(2_494, 784, 2_312), neighbour_rows(350_000, 784, 100_000), neighbour_rows(700_000, 784, 200_000)
    (2494, 2643, 2000)
    """
    affordable = MAX_NEIGHBOUR_PRODUCTS // (max(1, scored) * (values + SORTING_PRODUCTS))
    return min(baseline_rows(rows, values), max(MIN_NEIGHBOUR_ROWS, affordable))


def draw_rows(rows: int, count: int) -> np.ndarray:
    """Return the ascending indices of a random subsample of `count` of the training samples, the same each time."""
    if count == rows:
        return np.arange(rows)
    return np.sort(np.random.default_rng(BASELINE_SEED).choice(rows, count, replace=False))


def draw_baseline_rows(rows: int, values: int) -> np.ndarray:
    """Return the ascending indices of the training samples that baselines are fitted to: all of them, if they are few enough."""
    return draw_rows(rows, baseline_rows(rows, values))
