"""Each kind of threshold: its promise by simulation and by property, its formula by brute force, and bad input."""

import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ae_models import __main__ as command_line
from ae_models.bundle import load_bundle
from ae_models.calibration import calibrate
from ae_models.checksums import tensors_sha256
from ae_models.conformal_thresholds import (
    AlarmBudgetThreshold,
    ConfidentThreshold,
    PerGroupThreshold,
    QuantileThreshold,
    SplitConformalThreshold,
)
from ae_models.errors import SampleError, SpecError
from ae_models.onnx_runtime import onnxruntime
from ae_models.sample_sets import ArraySampleSet, SampleRoles
from ae_models.spec import PART_SPECS, TEXT, FitSpec
from ae_models.threshold_interface import (
    CalibratedThreshold,
    CalibrationRows,
    CalibrationScores,
    GroupedRows,
    StoredThreshold,
    ThresholdMethod,
)
from ae_models.threshold_laws import confident_rank, fit_pareto_tail, plausible_pooled_rates, quantile_interval_ranks
from ae_models.threshold_samples import NO_LABEL, ThresholdSamples, fit_groups, require_sample_counts
from ae_models.thresholds import THRESHOLDS, read_threshold
from ae_models.unpromised_thresholds import BestF1Threshold, CostThreshold, MadThreshold, PeaksOverThreshold

POOLED: list[ThresholdMethod] = [
    SplitConformalThreshold(0.05),
    ConfidentThreshold(0.05, 0.95),
    AlarmBudgetThreshold(50, 1000),
    QuantileThreshold(0.05, 0.95),
    PeaksOverThreshold(0.001, 0.1),
    MadThreshold(3.5),
]
LABELLED: list[ThresholdMethod] = [CostThreshold(1, 10, 0.01), BestF1Threshold()]
EVERY_KIND = [*POOLED, *LABELLED, PerGroupThreshold(0.05)]
SECTIONS: dict[str, dict[str, Any]] = {
    "confident": {"false_alarm_rate": 0.05},
    "per-group": {"false_alarm_rate": 0.2},
    "alarm-budget": {"alarms_per_day": 50, "samples_per_day": 1000},
    "quantile": {"false_alarm_rate": 0.05},
    "peaks-over-threshold": {"false_alarm_rate": 0.001},
    "mad": {},
    "cost": {"false_alarm": 1, "miss": 10, "anomaly_share": 0.01},
    "best-f1": {},
}
CONTENT = "0" * 64


def by_name(method: ThresholdMethod) -> str:
    return type(method).__name__


def labelled_scores(normal: np.ndarray, novelty: np.ndarray, groups: np.ndarray | None = None) -> CalibrationScores:
    """Scores that every kind can be chosen by: `normal` stands for calibration and validation."""
    if groups is None:
        groups = np.zeros(len(normal), np.int64)
    centres = np.zeros((int(groups.max(initial=0)) + 1, 2), np.float32)
    names = tuple(map(str, range(len(centres))))
    return CalibrationScores(normal, normal, novelty, groups, names, centres)


# ---------------------------------------------------------------- the promises


@pytest.mark.slow
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=20, max_size=60),
    st.sampled_from([0.05, 0.1, 0.25, 0.5]),
)
def test_of_exchangeable_scores_with_ties_at_most_the_requested_share_lies_above_the_threshold(
    values: list[float], rate: float
) -> None:
    # Every one of m + 1 scores is the fresh one equally often: the promise is the mean over them, exactly.
    scores = np.array(values, np.float32)
    flagged = 0
    for index in range(len(scores)):
        threshold = SplitConformalThreshold(rate).calibrate(CalibrationScores(np.delete(scores, index)))
        flagged += bool(scores[index] > threshold.value)
    assert flagged / len(scores) <= rate


