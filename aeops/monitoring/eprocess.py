"""Has something changed? Evidence that may be looked at as often as one likes, and that holds whatever the distribution.

**What is tested.** The champion has m calibration values (scores, say). While nothing changes, the values that come in are
exchangeable with them: in any order they would be as likely. Cut the line at B - 1 of the calibration values, the order
statistics of ranks r_1 < ... < r_(B-1), so that bin b holds g_b = r_b - r_(b-1) of the m + 1 gaps between them (r_0 = 0,
r_B = m + 1). Then the rank of the next value among all values before it is uniform, so with n_b of n new values in bin b

    P0(the next one falls into b) = (g_b + n_b) / (m + 1 + n),

a Polya urn: the law of any sequence of bins is Dirichlet-multinomial with the parameters g,

    P0(x_1 .. x_n) = Gamma(m + 1) / Gamma(m + 1 + n) * prod_b Gamma(g_b + n_b) / Gamma(g_b).

That is exact for every n and every distribution, and the luck of the calibration draw is in it. (For B = 2, cut at the
threshold, it is the beta-binomial law by which aeops/evaluation/false_alarms.py judges a threshold.)

**Ties.** Values that are equal are put in an order by a number that is drawn for each sample, uniform and independent of
everything else (see ranks.py). With it no two are equal, and they are as exchangeable as before: a tied value falls into each
bin with exactly the chance that P0 gives it, so ties are never evidence, and the law above stays exact.

**The evidence.** Let P1 be any other law of the sequence. E_n = P1(x_1 .. x_n) / P0(x_1 .. x_n) has, while nothing
changes, an expected next value equal to its present one (it is a martingale that begins at 1), and so

    P(E_n >= 1 / level for any n, ever) <= level                                      (Ville 1939).

Looking every hour for years does not change that. P1 here: the same family with other parameters (`any_change`), or the
rates above the promise (`more_than`).

**A change that comes late** would have to outweigh all that was usual before. So for each day j there is a process that
begins with it, P1(days j, j + 1, ... alone) against P0(the same | all days before, which sharpen what P0 knows), and

    E = sum_(j <= t) 1 / (j (j + 1)) * P1(days j .. t) / P0(days j .. t | days before j) + 1 / (t + 1),

the last term for the days that have not begun. The weights add up to 1 and each process is a martingale in the same
history, so E is one too. A change on day j costs a factor of j (j + 1) and nothing else.

**Several columns** (`worst_of`). Each column's E is a martingale in the history of that column's own ranks. An average over
columns would be one only if all shared a history, and they do not: what the other columns showed may tell where a value lies
(Choe and Ramdas 2024). The largest, divided by the number of columns, needs no such thing: by Ville's inequality for each
column and Bonferroni's for their union it passes 1 / level, ever, with a chance of at most `level`.

References: Ville (1939), Etude critique de la notion de collectif; Vovk and Wang (2021), E-values: calibration, combination
and applications; Ramdas, Grunwald, Vovk and Shafer (2023), Game-theoretic statistics and safe anytime-valid inference; Shin,
Ramdas and Rinaldo (2022), E-detectors; Choe and Ramdas (2024), Combining evidence across filtrations; for the confidence
sequence Waudby-Smith and Ramdas (2020), Confidence sequences for sampling without replacement, section 2.
"""

from collections.abc import Callable

import numpy as np
from scipy.special import betaincc, betaln, gammaln

Alternative = Callable[[np.ndarray], np.ndarray]  # counts (..., bins) -> the logarithm of P1, (...)

SPREADS = (1, 4, 16)  # how near to the calibration's shares the shares after a change may lie, in weight a bin
TYPICAL_RISE = 4  # of the promised rate, once it rises: the prior's mean; any other is found, a little later
LARGEST_KEPT = 2**17  # counts whose gamma functions are kept: a megabyte a bin
SMALLEST = 1e-280  # below it an incomplete beta function is taken from its continued fraction


