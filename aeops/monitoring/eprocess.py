"""Measure evidence of a change that may be checked as often as one likes, whatever the distribution.

**The hypothesis.** The champion has m calibration values (scores, say). While nothing changes, the values that come in are
exchangeable with them: in any order they would be as likely. Cut the line at B - 1 of the calibration values, the order
statistics of ranks r_1 < ... < r_(B-1), so that bin b holds g_b = r_b - r_(b-1) of the m + 1 gaps between them (r_0 = 0,
r_B = m + 1). Then the rank of the next value among all values before it is uniform, so with n_b of n new values in bin b

    P0(the next one falls into b) = (g_b + n_b) / (m + 1 + n),

a Polya urn: the law of any sequence of bins is Dirichlet-multinomial with the parameters g,

    P0(x_1 .. x_n) = Gamma(m + 1) / Gamma(m + 1 + n) * prod_b Gamma(g_b + n_b) / Gamma(g_b).

That is exact for every n and every distribution, and the luck of the calibration draw is in it. (For B = 2, cut at the
threshold, it is the beta-binomial law of SplitConformalThreshold.plausible_rates in ae_models/conformal_thresholds.py.)

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

LogAlternative = Callable[[np.ndarray], np.ndarray]  # counts (..., bins) -> the logarithm of P1, (...)

PRIOR_WEIGHTS = (1, 4, 16)  # a bin: how near to the calibration's shares the shares after a change may lie
TYPICAL_RISE = 4  # of the promised rate, once it rises: the prior's mean; any other is found, a little later
MAX_TABLE_COUNT = 2**17  # counts whose gamma functions are tabulated: a megabyte a bin
SMALLEST_TAIL = 1e-280  # below it an incomplete beta function is taken from its continued fraction
BISECTION_STEPS = 60


def log_polya(counts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the logarithm of the Dirichlet-multinomial probability of a sequence with these counts.

    Args:
        counts: (..., bins), whole numbers, 0 or more.
        weights: (bins,), positive.

    Returns:
        (...): of one sequence in any order, not of all that have these counts.
    """
    return PolyaUrn(weights)(counts)


class PolyaUrn:
    """Compute `log_polya` many times for the same weights, with a table of the gamma functions of small counts.

    The table grows where as many have been computed without it as it would hold: few calls with large counts need none.
    """

    def __init__(self, weights: np.ndarray) -> None:
        self.weights = np.asarray(weights, dtype=np.float64)
        self._computed = 0  # gamma functions, because the table was too small
        self._table_size = 0  # counts below it are in the table
        self._table = np.empty(0)  # of the bins, one after the other

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        total_weight, n = self.weights.sum(), counts.sum(axis=-1)
        return np.asarray(self._log_rising(counts).sum(axis=-1) - (gammaln(total_weight + n) - gammaln(total_weight)))

    def _log_rising(self, counts: np.ndarray) -> np.ndarray:
        """Return the logarithm of weight * (weight + 1) * ... * (weight + count - 1), (..., bins)."""
        highest = int(counts.max(initial=0))
        if highest >= self._table_size:
            self._computed += counts.size
            needed_size = 1 << highest.bit_length()
            if highest >= MAX_TABLE_COUNT or needed_size * len(self.weights) > self._computed:
                return np.asarray(gammaln(self.weights + counts) - gammaln(self.weights))
            self._table_size = needed_size
            arguments = self.weights[:, None] + np.arange(self._table_size)
            self._table = (gammaln(arguments) - gammaln(self.weights)[:, None]).ravel()
        return self._table.take(counts + self._table_size * np.arange(len(self.weights)))


def any_change(gaps: np.ndarray) -> LogAlternative:
    """Return the alternative of other shares of the bins: near the calibration's, further, and far, each as likely.

    Args:
        gaps: (bins,), g above.
    """
    bins = len(gaps)
    polya_urns = [PolyaUrn(weight * bins * gaps / gaps.sum()) for weight in PRIOR_WEIGHTS]

    def log_p1(counts: np.ndarray) -> np.ndarray:
        logs = [polya_urn(counts) for polya_urn in polya_urns]
        return np.asarray(log_sum(np.stack(logs, axis=-1)) - np.log(len(polya_urns)))

    return log_p1


def more_than(promised_rate: float) -> LogAlternative:
    """Return the alternative of a rate of the second of two bins above the promised one: a Beta prior cut off below it.

    Args:
        promised_rate: in (0, 1).
    """
    a, b = 1.0, max(1.0, 1 / (TYPICAL_RISE * promised_rate))
    log_normaliser = betaln(a, b) + log_upper_tail(np.array(a), np.array(b), promised_rate)

    def log_p1(counts: np.ndarray) -> np.ndarray:
        posterior_a, posterior_b = a + counts[..., 1], b + counts[..., 0]
        log_mass = betaln(posterior_a, posterior_b) + log_upper_tail(posterior_a, posterior_b, promised_rate)
        return np.asarray(log_mass - log_normaliser)

    return log_p1