@pytest.mark.slow
@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.floats(-100, 100, width=32), min_size=99, max_size=120), st.integers(0, 2**31))
def test_a_threshold_of_a_rank_flags_the_same_samples_whatever_the_scores_unit(values: list[float], seed: int) -> None:
    scores = np.array(values, np.float32)
    fresh = np.random.default_rng(seed).uniform(-100, 100, 50).astype(np.float32)
    for method in POOLED[:3]:
        flags = fresh > method.calibrate(CalibrationScores(scores)).value
        assert (flags == (2 * fresh > method.calibrate(CalibrationScores(2 * scores)).value)).all()


@pytest.mark.parametrize(("rows", "rate", "confidence"), [(299, 0.01, 0.95), (900, 0.01, 0.95), (200, 0.05, 0.9)])
def test_with_confidence_the_true_rate_is_at_most_the_requested_one_in_that_share_of_draws(
    rows: int, rate: float, confidence: float
) -> None:
    random, method, draws = np.random.default_rng(11), ConfidentThreshold(rate, confidence), 3000
    uniform = random.random((draws, rows), dtype=np.float32)  # of uniform scores a threshold's true rate is 1 - threshold
    rank = method.calibration_rank(rows)
    assert rank is not None
    rates = 1 - np.sort(uniform, axis=1)[:, rank - 1]
    assert method.calibrate(CalibrationScores(uniform[0])).value == pytest.approx(1 - rates[0])
    kept = int((rates <= rate).sum())
    assert stats.binomtest(kept, draws, confidence, alternative="less").pvalue > 0.05


def test_a_split_conformal_threshold_alone_breaks_that_promise_in_half_of_its_draws() -> None:
    random, method = np.random.default_rng(12), SplitConformalThreshold(0.01)
    rates = [1 - method.calibrate(CalibrationScores(random.random(299, dtype=np.float32))).value for _ in range(500)]
    assert 0.3 < np.mean(np.array(rates) > 0.01) < 0.6


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("rows", [50, 299, 900])
def test_the_confident_rank_is_the_smallest_that_the_beta_law_allows(rows: int, rate: float, confidence: float) -> None:
    ranks = np.arange(1, rows + 1)
    allowed = ranks[stats.beta.cdf(rate, rows + 1 - ranks, ranks) >= confidence]
    assert confident_rank(rows, rate, confidence) == min(allowed, default=rows + 1)


def test_per_group_each_group_keeps_the_rate_where_one_threshold_for_all_does_not() -> None:
    random, rate, draws = np.random.default_rng(13), 0.05, 400
    shares: dict[str, list[float]] = {"own": [], "pooled": []}
    groups = np.repeat([0, 1], [100, 100])
    for _ in range(draws):
        scores = np.concatenate([random.normal(0, 1, 100), random.normal(3, 1, 100)]).astype(np.float32)
        per_group = PerGroupThreshold(rate).calibrate(labelled_scores(scores, scores, groups))
        shares["own"].append(stats.norm.sf(per_group.details["group_values"][1] - 3))
        pooled = SplitConformalThreshold(rate).calibrate(CalibrationScores(scores))
        shares["pooled"].append(stats.norm.sf(pooled.value - 3))
    assert np.mean(shares["own"]) == pytest.approx(5 / 101, abs=0.005)
    assert np.mean(shares["pooled"]) > 0.08


def test_the_alarm_budget_is_a_rate_in_exact_arithmetic() -> None:
    scores = CalibrationScores(np.arange(999, dtype=np.float32))
    budget = AlarmBudgetThreshold(alarms_per_day=3, samples_per_day=300)
    assert budget.calibrate(scores).to_dict() == SplitConformalThreshold(0.01).calibrate(scores).to_dict()
    assert budget.requested_rate == 0.01
    assert "at most 3 false alarms a day at 300 samples a day" in budget.describe_promise()


