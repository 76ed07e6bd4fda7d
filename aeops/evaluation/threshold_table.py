"""What every threshold would flag, and where the errors lie, as small tables: for the report's slider and for `dvc plots`."""

import numpy as np
import pandas as pd

MAX_NORMAL_RANKS = 240  # thresholds at ranks of the normal scores, closer together where few are flagged
MAX_NOVELTY_RANKS = 120
ERROR_BINS = 40
DIGITS = 6  # significant ones of a threshold in the table


def _descending(scores: np.ndarray) -> np.ndarray:
    return np.sort(scores)[::-1]


def threshold_table(scores: np.ndarray, is_normal: np.ndarray, threshold: float) -> pd.DataFrame:
    """Return what thresholds flag, from the highest to the lowest; the bundle's own is among them.

    Args:
        scores: of the test samples, (n,), finite or NaN where a sample was refused.
        is_normal: bool (n,).
        threshold: of the bundle.

    Returns:
        Columns `threshold`, `false_alarms` and `caught`: shares of the normal samples and of the novelty with a score above it. A
        share of no samples is NaN.
    """
    is_scored = np.isfinite(scores)
    normals, novelty = _descending(scores[is_normal & is_scored]), _descending(scores[~is_normal & is_scored])
    candidates = [np.array([threshold])]
    for values, count in ((normals, MAX_NORMAL_RANKS), (novelty, MAX_NOVELTY_RANKS)):
        if len(values):
            ranks = np.unique(np.geomspace(1, len(values), count).round().astype(int))
            candidates.append(values[ranks - 1])
    thresholds = np.unique(np.concatenate(candidates))[::-1]
    return pd.DataFrame(
        {
            "threshold": thresholds,
            "false_alarms": _shares_above(normals, thresholds),
            "caught": _shares_above(novelty, thresholds),
        }
    )


def _shares_above(descending: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return the share of values above each threshold."""
    if not len(descending):
        return np.full(len(thresholds), np.nan)
    ascending = descending[::-1]
    return 1 - np.searchsorted(ascending, thresholds, side="right") / len(ascending)


def error_table(errors: np.ndarray, is_normal: np.ndarray) -> pd.DataFrame:
    """Return a histogram of the reconstruction errors.

    Args:
        errors: of the test samples, (n,).
        is_normal: bool (n,).

    Returns:
        Columns `error`, the centre of a bin, and `normal` and `novelty`, the share of the samples of each kind in it.
    """
    finite = np.isfinite(errors)
    values = errors[finite]
    edges = np.histogram_bin_edges(values, ERROR_BINS)
    table = {"error": (edges[:-1] + edges[1:]) / 2}
    for name, rows in (("normal", is_normal), ("novelty", ~is_normal)):
        counts, _ = np.histogram(errors[finite & rows], edges)
        table[name] = counts / max(counts.sum(), 1)
    return pd.DataFrame(table)


def to_csv(table: pd.DataFrame) -> str:
    """Return a table as CSV with `DIGITS` significant digits, the same bytes for the same numbers."""
    return str(table.to_csv(index=False, float_format=f"%.{DIGITS}g", lineterminator="\n"))
