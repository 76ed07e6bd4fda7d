"""Sort new values into bins between calibration values, with ties broken at random. See eprocess.py for why.

The tie breaker of a sample is a number in [0, 1) derived from its prediction's id, so that a second check gives the same; those
of the calibration samples are drawn once, with a fixed seed.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

DEFAULT_BINS = 10
GOLDEN_RATIO = (5**0.5 - 1) / 2
RELATIVE_RESOLUTION = 1e-6  # of the largest calibration value; closer values are equal, as one sample's in two batch sizes are
TIE_BREAKER_SEED = 20_250_601


@dataclass(frozen=True)
class ColumnBins:
    """The bins of one column.

    Attributes:
        edges: the calibration values at which all bins but the last end, ascending, (bins - 1,), in units of `resolution`.
        tie_breakers: of those calibration samples, (bins - 1,).
        gaps: how many of the m + 1 gaps between calibration values each bin holds, (bins,).
        resolution: the unit of `edges`.
        thinning: of values in a row one in so many counts, as they depend on each other; 1: all count.
        is_watched: whether its values are those of a watched column, by name.
    """

    edges: np.ndarray
    tie_breakers: np.ndarray
    gaps: np.ndarray
    resolution: float
    thinning: int = 1
    is_watched: bool = False

    @property
    def bin_count(self) -> int:
        """Number of bins."""
        return len(self.gaps)


def make_bins(values: np.ndarray, ranks: Sequence[int]) -> ColumnBins:
    """Return bins that end at the calibration values of these ranks.

    Args:
        values: calibration values, (m,).
        ranks: ascending, each of 1 to m.
    """
    resolution = _resolution_of(values)
    tie_breakers = np.random.default_rng(TIE_BREAKER_SEED).random(len(values))
    rounded_values = _round_to_resolution(values, resolution)
    order = np.lexsort((tie_breakers, rounded_values))[np.asarray(ranks) - 1]
    return ColumnBins(rounded_values[order], tie_breakers[order], np.diff([0, *ranks, len(values) + 1]), resolution)


def even_ranks(m: int, bins: int = DEFAULT_BINS) -> list[int]:
    """Return the ranks that divide m values into at most `bins` bins of gaps as even as possible."""
    bins = min(bins, m + 1)
    return [round(index * (m + 1) / bins) for index in range(1, bins)]


def _resolution_of(values: np.ndarray) -> float:
    absolute_values = np.abs(values[np.isfinite(values)])
    return RELATIVE_RESOLUTION * float(absolute_values.max(initial=0.0)) or 1.0


def _round_to_resolution(values: np.ndarray, resolution: float) -> np.ndarray:
    """Return values as whole multiples of the resolution, float64; NaN lies above all others."""
    rounded_values = np.rint(np.asarray(values, dtype=np.float64) / resolution)
    return np.where(np.isnan(rounded_values), np.inf, rounded_values)


def is_counted(numbers: np.ndarray, thinning: int) -> np.ndarray:
    """Return which of the blocks with these numbers count, bool (n,): one of `thinning` in a row, at changing places.

    At even distances those of a series with a period would have few phases, those of calibration others than those of later. The
    last place of `thinning` is left out, so that no two blocks that count are neighbours, whose windows share steps.
    """
    groups, places = np.divmod(numbers, thinning)
    return np.asarray(places == np.floor(max(1, thinning - 1) * np.mod(groups * GOLDEN_RATIO, 1.0)))


def assign_bins(values: np.ndarray, id_of: Callable[[int], str], column: ColumnBins) -> np.ndarray:
    """Return the bin of each new value, (n,) int64 from 0.

    Args:
        values: (n,).
        id_of: returns the prediction's id of a row; called for rows that tie with an edge.
        column: the bins.
    """
    rounded_values = _round_to_resolution(values, column.resolution)
    is_above = rounded_values[:, None] > column.edges
    is_tie = rounded_values[:, None] == column.edges
    rows = np.flatnonzero(is_tie.any(axis=1))
    if len(rows):
        tie_breakers = np.array([tie_breaker(id_of(int(row))) for row in rows])
        is_above[rows] |= is_tie[rows] & (tie_breakers[:, None] > column.tie_breakers)
    bins: np.ndarray = is_above.sum(axis=1)
    return bins


def tie_breaker(prediction_id: str) -> float:
    """Return the number in [0, 1) that belongs to a prediction."""
    return int.from_bytes(hashlib.blake2b(prediction_id.encode(), digest_size=6).digest(), "big") / 2**48
