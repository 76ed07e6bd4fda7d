"""What a split-conformal threshold promises about false alarms, and whether fresh normals bear it out.

The threshold is the k-th smallest of m calibration scores with k = ceil((m + 1)(1 - a)) for a requested rate a. The
promise (Vovk, Gammerman and Shafer 2005; Angelopoulos and Bates 2023, section 3): a fresh normal is flagged with a
chance of at most a, *averaged over calibration draws*. For the one calibration set at hand the true rate is itself a
draw from Beta(m + 1 - k, k), so a measured rate scatters more widely than a binomial interval says.
"""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

from scipy.stats import beta, betabinom


@dataclass(frozen=True)
class FalseAlarms:
    """Alarms among fresh normals.

    Attributes:
        interval: 95 % interval of this threshold's true rate (Clopper-Pearson).
        interval_with_calibration: the requested rates that the alarms do not contradict (95 %), luck of the
            calibration draw included.
    """

    alarms: int
    normals: int
    measured: float
    interval: tuple[float, float]
    interval_with_calibration: tuple[float, float]


def false_alarms(alarms: int, normals: int, calibration: int) -> FalseAlarms:
    """What `alarms` among `normals` fresh normals say; `calibration` normals fitted the threshold."""
    return FalseAlarms(
        alarms=alarms,
        normals=normals,
        measured=alarms / normals,
        interval=clopper_pearson(alarms, normals),
        interval_with_calibration=requested_rates(alarms, normals, calibration),
    )


def clopper_pearson(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a binomial share (Clopper and Pearson 1934)."""
    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else float(beta.ppf(tail, successes, trials - successes + 1))
    high = 1.0 if successes == trials else float(beta.ppf(1 - tail, successes + 1, trials - successes))
    return low, high


def requested_rates(alarms: int, normals: int, calibration: int, level: float = 0.95) -> tuple[float, float]:
    """The requested rates a that the alarms do not contradict.

    Where scores are exchangeable and the threshold is the k-th smallest of m calibration scores, alarms among n fresh
    normals follow BetaBinomial(n, m + 1 - k, k) whatever the scores' distribution. A rate is rejected where either tail
    of its k holds less than (1 - level) / 2; the k left over are neighbours, and k belongs to the rates
    [1 - k / (m + 1), 1 - (k - 1) / (m + 1)).

    Returns:
        The lowest and highest rate not rejected, in [0, 1].
    """
    tail, m = (1 - level) / 2, calibration
    ranks = range(1, m + 1)

    def at_most(rank: int) -> float:
        return float(betabinom.cdf(alarms, normals, m + 1 - rank, rank))  # grows with the rank

    def at_least(rank: int) -> float:
        return float(betabinom.sf(alarms - 1, normals, m + 1 - rank, rank))  # falls with it

    lowest = 1 + bisect_left(ranks, tail, key=at_most)
    highest = bisect_right(ranks, -tail, key=lambda rank: -at_least(rank))
    if alarms == 0:
        highest = m + 1  # where no calibration score is high enough, nothing is ever flagged
    if lowest > highest:  # so few calibration scores that each rank is rejected: the two nearest to being kept
        lowest, highest = max(1, highest), lowest
    # As one quotient each: 1 - k / (m + 1) would be rounded twice and could miss a rate that lies on the edge.
    return (m + 1 - highest) / (m + 1), (m + 2 - lowest) / (m + 1)
