"""The evidence is what its derivation says: exact laws by enumeration, fair bets, and no alarm where nothing changes."""

import itertools
import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import beta, betabinom, binom

from aeops.monitoring import eprocess
from aeops.monitoring.eprocess import (
    PolyaUrn,
    any_change,
    confidence_sequence,
    log_evidence,
    log_polya,
    log_upper_tail,
    more_than,
    worst_of,
)

GAPS = np.array([2.0, 5.0, 1.0])


def polya_step_by_step(sequence: tuple[int, ...], gaps: np.ndarray) -> float:
    """P0 by its definition: one draw after the other."""
    held, found = gaps.copy(), 1.0
    for place in sequence:
        found *= held[place] / held.sum()
        held[place] += 1
    return found


def counts_of(sequence: tuple[int, ...], bins: int = 3) -> np.ndarray:
    return np.bincount(np.array(sequence, dtype=np.int64), minlength=bins)


def test_the_law_of_a_sequence_is_the_urns_draw_by_draw() -> None:
    for sequence in itertools.product(range(3), repeat=5):
        found = math.exp(log_polya(counts_of(sequence), GAPS))
        assert found == pytest.approx(polya_step_by_step(sequence, GAPS), rel=1e-12)


def test_the_laws_of_all_sequences_of_a_length_add_up_to_one() -> None:
    sequences = list(itertools.product(range(3), repeat=6))
    counts = np.array([counts_of(sequence) for sequence in sequences])
    two = np.array([counts_of(sequence, 2) for sequence in itertools.product(range(2), repeat=6)])
    assert np.exp(log_polya(counts, GAPS)).sum() == pytest.approx(1, rel=1e-12)
    assert np.exp(any_change(GAPS)(counts)).sum() == pytest.approx(1, rel=1e-12)
    assert np.exp(more_than(0.2)(two)).sum() == pytest.approx(1, rel=1e-12)


def test_ranks_among_calibration_values_follow_the_urn_whatever_the_distribution() -> None:
    random, m, n = np.random.default_rng(0), 7, 4
    ranks = np.cumsum(GAPS)[:-1].astype(int)
    assert GAPS.sum() == m + 1
    drawn = 40_000
    values = random.exponential(size=(drawn, m + n)) ** 3
    ends = np.sort(values[:, :m], axis=1)[:, ranks - 1]
    bins = (values[:, m:, None] > ends[:, None]).sum(axis=2)
    found, times = np.unique(bins, axis=0, return_counts=True)
    expected = np.array([polya_step_by_step(tuple(one), GAPS) for one in found])
    spread = np.sqrt(expected * (1 - expected) / drawn)
    assert np.abs(times / drawn - expected).max() < 5 * spread.max()
    assert (np.abs(times / drawn - expected) < 6 * spread).all()


@pytest.mark.parametrize(("gaps", "alternative"), [(GAPS, any_change(GAPS)), (np.array([18.0, 2.0]), more_than(0.1))])
def test_the_expected_next_evidence_is_the_present_one(gaps: np.ndarray, alternative: eprocess.LogAlternative) -> None:
    """The martingale, exactly: all ways in which a day of two samples can follow three days, weighted by the urn."""
    bins, past = len(gaps), np.array([[1, 2, 0], [0, 0, 1], [3, 0, 2]])[:, : len(gaps)]
    now = math.exp(log_evidence(past, gaps, alternative)[-1])
    held, expected = gaps + past.sum(axis=0), 0.0
    for sequence in itertools.product(range(bins), repeat=2):
        day = counts_of(sequence, bins)
        later = math.exp(log_evidence(np.vstack([past, day]), gaps, alternative)[-1])
        expected += polya_step_by_step(sequence, held) * later
    assert expected == pytest.approx(now, rel=1e-10)


