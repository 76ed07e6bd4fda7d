"""Channels with ranges of their own: scaled inside the graph, bounded by their headroom; and a threshold of blocks."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ae_models.errors import SampleError, SpecError
from ae_models.faults import inject, standard_faults
from ae_models.fit import fit
from ae_models.input_bounds import InputBounds
from ae_models.sample_sets import ArraySampleSet, require_samples
from ae_models.spec import ChannelSpec, FitSpec, InputSpec, SpecReader, StepsSpec, spec_to_dict
from ae_models.threshold_interface import CalibrationRows, CalibrationScores
from ae_models.thresholds import threshold_method
from aeops.bundle.detector import Detector
from aeops.kinds.flags import list_flag_names

INPUT = InputSpec(
    kind="series",
    channels=(ChannelSpec("degrees", headroom=0.5, low=0.0, high=10.0), ChannelSpec("pascal", low=100_000.0, high=102_000.0)),
    steps=StepsSpec(every=60, length=16),
)
SECTIONS = {
    "model": {
        "corrupt": {"kind": "none"},
        "encode": {"kind": "dense", "widths": [8]},
        "bottleneck": {"kind": "identity", "size": 3},
        "decode": {"kind": "dense", "widths": [8]},
        "compare": {"kind": "mse"},
    },
    "score": {"kind": "combined", "scores": [{"kind": "knn", "neighbours": 3}, {"kind": "normalised-residual", "energy": 0}]},
    "threshold": {"kind": "block-conformal", "false_alarm_rate": 0.2, "block": 4},
    "train": {"epochs": 60, "batch": 32, "learning_rate": 0.01, "threads": 1, "accelerator": "cpu"},
}


def windows(count: int) -> np.ndarray:
    """(count, 2, 16): both channels inside their ranges, in their own units."""
    generator = np.random.default_rng(3)
    phase = generator.uniform(0, 6, (count, 1, 1)) + np.linspace(0, 3, 16)
    unit = 0.5 + 0.3 * np.sin(phase + np.array([[0.0], [1.0]])) + generator.normal(0, 0.02, (count, 2, 16))
    return (unit * np.array([[10.0], [2000.0]]) + np.array([[0.0], [100_000.0]])).astype(np.float32)


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    folder: Path = tmp_path_factory.mktemp("channels")
    spec = FitSpec.from_dict({"input": spec_to_dict(INPUT), **SECTIONS}, "channels")
    samples = windows(200)
    fit(
        spec,
        samples[:120],
        samples[120:140],
        samples[140:],
        recipe="channels",
        checkpoints=folder / "checkpoints",
        content_sha256="0" * 64,
        history=folder / "history",
        bundle=folder / "bundle",
    )
    return Detector(folder / "bundle")


def test_a_spec_with_channels_comes_back_from_json() -> None:
    reader = SpecReader("test")
    assert reader.read(InputSpec, spec_to_dict(INPUT), "input") == INPUT
    assert not reader.mistakes
    assert INPUT.shape == (2, 16)


def test_every_channel_weighs_the_same_whatever_its_unit(detector: Detector) -> None:
    assert detector.bundle["export"]["max_difference"] < 1e-3
    samples = windows(20)
    errors = []
    for channel, size in ((0, 2.0), (1, 400.0)):
        moved = samples.copy()
        moved[:, channel, 8:] += size  # a fifth of the range of either
        errors.append(np.median(detector.score(moved)["score"]))
    assert abs(errors[0] - errors[1]) < 1.5
    made = detector.score(samples, reconstruction=True)["reconstruction"]
    assert np.abs(made - samples).mean(axis=(0, 2)) @ np.array([0.1, 0.0005]) < 0.5


def test_values_within_the_headroom_are_scored_and_values_beyond_are_anomalies(detector: Detector) -> None:
    samples = windows(3)
    samples[1, 0, 3] = 14.9  # half a length beyond 10 is allowed
    samples[2, 0, 3] = 15.2
    scores = detector.score(samples)
    assert list_flag_names(scores["flags"]) == [(), (), ("out_of_range",)]
    assert scores["is_anomaly"][2]
    further = samples.copy()
    further[2, 0, 3] = np.inf
    assert detector.score(further)["score"][2] > scores["score"][2]


def test_a_missing_value_is_filled_by_its_own_channel() -> None:
    low, high = np.array([[0.0], [100.0]]), np.array([[1.0], [200.0]])
    raw = torch.tensor([[[0.2, 0.4, torch.nan], [110.0, torch.nan, 130.0]]])
    inputs, excess = InputBounds(low, high, "impute")(raw)
    assert inputs[0, 0, 2].item() == pytest.approx(0.3)
    assert inputs[0, 1, 1].item() == pytest.approx(120.0)
    assert excess.item() == 0


def test_an_explanation_names_the_channel(detector: Detector) -> None:
    samples = windows(1)
    samples[0, 1, 4:12] = 100_100
    checked = detector.check(samples)
    [explanation] = detector.explain(checked.model_input, detector.score_checked(checked, explanation=True))
    assert explanation["channels"][0]["name"] == "pascal"
    assert explanation["outside"] == 0


def test_faults_are_injected_in_lengths_of_each_channels_range() -> None:
    [shift] = [fault for fault in standard_faults("series") if fault.name == "level-shift"]
    samples = windows(30)
    damaged = inject(shift, 0.2, samples, rng_seed=0, input_spec=INPUT)
    sizes = np.abs(damaged - samples).max(axis=2)
    assert np.allclose(sizes[sizes[:, 0] > 0, 0], 2.0, atol=1e-3)
    assert np.allclose(sizes[sizes[:, 1] > 0, 1], 400.0, atol=0.1)


def test_windows_that_are_not_finite_are_refused_before_a_training() -> None:
    samples = windows(4)
    samples[2, 1, 5] = np.nan
    with pytest.raises(SampleError, match="the train samples have values that are NaN or infinite"):
        require_samples("train", ArraySampleSet(samples), INPUT)
    samples[2, 1, 5] = 500_000  # what comes after the training may go beyond its range
    require_samples("calibration", ArraySampleSet(samples), INPUT)


# ---------------------------------------------------------------- blocks


@pytest.mark.slow
def test_a_threshold_of_blocks_keeps_its_rate_where_one_of_windows_does_not_scatter_as_its_law_says() -> None:
    """400 draws of a slow series: windows depend on each other, blocks hardly."""
    generator, length = np.random.default_rng(0), 20 * 40
    blocks, rates, windows_inside = threshold_method({"kind": "block-conformal", "false_alarm_rate": 0.1, "block": 20}), [], 0
    single = threshold_method({"kind": "split-conformal", "false_alarm_rate": 0.1})
    for _ in range(400):
        noise = generator.normal(size=2 * length)
        series = np.zeros(2 * length)
        for step in range(1, 2 * length):
            series[step] = 0.8 * series[step - 1] + noise[step]
        calibration, fresh = (part.astype(np.float32) for part in (series[:length], series[length:]))
        value = blocks.calibrate(CalibrationScores(calibration)).value
        rates.append((fresh.reshape(-1, 20).max(axis=1) > value).mean())
        stored = single.calibrate(CalibrationScores(calibration))
        low, high = single.plausible_rates(int((fresh > stored.value).sum()), length, stored_of(single, stored), 0.95) or (0, 0)
        windows_inside += low <= 0.1 <= high
    assert abs(np.mean(rates) - 0.1) < 0.015
    assert windows_inside / 400 < 0.8, "the law of windows is broken here: it says 95 %"


def stored_of(method: object, calibrated: object) -> object:
    from ae_models.threshold_interface import StoredThreshold

    return StoredThreshold(method, calibrated.value, len(calibrated.calibration_scores), {})  # type: ignore[arg-type, attr-defined]


def test_too_few_blocks_are_refused_with_the_number_needed() -> None:
    method = threshold_method({"kind": "block-conformal", "false_alarm_rate": 0.05, "block": 16})
    with pytest.raises(SpecError, match=r"needs 304 calibration samples or more, got 303"):
        method.require_rows(CalibrationRows(303))
    method.require_rows(CalibrationRows(304))
