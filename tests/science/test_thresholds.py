"""Split conformal thresholds and p-values, by brute force and by the law they must follow."""

import functools
import json
import math
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from scipy import stats

from ae_models.bundle import load_bundle
from ae_models.conformal_thresholds import SplitConformalThreshold
from ae_models.errors import SpecError
from ae_models.spec import INPUT_KINDS, PART_SPECS, FitSpec, SplitConformalThresholdSpec, bounded_field
from ae_models.threshold_interface import (
    CalibratedThreshold,
    CalibrationRows,
    CalibrationScores,
    StoredThreshold,
    conformal_plausible_rates,
    pooled_p_values,
)
from ae_models.threshold_laws import conformal_rank
from ae_models.thresholds import THRESHOLDS, load_threshold, threshold_method, threshold_spec

ROOT = Path(__file__).parents[2]
RATES = [0.01, 0.05, 0.1, 0.37, 0.5]
SECTION = {"kind": "split-conformal", "false_alarm_rate": 0.05, "value": 1.25, "calibration_rows": 99, "rank": 95}


def calibrate(scores: np.ndarray, rate: float) -> CalibratedThreshold:
    return SplitConformalThreshold(rate).calibrate(CalibrationScores(scores))


def p_values(scores: np.ndarray, calibration_scores: np.ndarray) -> np.ndarray:
    """As the exported graph counts them."""
    tensors = torch.from_numpy(scores), torch.from_numpy(calibration_scores)
    values: np.ndarray = pooled_p_values(*tensors).numpy()
    return values


def test_every_threshold_of_the_spec_exists() -> None:
    assert list(THRESHOLDS) == list(PART_SPECS["threshold"])


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("rows", [99, 100, 101, 999, 1234])
def test_rank_is_the_ceiling_in_exact_arithmetic(rows: int, rate: float) -> None:
    assert conformal_rank(rows, rate) == math.ceil((rows + 1) * (1 - Fraction(str(rate))))


@pytest.mark.parametrize("rate", RATES)
def test_threshold_is_the_smallest_that_brute_force_finds(rate: float) -> None:
    scores = np.random.default_rng(2).normal(size=150).astype(np.float32)
    allowed = [t for t in scores if ((scores > t).sum() + 1) / (len(scores) + 1) <= rate]
    assert calibrate(scores, rate).value == min(allowed)


def test_p_values_count_one_by_one_with_ties() -> None:
    calibration_scores = np.sort(np.random.default_rng(3).integers(0, 9, 50).astype(np.float32))
    scores = np.arange(-1, 10, dtype=np.float32)
    expected = [(1 + sum(c >= s for c in calibration_scores)) / 51 for s in scores]
    np.testing.assert_allclose(p_values(scores, calibration_scores), expected, rtol=1e-6)


@pytest.mark.parametrize("rate", RATES)
def test_a_score_above_the_threshold_is_one_whose_p_value_is_at_most_the_rate(rate: float) -> None:
    random = np.random.default_rng(4)
    threshold = calibrate(random.normal(size=333).astype(np.float32), rate)
    scores = random.normal(size=2000).astype(np.float32)
    is_anomaly = scores > threshold.value
    assert (is_anomaly == (p_values(scores, threshold.calibration_scores) <= np.float32(rate))).all()


def test_too_few_calibration_samples_say_how_many_are_needed() -> None:
    with pytest.raises(SpecError, match="needs 99 calibration samples or more, got 98"):
        calibrate(np.zeros(98, np.float32), 0.01)
    assert calibrate(np.zeros(99, np.float32), 0.01).details == {"rank": 99}


def test_false_alarm_rates_over_many_calibrations_follow_the_beta_law() -> None:
    rows, rate, draws = 200, 0.05, 4000
    calibrations = np.random.default_rng(5).random((draws, rows), dtype=np.float32)
    rates = [1 - calibrate(scores, rate).value for scores in calibrations]  # of uniform scores: exact, no sampling
    rank = conformal_rank(rows, rate)
    assert stats.kstest(rates, stats.beta(rows + 1 - rank, rank).cdf).pvalue > 0.01
    assert np.mean(rates) == pytest.approx((rows + 1 - rank) / (rows + 1), abs=0.001)
    assert np.mean(rates) <= rate


# ---------------------------------------------------------------- fresh normals

DRAWS = 1500


def plausible_rates(alarms: int, normals: int, calibration: int) -> tuple[float, float]:
    return conformal_plausible_rates(alarms, normals, calibration, 0.95)


@pytest.mark.parametrize(("alarms", "normals", "calibration"), [(0, 30, 40), (3, 30, 40), (30, 30, 40), (8, 717, 300)])
def test_plausible_rates_are_those_of_every_rank_that_neither_tail_rejects(alarms: int, normals: int, calibration: int) -> None:
    ranks = np.arange(1, calibration + 1)
    law = stats.betabinom(normals, calibration + 1 - ranks, ranks)
    plausible = ranks[(law.cdf(alarms) >= 0.025) & (law.sf(alarms - 1) >= 0.025)]
    low = 0.0 if alarms == 0 else 1 - plausible.max() / (calibration + 1)
    expected = (low, 1 - (plausible.min() - 1) / (calibration + 1))
    assert plausible_rates(alarms, normals, calibration) == pytest.approx(expected)