def test_the_evidence_is_the_mixture_over_the_day_on_which_a_change_begins() -> None:
    past = np.array([[1, 2, 0], [0, 3, 1], [2, 0, 2]])
    expected = 1 / 4  # of the days that have not begun
    for first in range(3):
        before, after = past[:first].sum(axis=0), past[first:].sum(axis=0)
        p1 = np.mean([math.exp(log_polya(after, spread * 3 * GAPS / GAPS.sum())) for spread in eprocess.PRIOR_WEIGHTS])
        p0 = math.exp(log_polya(after, GAPS + before))
        expected += p1 / p0 / ((first + 1) * (first + 2))
    assert math.exp(log_evidence(past, GAPS, any_change(GAPS))[-1]) == pytest.approx(expected, rel=1e-12)


def test_the_alarms_law_is_the_beta_binomial_by_which_a_threshold_is_judged() -> None:
    m, rank, n = 99, 95, 20
    for alarms in range(n + 1):
        ours = log_polya(np.array([n - alarms, alarms]), np.array([rank, m + 1 - rank])) + math.log(math.comb(n, alarms))
        assert math.exp(ours) == pytest.approx(betabinom.pmf(alarms, n, m + 1 - rank, rank), rel=1e-10)


@pytest.mark.parametrize("promise", [0.01, 0.3])
def test_the_law_of_more_alarms_is_a_prior_cut_off_at_the_promise(promise: float) -> None:
    a, b = 1.0, max(1.0, 1 / (4 * promise))
    prior = beta(a, b)
    whole = quad(prior.pdf, promise, 1)[0]
    for alarms in (0, 1, 7):
        expected = quad(lambda rate, s=alarms: prior.pdf(rate) * rate**s * (1 - rate) ** (7 - s), promise, 1)[0] / whole
        assert math.exp(more_than(promise)(np.array([7 - alarms, alarms]))) == pytest.approx(expected, rel=1e-6)


def test_tails_far_below_the_smallest_float_are_told() -> None:
    for a, b, x in ((2.0, 900.0, 0.02), (50.0, 5000.0, 0.02), (3.0, 40.0, 0.5)):
        expected = beta.logsf(x, a, b)
        assert log_upper_tail(np.array(a), np.array(b), x) == pytest.approx(expected, rel=1e-10)
        assert eprocess._log_tiny_tail(np.array([a]), np.array([b]), x)[0] == pytest.approx(expected, rel=1e-10)
    deep = log_upper_tail(np.array([100.0, 101.0]), np.array([1e6, 1e6]), 0.02)
    assert np.isfinite(deep).all()
    assert deep[0] < -15_000
    # Where x lies far above the mean, another alarm makes the tail heavier by about (a + b) / a * x of its weight.
    assert deep[1] - deep[0] == pytest.approx(math.log((1e6 + 100) / 100 * 0.02), abs=0.01)


def test_evidence_is_finite_for_millions_of_samples_and_does_not_wander_off() -> None:
    gaps, promise = np.array([892.0, 9.0]), 9 / 901
    random = np.random.default_rng(0)
    alarms = random.binomial(1_000_000, 0.009, size=5)
    few = log_evidence(np.stack([1_000_000 - alarms, alarms], axis=1), gaps, more_than(promise))
    assert np.isfinite(few).all()
    assert few.max() < 5
    many = random.binomial(1_000_000, [0.009, 0.009, 0.02, 0.02])
    found = log_evidence(np.stack([1_000_000 - many, many], axis=1), gaps, more_than(promise))
    pooled = 0.0145  # what both halves would have to have; the likelihood ratio of two rates against that
    ratio = sum(2e6 * (p * math.log(p / pooled) + (1 - p) * math.log((1 - p) / (1 - pooled))) for p in (0.009, 0.02))
    assert found[-1] == pytest.approx(ratio, rel=0.05)


def test_large_counts_and_small_ones_go_by_the_same_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = np.random.default_rng(1).integers(0, 3000, (4, 10))
    weights = np.linspace(0.5, 30, 10)
    kept = log_polya(counts, weights)
    monkeypatch.setattr(eprocess, "MAX_TABLE_COUNT", 1)
    np.testing.assert_allclose(log_polya(counts, weights), kept, rtol=1e-12)