def log_upper_tail(a: np.ndarray, b: np.ndarray, x: float) -> np.ndarray:
    """Return log P(Beta(a, b) > x), (...) for a and b of (...), also where that is far below the smallest float."""
    a, b = np.broadcast_arrays(np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64))
    tail_probability = betaincc(a, b, x)
    is_tiny = tail_probability < SMALLEST_TAIL
    log_tail = np.log(np.where(is_tiny, 1.0, tail_probability))
    if is_tiny.any():
        log_tail[is_tiny] = _log_tiny_tail(a[is_tiny], b[is_tiny], x)
    return log_tail


def _log_tiny_tail(a: np.ndarray, b: np.ndarray, x: float) -> np.ndarray:
    """Return the same for x far above the mean: DLMF 8.17.22 for I_(1-x)(b, a), by Lentz's method."""
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


def log_evidence(counts: np.ndarray, gaps: np.ndarray, alternative: LogAlternative) -> np.ndarray:
    """Return log E after each day.

    Args:
        counts: (..., days, bins), how many new values fell into each bin on each day; days without one may be left out.
        gaps: (bins,), g above.
        alternative: log P1.

    Returns:
        (..., days). The evidence of a day does not depend on later ones.
    """
    counts = np.asarray(counts, dtype=np.int64)
    total = np.concatenate([np.zeros_like(counts[..., :1, :]), np.cumsum(counts, axis=-2)], axis=-2)
    log_p0 = log_polya(total, gaps)
    day_numbers = np.arange(1, counts.shape[-2] + 1)
    log_weights = -np.log(day_numbers) - np.log1p(day_numbers)
    log_e = np.empty(counts.shape[:-1])
    for day in day_numbers:
        log_p1 = alternative(total[..., day, None, :] - total[..., :day, :])
        log_ratio = log_p1 - (log_p0[..., day, None] - log_p0[..., :day])
        log_e[..., day - 1] = np.logaddexp(log_sum(log_weights[:day] + log_ratio), -np.log1p(day))
    return log_e


def log_sum(logs: np.ndarray) -> np.ndarray:
    """Return the logarithm of the sum over the last axis of exp of finite values; for short axes much faster than scipy's."""
    largest = logs.max(axis=-1)
    return np.asarray(largest + np.log(np.exp(logs - largest[..., None]).sum(axis=-1)))


def worst_of(columns: np.ndarray) -> np.ndarray:
    """Return the logarithm of the largest e-value over the number of columns: (days,) of (columns, days)."""
    return np.asarray(columns.max(axis=0) - np.log(len(columns)))


def confidence_sequence(alarms: np.ndarray, samples: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return intervals of the rate, all of which hold together with a probability of at least 1 - level.

    Each holds the rates p at which the same kind of evidence, the mixture over Jeffreys' prior against p itself, is below
    1 / level.

    Args:
        alarms: (n,), counted from the beginning.
        samples: (n,), counted from the beginning.
        level: such as 0.05.

    Returns:
        Lower and upper ends, (n,) each, in [0, 1].
    """
    alarms, samples = np.asarray(alarms, dtype=np.float64), np.asarray(samples, dtype=np.float64)
    min_log_likelihood = betaln(alarms + 0.5, samples - alarms + 0.5) - betaln(0.5, 0.5) + np.log(level)
    observed_rate = np.divide(alarms, samples, out=np.zeros_like(alarms), where=samples > 0)

    def is_inside(rate: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            log_alarms = np.where(alarms > 0, alarms * np.log(rate), 0.0)
            log_others = np.where(samples > alarms, (samples - alarms) * np.log1p(-rate), 0.0)
        result: np.ndarray = log_alarms + log_others >= min_log_likelihood
        return result

    low = _bisect_boundary(np.zeros_like(observed_rate), observed_rate, is_inside)
    high = _bisect_boundary(np.ones_like(observed_rate), observed_rate, is_inside)
    return low, high


def _bisect_boundary(outside: np.ndarray, inside: np.ndarray, is_inside: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return the boundary of the region where `is_inside` holds, for each of (n,), on its outer side.

    Args:
        outside: points that may lie outside, (n,).
        inside: points that lie inside, (n,).
        is_inside: of points (n,), bool (n,).
    """
    for _ in range(BISECTION_STEPS):
        middle_rate = (outside + inside) / 2
        holds = is_inside(middle_rate)
        inside, outside = np.where(holds, middle_rate, inside), np.where(holds, outside, middle_rate)
    return outside