@pytest.mark.parametrize(("rate", "calibration", "normals"), [(0.01, 900, 700), (0.05, 200, 2000), (0.3, 99, 1000)])
def test_plausible_rates_hold_the_requested_one_in_95_of_100_draws(rate: float, calibration: int, normals: int) -> None:
    random = np.random.default_rng(0)
    interval = functools.cache(plausible_rates)
    covered = 0
    for _ in range(DRAWS):
        threshold = calibrate(random.random(calibration, dtype=np.float32), rate).value
        low, high = interval(int((random.random(normals) > threshold).sum()), normals, calibration)
        covered += low <= rate <= high
    assert 0.94 <= covered / DRAWS <= 0.99


def test_a_rate_far_from_the_alarms_is_rejected() -> None:
    low, high = plausible_rates(70, 1000, 1000)
    assert 0.01 < low < 0.07 < high < 0.1


def test_no_alarm_agrees_with_every_small_rate() -> None:
    assert plausible_rates(0, 700, 900)[0] == 0.0


@pytest.mark.parametrize(("alarms", "normals", "calibration"), [(100, 100, 1), (1, 1000, 1), (3, 20, 5)])
def test_few_calibration_scores_still_give_an_interval(alarms: int, normals: int, calibration: int) -> None:
    low, high = plausible_rates(alarms, normals, calibration)
    assert 0 <= low < high <= 1


# ---------------------------------------------------------------- the interface of every kind


def test_the_section_of_a_bundle_comes_back_whole() -> None:
    scores = np.random.default_rng(6).normal(size=99).astype(np.float32)
    threshold = calibrate(scores, 0.05)
    section = {"kind": "split-conformal", "false_alarm_rate": 0.05} | threshold.to_dict()
    assert list(section) == list(SECTION)
    loaded = load_threshold(json.loads(json.dumps(section)), threshold.stored_arrays)
    assert loaded.to_dict() == threshold.to_dict()
    assert loaded.method.requested_rate == 0.05
    assert threshold_spec(section) == SplitConformalThresholdSpec(0.05)


def test_a_kind_that_this_version_does_not_know_is_refused_by_name() -> None:
    with pytest.raises(SpecError, match=r"threshold\.kind: expected split-conformal, confident, .* or best-f1, got 'split'"):
        threshold_method(SECTION | {"kind": "split"})


def test_the_rank_for_monitoring_is_the_thresholds_own_or_none_without_one() -> None:
    method = threshold_method(SECTION)
    assert method.calibration_rank(99) == 95
    assert method.calibration_rank(9) is None  # no calibration score is high enough
    assert "at most 5.00 % of fresh normals" in method.describe_promise()


@dataclass(frozen=True)
class FixedThresholdSpec:
    """A second kind: its settings."""

    kind: ClassVar[str] = "fixed"
    supported_inputs: ClassVar[tuple[str, ...]] = INPUT_KINDS
    has_rate: ClassVar[bool] = False
    has_law: ClassVar[bool] = False
    reads_groups: ClassVar[bool] = False
    reads_novelty: ClassVar[bool] = False
    cutoff: float = bounded_field(0.0)


class FixedThreshold:
    """A second kind: its work."""

    def __init__(self, cutoff: float) -> None:
        self.cutoff = cutoff

    is_promised = False

    @property
    def requested_rate(self) -> float | None:
        return None

    def require_rows(self, rows: CalibrationRows) -> None:
        pass

    def calibrate(self, scores: CalibrationScores) -> CalibratedThreshold:
        return CalibratedThreshold(self, self.cutoff, np.sort(scores.calibration))

    def p_values(self, scores: Any, inputs: Any, calibration: Mapping[str, Any]) -> Any:
        return (calibration["calibration_scores"].mean() >= scores).float() * 0.5 + 0.5

    def flag(self, scores: Any, inputs: Any, calibration: Mapping[str, Any], value: float) -> Any:
        return scores > value

    def calibration_rank(self, calibration_rows: int) -> int | None:
        return None

    def plausible_rates(
        self, alarms: int, normals: int, stored: StoredThreshold, level: float = 0.95
    ) -> tuple[float, float] | None:
        return None

    def describe_promise(self) -> str:
        return "any number of fresh normals may be flagged"

    def describe_rate(self) -> str:
        return "is fixed"

    def describe_choice(self, stored: StoredThreshold) -> str:
        return "It was not chosen from samples."


def test_a_second_kind_of_threshold_needs_its_spec_and_its_class_alone(
    spec: FitSpec, digits: np.ndarray, fit_into: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PART_SPECS["threshold"], "fixed", FixedThresholdSpec)
    monkeypatch.setitem(THRESHOLDS, "fixed", FixedThreshold)
    raw_spec = spec.to_dict() | {"threshold": {"kind": "fixed", "cutoff": 1.5}}
    raw_spec["train"]["epochs"] = 1
    bundle = fit_into(FitSpec.from_dict(raw_spec, "fixed"), tmp_path).bundle
    loaded = load_bundle(bundle)
    assert loaded.document["threshold"] == {"kind": "fixed", "cutoff": 1.5, "value": 1.5, "calibration_rows": 256}
    with torch.inference_mode():
        score, p_value, is_anomaly, *_ = loaded.scorer(torch.from_numpy(digits.astype(np.float32)))
    assert (is_anomaly == (score > 1.5)).all()
    assert set(p_value.tolist()) == {0.5, 1.0}


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("ae_models.thresholds", ["torch", "scipy"]),
        ("ae_models.tokens", ["torch", "scipy"]),
        ("ae_models.sample_sets", ["torch", "scipy"]),
        ("ae_models.checksums", ["torch", "scipy", "numpy"]),
        ("ae_models.spec", ["torch", "scipy", "numpy"]),
    ],
)
def test_a_module_that_light_processes_need_loads_nothing_heavy(module: str, heavy: list[str]) -> None:
    script = f"import sys, {module}; assert not set({heavy!r}) & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