def test_the_quantile_is_numpys_and_its_interval_holds_the_true_one_as_often_as_it_says() -> None:
    random, method, draws, covered = np.random.default_rng(14), QuantileThreshold(0.02, 0.9), 1500, 0
    for _ in range(draws):
        scores = random.random(400, dtype=np.float32)
        threshold = method.calibrate(CalibrationScores(scores))
        assert threshold.value == pytest.approx(np.quantile(scores.astype(np.float64), 0.98), rel=1e-6)
        covered += threshold.details["low"] <= 0.98 <= threshold.details["high"]
    low, high = quantile_interval_ranks(400, 0.98, 0.9)
    exact = stats.binom.cdf(high - 1, 400, 0.98) - stats.binom.cdf(low - 1, 400, 0.98)
    assert exact >= 0.9
    assert covered / draws == pytest.approx(exact, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("level", [0.95, 0.999])
@pytest.mark.parametrize("method", [ConfidentThreshold(0.05, 0.9), QuantileThreshold(0.05, 0.9)], ids=by_name)
def test_the_interval_of_a_kind_holds_the_requested_rate_as_often_as_its_level(method: ThresholdMethod, level: float) -> None:
    random, rows, normals, draws, kept = np.random.default_rng(15), 300, 800, 600, 0
    cache: dict[int, tuple[float, float] | None] = {}
    for _ in range(draws):
        threshold = method.calibrate(CalibrationScores(random.random(rows, dtype=np.float32)))
        alarms = int(random.binomial(normals, 1 - threshold.value))
        stored = StoredThreshold(method, threshold.value, rows, threshold.details)
        if alarms not in cache:
            cache[alarms] = stored.plausible_rates(alarms, normals, level)
        interval = cache[alarms]
        assert interval is not None
        kept += interval[0] <= 0.05 <= interval[1]
    assert stats.binomtest(kept, draws, level, alternative="less").pvalue > 0.01


@pytest.mark.parametrize("rows", [(99, 120, 200), (300, 100)])
def test_the_interval_of_all_groups_together_holds_the_requested_rate_as_often_as_its_level(rows: tuple[int, ...]) -> None:
    random, rate, normals, draws, kept = np.random.default_rng(16), 0.05, 900, 400, 0
    cache: dict[int, tuple[float, float]] = {}
    for _ in range(draws):
        alarms = 0
        for group_rows, group_normals in zip(rows, random.multinomial(normals, np.array(rows) / sum(rows)), strict=True):
            exceeding = int((group_rows + 1) * rate + 1e-9)
            alarms += random.binomial(group_normals, random.beta(exceeding, group_rows + 1 - exceeding))
        if alarms not in cache:
            cache[alarms] = plausible_pooled_rates(alarms, normals, rows, 0.95)
        low, high = cache[alarms]
        kept += low <= rate <= high
    assert 0.93 <= kept / draws <= 0.995


# ---------------------------------------------------------------- kinds without a promise


@pytest.mark.parametrize("shape", [-0.3, 0.0, 0.25])
def test_a_generalised_pareto_tail_is_found_again(shape: float) -> None:
    scores = np.sort(stats.genpareto(shape, scale=2).rvs(20000, random_state=17)).astype(np.float32)
    law = fit_pareto_tail(scores, 4000)
    assert law.shape == pytest.approx(shape, abs=0.07)
    found = law.score_exceeded_by(0.001)
    assert found == pytest.approx(stats.genpareto(shape, scale=2).isf(0.001), rel=0.08)


def test_below_one_in_the_number_of_samples_the_extrapolated_rate_is_of_the_right_size() -> None:
    random, rates = np.random.default_rng(18), []
    for _ in range(100):
        threshold = PeaksOverThreshold(0.0005, 0.1).calibrate(CalibrationScores(random.normal(size=600).astype(np.float32)))
        rates.append(stats.norm.sf(threshold.value))
    assert 0.00025 < np.median(rates) < 0.001
    assert np.max(rates) > 0.002  # and no promise: single draws are far off


def test_a_tail_that_was_fitted_to_end_below_its_highest_score_ends_there() -> None:
    scores = np.sort(np.concatenate([np.zeros(100), np.full(19, 5.0), [5.5]])).astype(np.float32)
    law = fit_pareto_tail(scores, 20)
    assert law.start - law.scale / law.shape == pytest.approx(5.5)
    assert law.score_exceeded_by(1e-6) <= 5.5


def test_mad_is_the_formula() -> None:
    scores = np.random.default_rng(19).normal(5, 2, 501).astype(np.float32)
    expected = np.median(scores) + 3 * stats.median_abs_deviation(scores, scale=1 / 1.4826)
    assert MadThreshold(3).calibrate(CalibrationScores(scores)).value == pytest.approx(expected, rel=1e-5)


def test_the_labelled_kinds_find_what_brute_force_finds() -> None:
    random = np.random.default_rng(20)
    normal, novelty = random.normal(0, 1, 80).round(1).astype(np.float32), random.normal(1.5, 1, 30).round(1).astype(np.float32)
    scores = labelled_scores(normal, novelty)
    cuts = np.unique(np.concatenate([normal, novelty, [-99.0]]))
    alarm, catch = np.array([(normal > c).mean() for c in cuts]), np.array([(novelty > c).mean() for c in cuts])
    f1 = 2 * catch * 30 / (catch * 30 + alarm * 80 + 30)
    found = BestF1Threshold().calibrate(scores)
    assert found.details["f1"] == pytest.approx(f1.max())
    assert found.details["alarm_share"] == pytest.approx((normal > found.value).mean())
    cost = 2 * 0.9 * alarm + 5 * 0.1 * (1 - catch)
    cheapest = CostThreshold(false_alarm=2, miss=5, anomaly_share=0.1).calibrate(scores)
    assert cheapest.details["cost_per_sample"] == pytest.approx(cost.min())
    assert cheapest.details["catch_share"] == pytest.approx((novelty > cheapest.value).mean())


def test_of_equal_costs_the_threshold_that_flags_the_fewest_is_chosen() -> None:
    scores = labelled_scores(np.linspace(0, 1, 20, dtype=np.float32), np.linspace(2, 3, 10, dtype=np.float32))
    free_misses = CostThreshold(false_alarm=1, miss=0, anomaly_share=0.1).calibrate(scores)
    assert free_misses.value == 3.0
    assert BestF1Threshold().calibrate(scores).value == pytest.approx(1.5)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("method", EVERY_KIND, ids=by_name)
def test_scores_that_are_not_finite_are_refused(method: ThresholdMethod, bad: float) -> None:
    scores = np.random.default_rng(21).normal(size=200).astype(np.float32)
    scores[7] = bad
    with pytest.raises(SampleError, match="got 1 of 200 that are NaN or infinite"):
        method.calibrate(labelled_scores(scores, scores[:50]))


@pytest.mark.parametrize("method", POOLED[:4], ids=by_name)
def test_a_constant_score_flags_nothing_by_ranks(method: ThresholdMethod) -> None:
    assert method.calibrate(CalibrationScores(np.full(200, 2.5, np.float32))).value == 2.5  # and only more than that is flagged


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (MadThreshold(3.5), "half or more of the 200 calibration scores are 2.5"),
        (PeaksOverThreshold(0.001, 0.1), "the 20 highest scores are all equal, of 200 calibration scores"),
    ],
)
def test_a_constant_score_leaves_nothing_to_measure_a_distance_by(method: ThresholdMethod, message: str) -> None:
    with pytest.raises(SampleError, match=message):
        method.calibrate(CalibrationScores(np.full(200, 2.5, np.float32)))


