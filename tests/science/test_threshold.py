"""Split conformal thresholds and p-values, by brute force and by the law they must follow."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from ae_models.errors import SpecError
from ae_models.export import Scorer
from ae_models.threshold import Threshold, conformal_rank, split_conformal

RATES = [0.01, 0.05, 0.1, 0.37, 0.5]


def p_values(scores: np.ndarray, threshold: Threshold) -> np.ndarray:
    """As the exported graph counts them."""
    return Scorer(nn.Identity(), nn.Identity(), threshold).p_value(torch.from_numpy(scores)).numpy()


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("rows", [99, 100, 101, 999, 1234])
def test_rank_is_the_ceiling_in_exact_arithmetic(rows: int, rate: float) -> None:
    assert conformal_rank(rows, rate) == math.ceil((rows + 1) * (1 - Fraction(str(rate))))


@pytest.mark.parametrize("rate", RATES)
def test_threshold_is_the_smallest_that_brute_force_finds(rate: float) -> None:
    scores = np.random.default_rng(2).normal(size=150).astype(np.float32)
    allowed = [t for t in scores if ((scores > t).sum() + 1) / (len(scores) + 1) <= rate]
    assert split_conformal(scores, rate).value == min(allowed)


def test_p_values_count_one_by_one_with_ties() -> None:
    calibration = np.sort(np.random.default_rng(3).integers(0, 9, 50).astype(np.float32))
    scores = np.arange(-1, 10, dtype=np.float32)
    wanted = [(1 + sum(c >= s for c in calibration)) / 51 for s in scores]
    np.testing.assert_allclose(p_values(scores, Threshold(0.0, 1, calibration)), wanted, rtol=1e-6)


@pytest.mark.parametrize("rate", RATES)
def test_a_score_above_the_threshold_is_one_whose_p_value_is_at_most_the_rate(rate: float) -> None:
    draw = np.random.default_rng(4)
    threshold = split_conformal(draw.normal(size=333).astype(np.float32), rate)
    scores = draw.normal(size=2000).astype(np.float32)
    assert ((scores > threshold.value) == (p_values(scores, threshold) <= np.float32(rate))).all()


def test_too_few_calibration_samples_say_how_many_are_needed() -> None:
    with pytest.raises(SpecError, match="98 calibration samples; at least 99 are needed"):
        split_conformal(np.zeros(98, np.float32), 0.01)
    assert split_conformal(np.zeros(99, np.float32), 0.01).rank == 99


def test_false_alarm_rates_over_many_calibrations_follow_the_beta_law() -> None:
    rows, rate, draws = 200, 0.05, 4000
    calibrations = np.random.default_rng(5).random((draws, rows), dtype=np.float32)
    rates = [1 - split_conformal(scores, rate).value for scores in calibrations]  # of uniform scores: exact, no sampling
    rank = conformal_rank(rows, rate)
    assert stats.kstest(rates, stats.beta(rows + 1 - rank, rank).cdf).pvalue > 0.01
    assert np.mean(rates) == pytest.approx((rows + 1 - rank) / (rows + 1), abs=0.001)
    assert np.mean(rates) <= rate
