import itertools

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from aeops.errors import UsageError
from aeops.evaluation.detection import PcaBaseline, knn_distance, logit_interval, measure_ranking
from aeops.gate.auroc import estimate_auroc


def scores(positives: int, negatives: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Normal scores one apart, rounded so that there are ties."""
    rng = np.random.default_rng(seed)
    return rng.normal(1, 1, positives).round(1), rng.normal(0, 1, negatives).round(1)


def brute_force_delong(positives: np.ndarray, negatives: np.ndarray) -> tuple[float, float]:
    """DeLong's estimate from its definition: every pair compared, one at a time."""
    wins = np.array([[1.0 if p > n else 0.5 if p == n else 0.0 for n in negatives] for p in positives])
    by_positive, by_negative = wins.mean(axis=1), wins.mean(axis=0)
    variance = np.var(by_positive, ddof=1) / len(positives) + np.var(by_negative, ddof=1) / len(negatives)
    return float(wins.mean()), float(variance)


@pytest.mark.parametrize(("positives", "negatives"), [(2, 3), (40, 70), (70, 40)])
def test_delong_by_ranks_equals_delong_by_every_pair(positives, negatives):
    assert estimate_auroc(*scores(positives, negatives)) == pytest.approx(brute_force_delong(*scores(positives, negatives)))


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


def test_pca_residual_is_the_distance_to_the_leading_singular_vectors(digits):
    train, samples = (digits[0][part].reshape(-1, 784) / 255 for part in (slice(300), slice(300, 340)))
    mean = train.mean(axis=0)
    axes = np.linalg.svd(train - mean, full_matrices=False)[2][:16]
    left = (samples - mean) - (samples - mean) @ axes.T @ axes
    np.testing.assert_allclose(PcaBaseline.fit(train, 16).squared_residual(samples), (left**2).sum(axis=1), rtol=1e-6)


def test_knn_distance_is_that_of_the_kth_nearest():
    train, samples = np.random.default_rng(0).random((2, 40, 3))
    by_hand = [sorted(np.linalg.norm(train - sample, axis=1))[4] for sample in samples]
    np.testing.assert_allclose(knn_distance(train, samples, 5), by_hand, rtol=1e-6)


def test_more_components_or_neighbours_than_samples_are_refused():
    few = np.zeros((4, 9))
    with pytest.raises(UsageError, match=r"evaluate\.pca_components: expected at most 4 for .* got 5"):
        PcaBaseline.fit(few, 5)
    with pytest.raises(UsageError, match=r"evaluate\.neighbours: expected at most 4, .* got 5"):
        knn_distance(few, few, 5)


def test_every_pair_of_scores_counts_half_when_tied():
    auroc, _ = estimate_auroc(np.array([1.0, 1.0]), np.array([1.0, 0.0]))
    assert auroc == np.mean([0.5 if a == b else float(a > b) for a, b in itertools.product([1.0, 1.0], [1.0, 0.0])])