@pytest.mark.parametrize("method", POOLED, ids=by_name)
def test_one_calibration_sample_is_too_few_and_the_number_that_is_named_suffices(method: ThresholdMethod) -> None:
    with pytest.raises(SpecError, match=r"needs (\d+) calibration samples or more, got 1") as error:
        method.calibrate(CalibrationScores(np.ones(1, np.float32)))
    needed = int(str(error.value).split("needs ")[1].split()[0])
    method.require_rows(CalibrationRows(needed))
    with pytest.raises(SpecError, match=f"needs {needed} .*got {needed - 1}"):
        method.require_rows(CalibrationRows(needed - 1))


def test_the_largest_rate_is_kept_by_a_single_calibration_sample() -> None:
    assert SplitConformalThreshold(0.5).calibrate(CalibrationScores(np.ones(1, np.float32))).value == 1.0


@pytest.mark.parametrize("method", LABELLED, ids=by_name)
def test_labels_of_one_class_are_refused_before_the_training(method: ThresholdMethod) -> None:
    with pytest.raises(SpecError, match="needs 5 labelled anomalies or more beside the validation samples, got 0"):
        method.require_rows(CalibrationRows(500, validation=100))
    with pytest.raises(SpecError, match="needs 5 normal validation samples or more, got 2"):
        method.require_rows(CalibrationRows(500, validation=2, novelty=50))
    with pytest.raises(SpecError, match="labelled anomalies"):
        method.calibrate(CalibrationScores(np.ones(50, np.float32), np.ones(50, np.float32)))


