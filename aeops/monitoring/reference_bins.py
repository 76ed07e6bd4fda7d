"""The bins of each test, out of a champion's calibration: of its samples, or of blocks of a series' windows.

Windows of a series depend on each other, and blocks of them still do a little. How far is estimated on calibration, from the
autocorrelation of a test's columns over blocks: of blocks in a row one in `thinning` counts, of calibration as of what is scored.
"""

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from scipy.stats import rankdata

from aeops.evaluation.reference import CalibrationReference
from aeops.kinds.series_blocks import BlockRule
from aeops.monitoring.ranks import ColumnBins, even_ranks, is_counted, make_bins
from aeops.recipe.monitoring import ALARM_RATE_SIGNAL, CODE_SIGNAL, INPUT_SIGNAL, SCORE_SIGNAL

CORRELATION_TIMES = 3  # between two blocks that count, on average


def make_test_bins(reference: CalibrationReference) -> dict[str, list[ColumnBins]]:
    """Return the bins of each column of each test; a test for which the reference is too small is left out."""
    columns = _sample_columns(reference) if reference.blocks is None else _block_columns(reference, reference.blocks)
    if not len(columns.score):
        return {}
    test_bins = {}
    if reference.rank is not None:
        test_bins[ALARM_RATE_SIGNAL] = [_alarm_bins(reference, reference.rank)]
    test_bins[SCORE_SIGNAL] = _even_bins(columns.score[:, np.newaxis], columns.numbers)
    test_bins[CODE_SIGNAL] = _even_bins(columns.codes, columns.numbers)
    test_bins[INPUT_SIGNAL] = _even_bins(columns.inputs, columns.numbers)
    if reference.columns:
        test_bins[INPUT_SIGNAL] = [replace(column, is_watched=True) for column in test_bins[INPUT_SIGNAL]]
    return test_bins


@dataclass(frozen=True)
class _TestColumns:
    """Values of calibration: score (m,), codes (m, k), inputs (m, columns), and of blocks their numbers (m,)."""

    score: np.ndarray
    codes: np.ndarray
    inputs: np.ndarray
    numbers: np.ndarray | None = None


def _inputs(reference: CalibrationReference) -> np.ndarray:
    return reference.values if reference.columns else np.stack([reference.mean, reference.std], axis=1)


def _sample_columns(reference: CalibrationReference) -> _TestColumns:
    return _TestColumns(reference.score, reference.code, _inputs(reference))


def _block_columns(reference: CalibrationReference, rule: BlockRule) -> _TestColumns:
    """Return the highest score, and the means of the others, of each block that has most of its windows."""
    is_break = (np.diff(reference.block_numbers) != 0) | (reference.machines[1:] != reference.machines[:-1])
    edges = [0, *(np.flatnonzero(is_break) + 1).tolist(), len(reference.score)]
    inputs, rows = _inputs(reference), []
    for first, end in pairwise(edges):
        if end - first >= rule.fewest:
            rows.append(slice(first, end))
    return _TestColumns(
        score=np.array([reference.score[own].max() for own in rows]),
        codes=np.array([reference.code[own].mean(axis=0) for own in rows]),
        inputs=np.array([inputs[own].mean(axis=0) for own in rows]),
        numbers=np.array([reference.block_numbers[own.start] for own in rows]),
    )


def _alarm_bins(reference: CalibrationReference, rank: int) -> ColumnBins:
    """Return the bins up to the threshold and beyond it.

    The threshold has its rank among all calibration scores, or among the highest scores of the blocks that it was chosen by.
    Those that depend on each other say as much of its true rate as fewer, so that fewer gaps are counted on either side of it.
    """
    if reference.blocks is None:
        return make_bins(reference.score, [rank])
    windows = reference.blocks.windows
    blocks = len(reference.score) // windows
    highest = reference.score[: blocks * windows].reshape(blocks, windows).max(axis=1)
    # One high stretch is in the windows of two blocks where it lies at their border: neighbours alarm together, which ranks of
    # all scores hardly show.
    thinning, bins = max(2, find_thinning(highest[:, np.newaxis])), make_bins(highest, [rank])
    return replace(bins, gaps=bins.gaps / thinning, thinning=thinning)


def _even_bins(columns: np.ndarray, numbers: np.ndarray | None) -> list[ColumnBins]:
    """Return bins of even shares for each column of (m, k); of blocks with these numbers, those that count."""
    thinning = 1
    if numbers is not None:
        thinning = find_thinning(columns)
        columns = columns[is_counted(numbers, thinning)]
    ranks, bins = even_ranks(len(columns)), []
    for column in columns.T:
        bins.append(replace(make_bins(column, ranks), thinning=thinning))
    return bins


def find_thinning(columns: np.ndarray) -> int:
    """Return of how many blocks in a row one counts: CORRELATION_TIMES of the column that remembers longest.

    Args:
        columns: values of blocks in the order of time, (m, k).
    """
    longest = max(map(correlation_time, columns.T), default=0.0)
    return max(1, min(math.ceil(1 + CORRELATION_TIMES * longest), len(columns)))


def correlation_time(values: np.ndarray) -> float:
    """Return twice the sum of the autocorrelations of the ranks, from 0, in places.

    It ends at the first lag at which chance alone would have as large a one. n values say as much as n / (1 + it) that do not
    depend on each other.

    Args:
        values: in the order of time, (n,).

    >>> correlation_time(np.array([0.0, 1.0, 0.5, 0.2, 0.9, 0.1]))
    0.0
    """
    centred = rankdata(values) - (len(values) + 1) / 2
    variance = float(centred @ centred)
    if variance == 0:  # a constant column, or a single value
        return 0.0
    total = 0.0
    for lag in range(1, len(values)):
        correlation = float(centred[:-lag] @ centred[lag:]) / variance
        if correlation <= 2 / math.sqrt(len(values)):
            break
        total += 2 * correlation
    return total
