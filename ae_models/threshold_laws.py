"""Laws of order statistics and of tails that thresholds rest on: numpy, and scipy where it is asked for. No torch.

Notation: m calibration scores, of which the k-th smallest (k from 1) is the threshold; n fresh normals, exchangeable with them.
Without ties the rate of alarms of one such threshold follows Beta(m + 1 - k, k), and the number of alarms among n fresh normals
BetaBinomial(n, m + 1 - k, k), whatever the distribution of the scores; ties lower both.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = [
    "BISECTION_STEPS",
    "ParetoTail",
    "PlausibleRanks",
    "confident_rank",
    "conformal_rank",
    "fit_pareto_tail",
    "nearest_centre",
    "plausible_pooled_rates",
    "plausible_ranks",
    "quantile_interval_ranks",
]

BISECTION_STEPS = 30  # of a rate: to a billionth


def conformal_rank(calibration_rows: int, false_alarm_rate: float | Fraction) -> int:
    """Return ceil((m + 1)(1 - rate)) for m calibration scores.

    In exact arithmetic: 0.01 in binary would give 991 of 999 scores instead of 990.

    >>> conformal_rank(999, 0.01)
    990
    """
    return calibration_rows + 1 - int((calibration_rows + 1) * Fraction(str(false_alarm_rate)))


def confident_rank(calibration_rows: int, false_alarm_rate: float, confidence: float) -> int:
    """Return the smallest rank k for which P(Beta(m + 1 - k, k) <= rate) is at least the confidence; m + 1 where none is.

    P(Beta(j, m + 1 - j) <= a) = P(Binomial(m, a) >= j), with j = m + 1 - k.

    >>> confident_rank(299, 0.01, 0.95), confident_rank(298, 0.01, 0.95)
    (299, 299)
    """
    from scipy.stats import binom  # takes a second to load

    m = calibration_rows
    exceeding_counts = range(1, m + 1)
    count = bisect_right(exceeding_counts, -confidence, key=lambda j: -float(binom.sf(j - 1, m, false_alarm_rate)))
    return m + 1 - count


def quantile_interval_ranks(calibration_rows: int, share_below: float, confidence: float) -> tuple[int, int]:
    """Return the ranks of the scores between which the true quantile lies, with a probability of at least the confidence.

    The distribution-free interval of David and Nagaraja 2003, section 7.1, with half of the risk on each side. A lower rank of 0
    or an upper one of m + 1 says that there are too few scores for that side.

    >>> quantile_interval_ranks(1000, 0.99, 0.95)
    (983, 997)
    """
    from scipy.stats import binom

    tail_share = (1 - confidence) / 2
    low = int(binom.ppf(tail_share, calibration_rows, share_below))
    high = int(binom.isf(tail_share, calibration_rows, share_below)) + 1
    return low, high


class PlausibleRanks(NamedTuple):
    """The ranks, from the lowest to the highest, whose law the alarms do not contradict; m + 1: nothing is ever flagged."""

    lowest: int
    highest: int


def plausible_ranks(alarms: int, normals: int, calibration_rows: int, level: float) -> PlausibleRanks:
    """Return the ranks of a threshold among m calibration scores that the alarms among fresh normals do not contradict.

    A rank is contradicted where either tail of its beta-binomial law holds less than (1 - level) / 2. The others are neighbours.

    Args:
        alarms: flagged normals.
        normals: fresh normals, flagged or not.
        calibration_rows: m.
        level: confidence, in (0, 1).
    """
    from scipy.stats import betabinom

    tail_share, m = (1 - level) / 2, calibration_rows
    ranks = range(1, m + 1)

    def probability_at_most(rank: int) -> float:
        return float(betabinom.cdf(alarms, normals, m + 1 - rank, rank))  # grows with the rank

    def probability_at_least(rank: int) -> float:
        return float(betabinom.sf(alarms - 1, normals, m + 1 - rank, rank))  # falls with it

    lowest_rank = 1 + bisect_left(ranks, tail_share, key=probability_at_most)
    highest_rank = bisect_right(ranks, -tail_share, key=lambda rank: -probability_at_least(rank))
    if alarms == 0:
        highest_rank = m + 1  # where no calibration score is high enough, nothing is ever flagged
    if lowest_rank > highest_rank:  # so few calibration scores that each rank is rejected: take the two nearest to acceptance
        lowest_rank, highest_rank = max(1, highest_rank), lowest_rank
    return PlausibleRanks(lowest_rank, highest_rank)


def plausible_pooled_rates(alarms: int, normals: int, group_rows: Sequence[int], level: float) -> tuple[float, float]:
    """Return the rates that the alarms do not contradict, where each group has a split-conformal threshold of its own.

    The alarms are a sum of one beta-binomial number a group. Its law is taken as the beta-binomial law with the sum's mean and
    variance, and the fresh normals as spread over the groups as the calibration samples are.

    Args:
        alarms: flagged normals.
        normals: fresh normals, flagged or not.
        group_rows: number of calibration samples of each group.
        level: confidence, in (0, 1).
    """
    from scipy.stats import betabinom

    tail_share = (1 - level) / 2

    def has_too_many(rate: float) -> bool:
        law = _pooled_law(normals, group_rows, rate)
        return law is None or float(betabinom.sf(alarms - 1, normals, *law)) < tail_share

    def has_enough(rate: float) -> bool:
        law = _pooled_law(normals, group_rows, rate)
        return law is None or float(betabinom.cdf(alarms, normals, *law)) >= tail_share

    low, high = 0.0, 1.0
    if alarms > 0:
        low = _last_rate(has_too_many)
    if alarms < normals:
        high = _last_rate(has_enough)
    return low, high


def _pooled_law(normals: int, group_rows: Sequence[int], rate: float) -> tuple[float, float] | None:
    """Return the parameters of the law of all alarms where each group has the threshold of this rate; None: there are none."""
    weights = np.array(group_rows, dtype=np.float64) + 1
    counts = normals * (weights - 1) / (weights - 1).sum()
    shares = np.floor(weights * rate) / weights
    mean = float((counts * shares).sum())
    if mean == 0:
        return None
    variance = float((counts * shares * (1 - shares) * (weights + counts) / (weights + 1)).sum())
    share = mean / normals
    binomial_variance = mean * (1 - share)
    # The parameters' sum by which a beta-binomial law of all normals has this variance.
    weight = max((normals * binomial_variance - variance) / max(variance - binomial_variance, 1e-12), 1e-6)
    return share * weight, (1 - share) * weight


def _last_rate(holds: Callable[[float], bool]) -> float:
    """Return the rate in [0, 1) up to which `holds(rate)` is true, a little below where it ends."""
    low, high = 0.0, 1.0
    for _ in range(BISECTION_STEPS):
        middle = (low + high) / 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low


class ParetoTail(NamedTuple):
    """A generalised Pareto law of the excesses over a score.

    Attributes:
        start: the score.
        scale: in the score's units, above 0.
        shape: below 1; 0 for an exponential tail, below 0 for one that ends. From 1/2 on the fit is poor.
        share: of the scores that lie above `start`.
    """

    start: float
    scale: float
    shape: float
    share: float

    def score_exceeded_by(self, rate: float) -> float:
        """Return the score that a share `rate` of fresh scores exceeds by this law, with 0 < rate < share."""
        ratio = self.share / rate
        if abs(self.shape) < 1e-9:
            return self.start + self.scale * math.log(ratio)
        return self.start + self.scale / self.shape * math.expm1(self.shape * math.log(ratio))


def fit_pareto_tail(sorted_scores: npt.NDArray[np.float32], exceeding_rows: int) -> ParetoTail:
    """Fit a generalised Pareto law to the excesses of the highest scores, by probability-weighted moments.

    With a0 the mean of the excesses x_(1) <= ... <= x_(n) and a1 the mean of (1 - p_i) x_(i), p_i = (i - 0.35) / n, the shape is
    2 - a0 / (a0 - 2 a1) and the scale 2 a0 a1 / (a0 - 2 a1) (Hosking and Wallis 1987, section 3.2). Where the law so fitted ends
    below the highest excess, its shape is set so that it ends there (Dupuis and Tsao 1998).

    Args:
        sorted_scores: ascending, (m,).
        exceeding_rows: n, the number of highest scores, fewer than m.

    Raises:
        ValueError: the excesses are all equal, so there is no tail to fit.
    """
    start = float(sorted_scores[-exceeding_rows - 1])
    excesses = sorted_scores[-exceeding_rows:].astype(np.float64) - start
    highest = float(excesses[-1])
    if highest <= 0 or float(excesses[0]) == highest:
        raise ValueError(f"the {exceeding_rows} highest scores are all equal")
    plotting_positions = (np.arange(1, exceeding_rows + 1) - 0.35) / exceeding_rows
    a0 = float(excesses.mean())
    a1 = float(((1 - plotting_positions) * excesses).mean())
    shape = 2 - a0 / (a0 - 2 * a1)
    scale = 2 * a0 * a1 / (a0 - 2 * a1)
    if shape < 0 and -scale / shape < highest:
        shape = -scale / highest
    return ParetoTail(start, scale, shape, exceeding_rows / len(sorted_scores))


def nearest_centre(vectors: Any, centres: Any) -> Any:
    """Return the place of the nearest centre of each vector, (n,), by Euclidean distance; the first of several.

    Args:
        vectors: (n, d), of numpy or of torch.
        centres: (g, d), of the same.
    """
    return (vectors @ (2 * centres).T - (centres * centres).sum(1)).argmax(1)