def test_groups_without_samples_are_named_with_how_many_each_needs() -> None:
    rows = CalibrationRows(500, groups=GroupedRows(("good", "scratch", "dent"), (480, 20, 0)))
    with pytest.raises(SpecError, match="needs 99 calibration samples or more of each group, got 20 of scratch, 0 of dent"):
        PerGroupThreshold(0.01).require_rows(rows)
    with pytest.raises(SpecError, match="needs the label of each training sample"):
        PerGroupThreshold(0.01).require_rows(CalibrationRows(500))
    with pytest.raises(SpecError, match="got none with a label"):
        PerGroupThreshold(0.01).require_rows(CalibrationRows(500, groups=GroupedRows((), ())))


def test_calibration_from_another_distribution_is_what_the_interval_rejects() -> None:
    random, method = np.random.default_rng(22), SplitConformalThreshold(0.05)
    threshold = method.calibrate(CalibrationScores(random.normal(size=400).astype(np.float32)))
    alarms = int((random.normal(1.0, 1, 500) > threshold.value).sum())  # of normals that are not as the calibration samples
    interval = StoredThreshold(method, threshold.value, 400, threshold.details).plausible_rates(alarms, 500, 0.999)
    assert interval is not None
    assert interval[0] > 0.05


@pytest.mark.parametrize("method", EVERY_KIND, ids=by_name)
def test_the_same_scores_in_another_order_give_the_same_bits(method: ThresholdMethod) -> None:
    random = np.random.default_rng(23)
    normal, novelty = random.normal(size=300).round(2).astype(np.float32), random.normal(2, 1, 40).astype(np.float32)
    first = method.calibrate(labelled_scores(normal, novelty))
    again = method.calibrate(labelled_scores(normal[random.permutation(300)], novelty[::-1]))
    assert first.to_dict() == again.to_dict()
    assert first.calibration_scores.tobytes() == again.calibration_scores.tobytes()
    assert json.loads(json.dumps(first.to_dict())) == first.to_dict()


@pytest.mark.parametrize("method", EVERY_KIND, ids=by_name)
def test_each_kind_says_in_words_how_it_was_chosen_and_what_it_promises(method: ThresholdMethod) -> None:
    found = calibrate_any(method)
    stored = StoredThreshold(method, found.value, 400, found.details)
    choice, promise = stored.describe_choice(), method.describe_promise()
    assert choice.endswith(".")
    assert not promise.endswith(".")
    assert promise.startswith("none") == (stored.plausible_rates(5, 100) is None)


# ---------------------------------------------------------------- in a bundle


@dataclass(frozen=True)
class LabelledDigits:
    """Samples of a fit, the labels of the training samples, and anomalies."""

    roles: SampleRoles
    extras: ThresholdSamples


@pytest.fixture(scope="module")
def labelled(digits: np.ndarray) -> LabelledDigits:
    roles = SampleRoles(*map(ArraySampleSet, (digits[:320], digits[320:384], digits[384:])))
    bright = digits.reshape(len(digits), -1).mean(1) > np.median(digits.reshape(len(digits), -1).mean(1))
    labels = bright[:320].astype(np.int64)
    labels[:10] = NO_LABEL
    return LabelledDigits(roles, ThresholdSamples(labels, {0: "thin", 1: "bold"}, ArraySampleSet(255 - digits[:30])))


def changed_spec(spec: FitSpec, kind: str) -> FitSpec:
    return FitSpec.from_dict(spec.to_dict() | {"threshold": {"kind": kind} | SECTIONS[kind]}, "spec")