def log_polya(counts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The logarithm of the Dirichlet-multinomial probability of a sequence with these counts.

    Args:
        counts: (..., bins), whole numbers, 0 or more.
        weights: (bins,), positive.

    Returns:
        (...): of one sequence, in whatever order, not of all that have these counts.
    """
    return Urn(weights)(counts)


class Urn:
    """`log_polya` for weights that are asked about again and again: the gamma functions of small counts are kept."""

    def __init__(self, weights: np.ndarray) -> None:
        self.weights = np.asarray(weights, dtype=np.float64)
        self._kept = 0  # counts below it are in the table
        self._table = np.empty(0)  # of the bins, one after the other

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        total, n = self.weights.sum(), counts.sum(axis=-1)
        return np.asarray(self._rising(counts).sum(axis=-1) - (gammaln(total + n) - gammaln(total)))

    def _rising(self, counts: np.ndarray) -> np.ndarray:
        """log of weight * (weight + 1) * ... * (weight + count - 1), (..., bins)."""
        most = int(counts.max(initial=0))
        if most >= LARGEST_KEPT:
            return np.asarray(gammaln(self.weights + counts) - gammaln(self.weights))
        if most >= self._kept:
            self._kept = 1 << most.bit_length()
            steps = self.weights[:, None] + np.arange(self._kept)
            self._table = (gammaln(steps) - gammaln(self.weights)[:, None]).ravel()
        return self._table.take(counts + self._kept * np.arange(len(self.weights)))


def any_change(gaps: np.ndarray) -> Alternative:
    """Other shares of the bins: around those of the calibration, by a little, by some and by much, each as likely."""
    bins = len(gaps)
    urns = [Urn(spread * bins * gaps / gaps.sum()) for spread in SPREADS]

    def log_p1(counts: np.ndarray) -> np.ndarray:
        return np.asarray(log_sum(np.stack([urn(counts) for urn in urns], axis=-1)) - np.log(len(urns)))

    return log_p1


def more_than(promise: float) -> Alternative:
    """A rate of the second of two bins above the promise, in (0, 1): a Beta prior cut off below it."""
    a, b = 1.0, max(1.0, 1 / (TYPICAL_RISE * promise))
    floor = betaln(a, b) + log_upper_tail(np.array(a), np.array(b), promise)

    def log_p1(counts: np.ndarray) -> np.ndarray:
        within, beyond = a + counts[..., 1], b + counts[..., 0]
        return np.asarray(betaln(within, beyond) + log_upper_tail(within, beyond, promise) - floor)

    return log_p1


def log_upper_tail(a: np.ndarray, b: np.ndarray, x: float) -> np.ndarray:
    """log P(Beta(a, b) > x), also where that is far below the smallest float: (...) for a and b of (...)."""
    a, b = np.broadcast_arrays(np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64))
    tail = betaincc(a, b, x)
    deep = tail < SMALLEST
    found = np.log(np.where(deep, 1.0, tail))
    if deep.any():
        found[deep] = log_deep_tail(a[deep], b[deep], x)
    return found


def log_deep_tail(a: np.ndarray, b: np.ndarray, x: float) -> np.ndarray:
    """The same for x far above the mean: DLMF 8.17.22 for I_(1-x)(b, a), by Lentz's method."""
    y = 1 - x
    c, d = np.ones_like(a), 1 / (1 - (a + b) * y / (b + 1))
    fraction = d.copy()
    for k in range(1, 200):
        for term in (
            k * (a - k) * y / ((b + 2 * k - 1) * (b + 2 * k)),
            -(b + k) * (a + b + k) * y / ((b + 2 * k) * (b + 2 * k + 1)),
        ):
            d, c = 1 / (1 + term * d), 1 + term / c
            fraction *= c * d
        if np.all(np.abs(c * d - 1) < 1e-12):
            break
    return np.asarray(b * np.log1p(-x) + a * np.log(x) - np.log(b) - betaln(a, b) + np.log(fraction))


def log_evidence(counts: np.ndarray, gaps: np.ndarray, alternative: Alternative) -> np.ndarray:
    """log E after each day.

    Args:
        counts: (..., days, bins), how many new values fell into each bin on each day; days without one may be left out.
        gaps: (bins,), g above.
        alternative: log P1.

    Returns:
        (..., days). What comes after a day does not change what was found on it.
    """
    counts = np.asarray(counts, dtype=np.int64)
    total = np.concatenate([np.zeros_like(counts[..., :1, :]), np.cumsum(counts, axis=-2)], axis=-2)
    null = log_polya(total, gaps)
    number = np.arange(1, counts.shape[-2] + 1)
    log_weights = -np.log(number) - np.log1p(number)
    found = np.empty(counts.shape[:-1])
    for day in number:
        begun = alternative(total[..., day, None, :] - total[..., :day, :]) - (null[..., day, None] - null[..., :day])
        found[..., day - 1] = np.logaddexp(log_sum(log_weights[:day] + begun), -np.log1p(day))
    return found


def log_sum(logs: np.ndarray) -> np.ndarray:
    """log of the sum over the last axis of exp of these finite ones; scipy's own takes a hundred times as long for short ones."""
    top = logs.max(axis=-1)
    return np.asarray(top + np.log(np.exp(logs - top[..., None]).sum(axis=-1)))


def worst_of(columns: np.ndarray) -> np.ndarray:
    """log of the largest e-value over the number of columns: (days,) of (columns, days)."""
    return np.asarray(columns.max(axis=0) - np.log(len(columns)))


def confidence_sequence(alarms: np.ndarray, samples: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """An interval of the rate for every moment, all of which hold together with a chance of at least 1 - level.

    The rates p at which the same kind of evidence, the mixture over Jeffreys' prior against p itself, is below 1 / level.

    Args:
        alarms, samples: (n,), both counted from the beginning.
        level: such as 0.05.

    Returns:
        Lower and upper ends, (n,) each, in [0, 1].
    """
    alarms, samples = np.asarray(alarms, dtype=np.float64), np.asarray(samples, dtype=np.float64)
    least = betaln(alarms + 0.5, samples - alarms + 0.5) - betaln(0.5, 0.5) + np.log(level)
    top = np.divide(alarms, samples, out=np.zeros_like(alarms), where=samples > 0)

    def is_kept(rate: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            gained = np.where(alarms > 0, alarms * np.log(rate), 0.0)
            missed = np.where(samples > alarms, (samples - alarms) * np.log1p(-rate), 0.0)
        kept: np.ndarray = gained + missed >= least
        return kept

    return bisected(np.zeros_like(top), top, is_kept), bisected(np.ones_like(top), top, is_kept)


def bisected(outside: np.ndarray, inside: np.ndarray, is_kept: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Where `is_kept` changes between a place that may lie outside and one inside, for each of (n,); the outer side of it."""
    for _ in range(60):
        middle = (outside + inside) / 2
        kept = is_kept(middle)
        inside, outside = np.where(kept, middle, inside), np.where(kept, outside, middle)
    return outside
