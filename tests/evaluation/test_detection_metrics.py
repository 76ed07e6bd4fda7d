import itertools

import numpy as np
import pytest
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from aeops.errors import DataError
from aeops.evaluation.detection import (
    DetectorScores,
    FlaggedShares,
    logit_interval,
    measure_flagged,
    measure_lead,
    measure_ranking,
)
from aeops.gate.auroc import average_ranks, estimate_auroc


def scores(positives: int, negatives: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Normal scores one apart, rounded so that there are ties."""
    rng = np.random.default_rng(seed)
    return rng.normal(1, 1, positives).round(1), rng.normal(0, 1, negatives).round(1)


def roc_wins(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """Every pair compared, one at a time: 1 where the positive is higher, 1/2 at a tie."""
    return np.array([[1.0 if p > n else 0.5 if p == n else 0.0 for n in negatives] for p in positives])


def brute_force_delong(positives: np.ndarray, negatives: np.ndarray) -> tuple[float, float]:
    """DeLong's estimate from its definition."""
    wins = roc_wins(positives, negatives)
    by_positive, by_negative = wins.mean(axis=1), wins.mean(axis=0)
    variance = np.var(by_positive, ddof=1) / len(positives) + np.var(by_negative, ddof=1) / len(negatives)
    return float(wins.mean()), float(variance)


@pytest.mark.parametrize(("positives", "negatives"), [(2, 3), (40, 70), (70, 40)])
def test_delong_by_ranks_equals_delong_by_every_pair(positives, negatives):
    assert estimate_auroc(*scores(positives, negatives)) == pytest.approx(brute_force_delong(*scores(positives, negatives)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("special", [0.0, np.inf, -np.inf, np.nan])
def test_ranks_are_scipys(special: float, dtype: type) -> None:
    values = np.random.default_rng(0).integers(0, 40, 100).astype(dtype)
    values[7] = special
    np.testing.assert_array_equal(average_ranks(values), rankdata(values))


def test_auroc_is_scikit_learns():
    positives, negatives = scores(50, 80)
    novelty = np.repeat([True, False], [50, 80])
    found = measure_ranking(np.concatenate([positives, negatives]), novelty)
    assert found.auroc == pytest.approx(roc_auc_score(novelty, np.concatenate([positives, negatives])))


def test_average_precision_sums_precision_at_each_novelty():
    score, novelty = np.array([9.0, 8, 7, 6, 5]), np.array([True, False, True, True, False])
    assert measure_ranking(score, novelty).average_precision == pytest.approx((1 / 1 + 2 / 3 + 3 / 4) / 3)


def test_auroc_interval_holds_the_true_value_in_95_of_100_draws():
    truth = 0.76025  # P(N(1, 1) > N(0, 1)) = Phi(1 / sqrt(2))
    intervals = (logit_interval(*estimate_auroc(*scores(60, 90, seed))) for seed in range(600))
    assert 0.93 <= np.mean([low <= truth <= high for low, high in intervals]) <= 0.97


def test_auroc_interval_stays_inside_0_and_1():
    low, high = logit_interval(0.995, 0.001)
    assert 0 < low < 0.995 < high < 1
    assert logit_interval(1.0, 0.0) == (1.0, 1.0)


def test_every_pair_of_scores_counts_half_when_tied():
    auroc, _ = estimate_auroc(np.array([1.0, 1.0]), np.array([1.0, 0.0]))
    assert auroc == np.mean([0.5 if a == b else float(a > b) for a, b in itertools.product([1.0, 1.0], [1.0, 0.0])])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_score_that_is_not_finite_ranks_nothing(value):
    with pytest.raises(DataError, match="finite scores of the test samples, got 1 of 4"):
        measure_ranking(np.array([1.0, value, 2.0, 3.0]), np.array([True, False, True, False]))


# ---------------------------------------------------------------- shares caught at a rate of false alarms


def test_a_share_is_caught_above_the_conformal_rank_of_the_calibration_scores():
    calibration = np.arange(1.0, 100.0)  # at 10 % the threshold is the 90th of 99
    test = np.array([89.0, 90.0, 91.0, 200.0, 90.5, 12.0])
    novelty = np.array([False, False, False, True, True, True])
    assert measure_flagged(DetectorScores(calibration, test), novelty, 0.1) == FlaggedShares(2 / 3, 1 / 3)


def test_a_rate_that_the_calibration_samples_are_too_few_for_has_no_share():
    scores = DetectorScores(np.arange(98.0), np.arange(200.0))
    novelty = np.arange(200) >= 100
    assert measure_flagged(scores, novelty, 0.01) == FlaggedShares(None, None)
    assert measure_flagged(DetectorScores(np.arange(99.0), scores.test), novelty, 0.01) == FlaggedShares(1.0, 0.01)


def test_a_constant_score_flags_nothing():
    novelty = np.repeat([True, False], 50)
    constant = DetectorScores(np.ones(99), np.ones(100))
    assert measure_flagged(constant, novelty, 0.1) == FlaggedShares(0.0, 0.0)
    assert measure_ranking(constant.test, novelty).auroc == 0.5


# ---------------------------------------------------------------- the lead over the baselines


def ranked(count: int, seed: int, signal: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What two detectors share, what is noise of one of them, and which samples are novelty."""
    rng = np.random.default_rng(seed)
    novelty = np.arange(count) % 2 == 0
    return novelty * signal + rng.normal(size=count), rng.normal(size=count), novelty


def test_the_lead_is_over_the_best_baseline_and_its_interval_is_paired():
    shared, noise, novelty = ranked(400, 0, 1.5)
    groups = np.arange(400)
    good, poor = shared + noise, shared + 3 * noise
    lead = measure_lead(shared, {"poor": poor, "good": good}, novelty, groups)
    assert lead.margin == pytest.approx(roc_auc_score(novelty, shared) - roc_auc_score(novelty, good))
    low, high = lead.interval
    assert 0 < low < lead.margin < high
    better = [roc_wins(scores[novelty], scores[~novelty]) for scores in (shared, good)]
    gain = better[0] - better[1]  # of each pair of a novelty and a normal
    variance = np.var(gain.mean(axis=1), ddof=1) / 200 + np.var(gain.mean(axis=0), ddof=1) / 200
    assert (high - low) / 2 == pytest.approx(1.959964 * np.sqrt(variance))


def test_the_lower_bound_is_the_lowest_over_all_baselines():
    shared, noise, novelty = ranked(200, 2, 1.5)
    other = ranked(200, 3, 1.45)[0]  # of other draws: less of a rival, and less is known of it
    groups = np.arange(200)
    near = measure_lead(shared, {"near": shared + 0.05 * noise}, novelty, groups)
    both = measure_lead(shared, {"near": shared + 0.05 * noise, "other": other}, novelty, groups)
    assert both.margin == near.margin
    assert both.interval[0] == measure_lead(shared, {"other": other}, novelty, groups).interval[0] < near.interval[0]
    assert both.interval[1] == near.interval[1]


def test_no_better_than_a_baseline_has_a_lower_bound_below_0_in_19_of_20_draws():
    below = []
    for seed in range(200):
        first, second, novelty = ranked(120, seed, 0.0)
        lead = measure_lead(first + novelty, {"equal": second + novelty}, novelty, np.arange(120))
        below.append(lead.interval[0] <= 0)
    assert np.mean(below) >= 0.94


def test_samples_of_one_group_are_one_observation():
    shared, noise, novelty = ranked(80, 4, 1.5)
    alone = measure_lead(shared, {"one": shared + noise}, novelty, np.arange(80))
    repeated = [np.tile(values, 3) for values in (shared, shared + noise, novelty, np.arange(80))]
    copies = measure_lead(repeated[0], {"one": repeated[1]}, *repeated[2:])
    assert copies.interval == pytest.approx(alone.interval)


def test_too_few_groups_give_no_interval():
    shared, noise, novelty = ranked(100, 5, 1.5)
    lead = measure_lead(shared, {"one": shared + noise}, novelty, np.arange(100) % 30)
    assert lead.interval is None
    assert lead.margin == pytest.approx(roc_auc_score(novelty, shared) - roc_auc_score(novelty, shared + noise))


def test_where_model_and_baseline_rank_without_an_error_there_is_nothing_to_win():
    novelty = np.arange(60) % 2 == 0
    perfect, other = novelty + np.linspace(0, 0.5, 60), novelty + np.linspace(0.5, 0, 60)
    assert measure_lead(perfect, {"perfect": other}, novelty, np.arange(60)).interval == (0.0, 0.0)
    assert measure_lead(perfect, {"reversed": -other}, novelty, np.arange(60)).interval == (1.0, 1.0)
    assert measure_lead(perfect, {"constant": np.ones(60)}, novelty, np.arange(60)).interval == (0.5, 0.5)
    assert measure_lead(np.ones(60), {"constant": np.ones(60)}, novelty, np.arange(60)).interval == (0.0, 0.0)