@pytest.fixture(scope="module")
def calibrated(
    spec: FitSpec, fitted: Any, labelled: LabelledDigits, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("kinds")

    def bundle_of(kind: str) -> Path:
        bundle = folder / kind
        if not bundle.is_dir():
            calibrate_digits(changed_spec(spec, kind), fitted, labelled, bundle)
        return bundle

    return bundle_of


def calibrate_digits(spec: FitSpec, fitted: Any, labelled: LabelledDigits, bundle: Path) -> None:
    calibrate(spec, fitted.history, labelled.roles, content_sha256=CONTENT, bundle=bundle, extras=labelled.extras)


@pytest.mark.parametrize("kind", SECTIONS)
def test_a_bundle_of_each_kind_answers_by_onnx_as_its_threshold_says(
    calibrated: Callable[[str], Path], digits: np.ndarray, kind: str
) -> None:
    bundle = calibrated(kind)
    session = onnxruntime.InferenceSession(str(bundle / "model.onnx"), providers=["CPUExecutionProvider"])
    inputs = np.concatenate([digits[:60], 255 - digits[:60]]).astype(np.float32)
    names = ["score", "p_value", "is_anomaly"]
    score, p_value, is_anomaly = session.run(names, {"input": inputs})
    loaded = load_bundle(bundle)
    with torch.inference_mode():
        torch_outputs = loaded.scorer(torch.from_numpy(inputs))
    assert (torch_outputs[2].numpy() == is_anomaly).all()
    np.testing.assert_allclose(torch_outputs[1].numpy(), p_value, rtol=1e-6)
    stored = read_threshold(loaded.document["threshold"])
    assert is_anomaly[score > stored.value].all()  # above the value each sample is flagged, whatever its group
    if kind != "per-group":
        assert (is_anomaly == (score > np.float32(stored.value))).all()
    assert is_anomaly[60:].mean() > 0.5 > is_anomaly[:60].mean()


@pytest.mark.parametrize("kind", SECTIONS)
def test_calibrating_again_gives_identical_bits(
    spec: FitSpec, fitted: Any, labelled: LabelledDigits, calibrated: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    calibrate_digits(changed_spec(spec, kind), fitted, labelled, tmp_path / "again")
    assert (tmp_path / "again" / "SHA256SUMS").read_bytes() == (calibrated(kind) / "SHA256SUMS").read_bytes()
    loaded = load_bundle(tmp_path / "again").scorer.threshold
    assert tensors_sha256(dict(loaded.stored_arrays)) == tensors_sha256(
        dict(load_bundle(calibrated(kind)).scorer.threshold.stored_arrays)
    )


def test_per_group_flags_and_p_values_are_those_of_the_nearest_mean_sample(
    calibrated: Callable[[str], Path], labelled: LabelledDigits, digits: np.ndarray
) -> None:
    loaded = load_bundle(calibrated("per-group"))
    section, train = loaded.document["threshold"], digits[:320].reshape(320, -1) / 255
    assert section["groups"] == ["thin", "bold"]
    labels = labelled.extras.train_labels
    assert labels is not None
    centres = np.stack([train[labels == label].mean(0) for label in (0, 1)])

    def nearest(samples: np.ndarray) -> np.ndarray:
        vectors = samples.reshape(len(samples), -1) / 255
        places: np.ndarray = np.square(vectors[:, None] - centres).sum(2).argmin(1)
        return places

    with torch.inference_mode():
        calibration_scores = loaded.scorer(torch.from_numpy(digits[384:].astype(np.float32)))[0].numpy()
        score, p_value, is_anomaly = (
            output.numpy() for output in loaded.scorer(torch.from_numpy(digits[:64].astype(np.float32)))[:3]
        )
    calibration_groups, groups = nearest(digits[384:]), nearest(digits[:64])
    assert section["group_rows"] == np.bincount(calibration_groups).tolist()
    for row in range(64):
        own = np.sort(calibration_scores[calibration_groups == groups[row]])
        expected = (1 + (own >= score[row]).sum()) / (len(own) + 1)
        assert p_value[row] == pytest.approx(expected, abs=1.5 / (len(own) + 1))
        threshold = SplitConformalThreshold(0.2).calibrate(CalibrationScores(own)).value
        assert is_anomaly[row] == (score[row] > threshold) or score[row] == pytest.approx(threshold, abs=1e-5)


def test_what_a_kind_lacks_is_said_before_the_training(spec: FitSpec, labelled: LabelledDigits) -> None:
    with pytest.raises(SpecError, match="needs the label of each training sample"):
        require_sample_counts(changed_spec(spec, "per-group"), labelled.roles, ThresholdSamples())
    with pytest.raises(SpecError, match="needs 5 labelled anomalies"):
        require_sample_counts(changed_spec(spec, "best-f1"), labelled.roles, ThresholdSamples())
    strict = replace(spec, threshold=replace(changed_spec(spec, "per-group").threshold, false_alarm_rate=0.001))
    with pytest.raises(SpecError, match=r"needs 999 calibration samples or more of each group, got \d+ of thin, \d+ of bold"):
        require_sample_counts(strict, labelled.roles, labelled.extras)
    with pytest.raises(SampleError, match="expected a label for each of 320 training samples, got 3 labels"):
        fit_groups(ThresholdSamples(np.zeros(3, np.int64)), labelled.roles.train, spec.input)


def test_a_bare_machine_calibrates_by_labels_and_anomalies_of_files(
    spec: FitSpec,
    fitted: Any,
    labelled: LabelledDigits,
    calibrated: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    roles, novelty = labelled.roles, labelled.extras.novelty
    assert novelty is not None
    arrays = {name: next(getattr(roles, name).blocks()) for name in ("train", "validation", "calibration")}
    for name, array in (arrays | {"labels": labelled.extras.train_labels, "novelty": next(novelty.blocks())}).items():
        np.save(tmp_path / f"{name}.npy", array)
    (tmp_path / "spec.json").write_text(json.dumps(changed_spec(spec, "best-f1").to_dict()), encoding="utf-8")
    command = ["ae_models", "calibrate", "--spec", str(tmp_path / "spec.json"), "--out", str(tmp_path / "bundle")]
    for name in arrays:
        command += [f"--{name}", str(tmp_path / f"{name}.npy")]
    command += ["--history", str(fitted.history), "--content-sha256", CONTENT, "--novelty", str(tmp_path / "novelty.npy")]
    monkeypatch.setattr(sys, "argv", [*command, "--train-labels", str(tmp_path / "labels.npy")])
    command_line.main()
    assert (tmp_path / "bundle" / "SHA256SUMS").read_bytes() == (calibrated("best-f1") / "SHA256SUMS").read_bytes()
    monkeypatch.setattr(sys, "argv", [*command, "--train-labels", str(tmp_path / "novelty.npy")])
    with pytest.raises(SystemExit):
        command_line.main()


def test_a_threshold_of_texts_cannot_be_per_group() -> None:
    kinds: dict[str, Any] = PART_SPECS["threshold"]
    assert [kind for kind, part in kinds.items() if TEXT not in part.supported_inputs] == [
        "per-group",
        "block-conformal",
    ]


def test_kinds_have_a_law_where_their_spec_says_so() -> None:
    stored = {method: calibrate_any(method) for method in EVERY_KIND}
    specs: dict[str, Any] = {}
    for kind, part in PART_SPECS["threshold"].items():
        specs[THRESHOLDS[kind].__name__] = part
    for method, threshold in stored.items():
        part = specs[type(method).__name__]
        record = StoredThreshold(method, threshold.value, 400, threshold.details)
        assert part.has_law == (record.plausible_rates(5, 100) is not None)
        assert part.has_rate == (method.requested_rate is not None)
        assert part.has_law == method.is_promised == (record.promised_rate is not None)


def calibrate_any(method: ThresholdMethod) -> CalibratedThreshold:
    random = np.random.default_rng(25)
    normal, novelty = random.normal(size=400), random.normal(2, 1, 40)
    return method.calibrate(labelled_scores(normal.astype(np.float32), novelty.astype(np.float32)))
