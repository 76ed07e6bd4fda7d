import functools
import math

import numpy as np
import pytest
from scipy.stats import betabinom, binomtest

from ae_models.conformal_thresholds import SplitConformalThreshold
from ae_models.intervals import clopper_pearson
from ae_models.threshold_interface import StoredThreshold
from aeops.evaluation.false_alarms import measure_false_alarms

DRAWS = 1500


def stored_threshold(calibration: int) -> StoredThreshold:
    return StoredThreshold(SplitConformalThreshold(0.01), 1.0, calibration, {})


def plausible_rates(alarms: int, normals: int, calibration: int, level: float = 0.95) -> tuple[float, float]:
    rates = stored_threshold(calibration).plausible_rates(alarms, normals, level)
    assert rates is not None
    return rates


@pytest.mark.parametrize(("alarms", "normals"), [(0, 50), (7, 700), (50, 50)])
def test_clopper_pearson_is_scipys_exact_interval(alarms, normals):
    exact = binomtest(alarms, normals).proportion_ci(0.95, "exact")
    assert clopper_pearson(alarms, normals) == pytest.approx((exact.low, exact.high), abs=1e-9)


@pytest.mark.parametrize(("alarms", "normals", "calibration"), [(0, 30, 40), (3, 30, 40), (30, 30, 40), (8, 717, 300)])
def test_the_rates_are_those_of_every_rank_that_neither_tail_rejects(alarms, normals, calibration):
    ranks = np.arange(1, calibration + 1)
    law = betabinom(normals, calibration + 1 - ranks, ranks)
    kept = ranks[(law.cdf(alarms) >= 0.025) & (law.sf(alarms - 1) >= 0.025)]
    low = 0.0 if alarms == 0 else 1 - kept.max() / (calibration + 1)
    expected = (low, 1 - (kept.min() - 1) / (calibration + 1))
    assert plausible_rates(alarms, normals, calibration) == pytest.approx(expected)


def drawn_alarms(rate: float, calibration: int, normals: int, rng: np.random.Generator) -> int:
    """Alarms among fresh normals at the split-conformal threshold of a fresh calibration set."""
    rank = math.ceil(round((calibration + 1) * (1 - rate), 9))
    threshold = np.partition(rng.random(calibration), rank - 1)[rank - 1]
    return int((rng.random(normals) > threshold).sum())


@pytest.mark.parametrize(("rate", "calibration", "normals"), [(0.01, 900, 700), (0.05, 200, 2000), (0.3, 99, 1000)])
def test_interval_with_calibration_holds_the_requested_rate_in_95_of_100_draws(rate, calibration, normals):
    rng = np.random.default_rng(0)
    interval = functools.cache(plausible_rates)
    intervals = [interval(drawn_alarms(rate, calibration, normals, rng), normals, calibration) for _ in range(DRAWS)]
    assert 0.94 <= np.mean([low <= rate <= high for low, high in intervals]) <= 0.99


def test_clopper_pearson_alone_would_break_more_promises_than_it_says():
    rng = np.random.default_rng(0)
    intervals = [clopper_pearson(drawn_alarms(0.05, 200, 2000, rng), 2000) for _ in range(DRAWS)]
    assert np.mean([low <= 0.05 <= high for low, high in intervals]) < 0.7


def test_a_rate_far_from_the_alarms_is_rejected():
    low, high = plausible_rates(70, 1000, 1000)
    assert 0.01 < low < 0.07 < high < 0.1


def test_no_alarm_agrees_with_every_small_rate():
    assert plausible_rates(0, 700, 900)[0] == 0.0


@pytest.mark.parametrize(("alarms", "normals", "calibration"), [(100, 100, 1), (1, 1000, 1), (3, 20, 5)])
def test_few_calibration_scores_still_give_an_interval(alarms, normals, calibration):
    low, high = plausible_rates(alarms, normals, calibration)
    assert 0 <= low < high <= 1


def test_the_measured_rate_lies_in_its_interval():
    found = measure_false_alarms(8, 717, stored_threshold(900))
    assert found.interval[0] < found.measured == 8 / 717 < found.interval[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rate", "calibration", "normals"), [(0.01, 882, 930), (0.01, 99, 1000), (0.05, 200, 2000), (0.1, 50, 300)]
)
def test_the_gate_refuses_at_most_one_in_a_thousand_of_the_thresholds_that_keep_their_promise(rate, calibration, normals):
    rank = math.ceil(round((calibration + 1) * (1 - rate), 9))
    law = betabinom(normals, calibration + 1 - rank, rank)
    refused = {0.95: 0.0, 0.999: 0.0}
    for alarms in range(math.ceil(law.isf(1e-7)) + 1):
        found = measure_false_alarms(alarms, normals, stored_threshold(calibration))
        for level, (low, high) in ((0.95, found.interval_with_calibration), (0.999, found.promise_interval)):
            if not low <= rate <= high:
                refused[level] += law.pmf(alarms)
    assert refused[0.999] <= 0.001 < 0.01 < refused[0.95] <= 0.05