def test_a_late_change_is_found_though_all_before_was_usual() -> None:
    random, gaps = np.random.default_rng(0), np.full(10, 90.1)
    usual = random.multinomial(200, np.full(10, 0.1), size=200)
    odd = random.multinomial(200, [0.05, 0.05, *[0.1] * 6, 0.15, 0.15], size=4)
    found = log_evidence(np.vstack([usual, odd]), gaps, any_change(gaps))
    assert found[:200].max() < math.log(100)
    assert found[-1] > math.log(1000)


def test_many_streams_at_once_give_what_each_gives_alone() -> None:
    counts = np.random.default_rng(0).integers(0, 9, (3, 5, 3))
    together = log_evidence(counts, GAPS, any_change(GAPS))
    for one, found in zip(counts, together, strict=True):
        np.testing.assert_allclose(log_evidence(one, GAPS, any_change(GAPS)), found, rtol=1e-12)


def test_no_more_streams_alarm_than_the_level_says_however_strongly_columns_hang_together() -> None:
    """Ville and Bonferroni: a level of one in five, ten looks at four columns, of which three are nearly the same."""
    random, streams, m = np.random.default_rng(0), 600, 30
    gaps = np.diff([0, 6, 12, 18, 24, m + 1]).astype(float)
    base = random.normal(size=(streams, m + 100, 1))
    values = np.concatenate([base + 0.1 * random.normal(size=(streams, m + 100, 3)), -base], axis=2)
    ends = np.sort(values[:, :m], axis=1)[:, [5, 11, 17, 23]]
    bins = (values[:, m:, None, :] > ends[:, None]).sum(axis=2)  # (streams, 100, columns)
    counts = np.stack([(bins == place).reshape(streams, 10, 10, 4).sum(axis=2) for place in range(5)], axis=-1)
    columns = [log_evidence(counts[:, :, column], gaps, any_change(gaps)) for column in range(4)]
    alarmed = (worst_of(np.stack(columns).reshape(4, -1)).reshape(streams, 10) >= math.log(5)).any(axis=1)
    assert alarmed.mean() <= 0.2 + 3 * math.sqrt(0.2 * 0.8 / streams)


def test_a_rates_band_holds_it_at_all_moments_together() -> None:
    random, streams, rate = np.random.default_rng(0), 400, 0.03
    alarms = np.cumsum(random.binomial(50, rate, (streams, 60)), axis=1)
    samples = np.broadcast_to(50 * np.arange(1, 61), alarms.shape)
    low, high = confidence_sequence(alarms, samples, 0.1)
    missed = ((low > rate) | (high < rate)).any(axis=1)
    assert missed.mean() <= 0.1 + 3 * math.sqrt(0.09 / streams)
    assert (high - low)[:, -1].mean() < (high - low)[:, 0].mean() / 3


def test_the_band_is_where_the_evidence_against_a_rate_is_below_one_over_the_level() -> None:
    low, high = confidence_sequence(np.array([4]), np.array([90]), 0.05)
    for rate in (low[0], high[0]):
        mixture = quad(lambda p: beta.pdf(p, 0.5, 0.5) * binom.pmf(4, 90, p), 0, 1)[0]
        assert mixture / binom.pmf(4, 90, rate) == pytest.approx(20, rel=1e-4)
    none = confidence_sequence(np.array([0, 7]), np.array([0, 7]), 0.05)
    assert (none[0][0], none[1][0], none[1][1]) == (0, 1, 1)


def test_an_urn_that_has_a_table_computes_what_one_without_computes() -> None:
    """The table is made once it pays, here within the first calls; a look at large counts makes none."""
    weights = np.array([0.5, 3.0, 8.0])
    counts = np.random.default_rng(3).integers(0, 40, (100, 3))
    urn = PolyaUrn(weights)
    for start in range(0, 100, 20):
        expected = [log_polya(row, weights) for row in counts[start : start + 20]]
        np.testing.assert_array_equal(urn(counts[start : start + 20]), expected)
    assert urn._table_size == 64
    large = PolyaUrn(weights)
    large(counts[:1] + 100_000)
    assert large._table_size == 0
