"""Trimmed training and calibration: what is left out, the same bits, and settings that cannot be."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ae_models.autoencoder import Autoencoder
from ae_models.bundle import load_bundle
from ae_models.checksums import file_sha256
from ae_models.conformal_thresholds import SplitConformalThreshold
from ae_models.errors import SpecError
from ae_models.losses import LOSSES, ReconstructionLoss
from ae_models.spec import FitSpec, TrainSpec
from ae_models.threshold_interface import CalibrationRows, CalibrationScores
from ae_models.trimming import WARM_UP_SHARE, kept_pair, trimmed_count


def with_trim(spec: FitSpec, trim: float, **changes: Any) -> FitSpec:
    return dataclasses.replace(spec, train=dataclasses.replace(spec.train, trim=trim, **changes))


@pytest.mark.parametrize(("batch", "trim"), [(64, 0.05), (7, 0.1), (2, 0.5), (16, 0.01)])
def test_the_share_of_all_later_samples_is_trimmed_and_none_before(batch: int, trim: float) -> None:
    spec, steps = TrainSpec(batch=batch, trim=trim), 1000
    counts = [trimmed_count(spec, step, steps, batch) for step in range(steps)]
    warm_up = int(WARM_UP_SHARE * steps)
    assert sum(counts[:warm_up]) == 0
    assert sum(counts[warm_up:]) == pytest.approx(trim * batch * (steps - warm_up), abs=1)
    assert max(counts) <= batch - 1


def test_a_rest_of_one_sample_is_never_trimmed_away() -> None:
    assert trimmed_count(TrainSpec(batch=64, trim=0.5), 999, 1000, 1) == 0


def test_what_the_model_reconstructs_worst_is_left_out_in_order(spec: FitSpec, digits: np.ndarray) -> None:
    torch.manual_seed(0)
    member = Autoencoder(spec.model, spec.input)
    x = member.normalise(torch.from_numpy(digits[:10]))
    x[3], x[7] = 1.0, torch.rand(1, 28, 28)  # unlike the untrained model's grey
    kept, target, _ = kept_pair(member, x, x, 2)
    losses = ((member(x)[0] - x) ** 2).flatten(1).mean(1)
    expected = sorted(torch.argsort(losses)[:8].tolist())
    assert torch.equal(kept, x[expected])
    assert torch.equal(kept, target)
    assert kept_pair(member, x, x, 0)[0] is x


@pytest.mark.parametrize("kind", ["mse", "l1", "huber", "bce"])
def test_the_loss_of_a_sample_is_that_of_a_batch_of_it_alone(kind: str) -> None:
    extra = {"huber": {"delta": 0.1}, "bce": {"positive": 2.0}}.get(kind, {})
    loss: ReconstructionLoss = LOSSES[kind](reduce="mean", **extra)
    outputs, target = torch.randn(5, 1, 6, 6), torch.rand(5, 1, 6, 6)
    expected = torch.stack([loss(outputs[row : row + 1], target[row : row + 1]) for row in range(5)])
    torch.testing.assert_close(loss.sample_losses(outputs, target), expected)


def test_the_loss_of_a_text_counts_its_tokens_alone() -> None:
    loss = LOSSES["cross-entropy"](reduce="mean", categories=0)
    outputs, target = torch.randn(3, 9, 5), torch.tensor([[4, 5, 0, 0, 0], [3, 4, 5, 6, 7], [8, 0, 0, 0, 0]])
    expected = torch.stack([loss(outputs[row : row + 1], target[row : row + 1]) for row in range(3)])
    torch.testing.assert_close(loss.sample_losses(outputs, target), expected)


def test_a_recipe_without_trim_keeps_its_bytes(spec: FitSpec) -> None:
    document = spec.to_dict()
    assert "trim" not in document["train"]
    assert "trim" not in document["threshold"]
    trimmed = with_trim(spec, 0.05).to_dict()
    assert trimmed["train"]["trim"] == 0.05
    assert FitSpec.from_dict(json.loads(json.dumps(trimmed)), "spec.json").train.trim == 0.05


@pytest.mark.slow
def test_the_same_trimmed_training_gives_the_same_bits_and_other_ones_than_a_whole_one(
    spec: FitSpec, fitted: Any, fit_into: Callable[..., Any], tmp_path: Path
) -> None:
    one, other = (fit_into(with_trim(spec, 0.1), tmp_path / name) for name in ("one", "other"))
    assert (one.bundle / "SHA256SUMS").read_text() == (other.bundle / "SHA256SUMS").read_text()
    assert file_sha256(one.bundle / "weights.safetensors") != file_sha256(fitted.bundle / "weights.safetensors")


@pytest.mark.slow
def test_noise_among_the_digits_is_learnt_less_where_it_is_trimmed(spec: FitSpec, digits: np.ndarray, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 1, 28, 28)).astype(np.uint8)
    errors = {}
    for trim in (0.0, 0.12):
        replaced = digits.copy()
        replaced[:320:10] = noise
        errors[trim] = _error_of_noise(with_trim(spec, trim, epochs=12), replaced, noise, tmp_path / str(trim))
    assert errors[0.12] > 1.05 * errors[0.0]


def _error_of_noise(spec: FitSpec, samples: np.ndarray, noise: np.ndarray, folder: Path) -> float:
    from ae_models.fit import fit

    fit(
        spec,
        samples[:320],
        samples[320:384],
        samples[384:],
        checkpoints=folder / "checkpoints",
        content_sha256="0" * 64,
        recipe="small",
        bundle=folder / "bundle",
        history=folder / "training",
        progress_bar=False,
    )
    autoencoder = load_bundle(folder / "bundle").scorer.autoencoder
    with torch.inference_mode():
        x = autoencoder.normalise(torch.from_numpy(noise))
        return float(((autoencoder(x)[0] - x) ** 2).mean())


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("train", {"trim": 0.6}, "train.trim"),
        ("train", {"trim": -0.1}, "train.trim"),
        ("train", {"trim": 0.1, "batch": 1}, "batch must be 2 or more"),
        ("threshold", {"trim": 0.7}, "threshold.trim"),
        ("threshold", {"kind": "mad", "trim": 0.1}, "unexpected key 'trim'"),
    ],
)
def test_what_cannot_be_is_a_mistake_of_the_recipe(spec: FitSpec, section: str, changes: dict[str, Any], message: str) -> None:
    document = spec.to_dict()
    if "kind" in changes:
        document[section] = changes
    else:
        document[section] |= changes
    with pytest.raises(SpecError, match=message):
        FitSpec.from_dict(document, "spec.json")


# ---------------------------------------------------------------- the threshold


def test_a_trimmed_threshold_is_that_of_the_scores_without_the_highest() -> None:
    scores = np.random.default_rng(0).normal(size=400).astype(np.float32)
    trimmed = SplitConformalThreshold(0.05, trim=0.1).calibrate(CalibrationScores(scores))
    alone = SplitConformalThreshold(0.05).calibrate(CalibrationScores(np.sort(scores)[:360]))
    assert trimmed.value == alone.value
    np.testing.assert_array_equal(trimmed.calibration_scores, alone.calibration_scores)


def test_a_trim_that_is_as_large_as_the_contamination_keeps_the_rate_and_no_trim_catches_less() -> None:
    random = np.random.default_rng(1)
    rates: dict[float, list[float]] = {0.0: [], 0.05: []}
    for _ in range(60):
        calibration = np.concatenate([random.normal(size=950), random.normal(6, 1, 50)]).astype(np.float32)
        fresh = random.normal(size=4000)
        for trim, found in rates.items():
            value = SplitConformalThreshold(0.05, trim=trim).calibrate(CalibrationScores(calibration)).value
            found.append(float((fresh > value).mean()))
    assert np.mean(rates[0.05]) == pytest.approx(0.05, abs=0.004)
    assert np.mean(rates[0.0]) < 0.01  # the anomalies take the place of the false alarms


def test_a_trim_of_normal_samples_raises_the_rate_by_as_much() -> None:
    random = np.random.default_rng(2)
    found = []
    for _ in range(60):
        scores = random.normal(size=1000).astype(np.float32)
        value = SplitConformalThreshold(0.01, trim=0.05).calibrate(CalibrationScores(scores)).value
        found.append(float((random.normal(size=4000) > value).mean()))
    assert np.mean(found) == pytest.approx(0.01 + 0.05 * 0.99, abs=0.004)


def test_too_few_scores_after_the_trim_are_named_with_both_settings() -> None:
    SplitConformalThreshold(0.05, trim=0.1).require_rows(CalibrationRows(22))
    with pytest.raises(SpecError, match=r"with threshold\.trim 0\.1, which leaves 18 of 20"):
        SplitConformalThreshold(0.05, trim=0.1).require_rows(CalibrationRows(20))
