"""Calibration: another score or threshold makes another bundle of the same weights, and trains nothing."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ae_models.calibration import calibrate
from ae_models.checksums import file_sha256, tensors_sha256, write_checksums
from ae_models.combined_score import SCORES
from ae_models.errors import BundleError, SpecError, TrainingError
from ae_models.model_output import ModelOutput
from ae_models.sample_sets import ArraySampleSet, SampleRoles
from ae_models.score_interface import Score
from ae_models.spec import FitSpec, NormalisedResidualScoreSpec, SplitConformalThresholdSpec
from ae_models.training_result import load_training, weight_arrays

CONTENT = "0" * 64  # as tests/science/conftest.py names its samples
CHANGES = {
    "threshold": {"threshold": SplitConformalThresholdSpec(0.2)},
    "score": {"score": NormalisedResidualScoreSpec(energy=0.0, blur=2.0)},
}


class EndingScore(Score):
    """Ends the process that calibrates, as a kill would, in the middle of its work."""

    def __init__(self, energy: float, blur: float) -> None:
        super().__init__()

    def forward(self, output: ModelOutput) -> torch.Tensor:
        raise InterruptedError


@pytest.fixture(scope="module")
def roles(digits: np.ndarray) -> SampleRoles:
    return SampleRoles(*map(ArraySampleSet, (digits[:320], digits[320:384], digits[384:])))


@pytest.fixture
def training(fitted: Any, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fitted.history, tmp_path / "training"))


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_section_makes_the_bundle_that_a_whole_fit_would(
    spec: FitSpec, fitted: Any, fit_into: Callable[..., Any], roles: SampleRoles, tmp_path: Path, change: str
) -> None:
    changed = dataclasses.replace(spec, **CHANGES[change])
    calibrate(changed, fitted.history, roles, content_sha256=CONTENT, bundle=tmp_path / "bundle")
    before, after = (json.loads((folder / "bundle.json").read_text()) for folder in (fitted.bundle, tmp_path / "bundle"))
    different = {key for key in before if before[key] != after[key]}
    assert {change} <= different <= {"score", "threshold", "export"}
    for name in ("weights.safetensors", "decoder.onnx"):
        assert file_sha256(tmp_path / "bundle" / name) == file_sha256(fitted.bundle / name)
    whole = fit_into(changed, tmp_path / "whole")
    assert (tmp_path / "bundle" / "SHA256SUMS").read_text() == (whole.bundle / "SHA256SUMS").read_text()
    assert (whole.history / "SHA256SUMS").read_text() == (fitted.history / "SHA256SUMS").read_text()


def test_the_result_of_a_training_says_nothing_of_score_and_threshold(fitted: Any, spec: FitSpec) -> None:
    document = json.loads((fitted.history / "training.json").read_text())
    assert list(document) == ["format", "recipe", "input", "model", "train", "steps", "data", "torch"]
    assert {file.stat().st_mode & 0o777 for file in fitted.history.iterdir()} == {0o644}
    result = load_training(fitted.history)
    assert result.facts.spec == spec.weights
    last_hash = (fitted.history / "trail.csv").read_text().splitlines()[-1].split(",")[1]
    assert tensors_sha256(weight_arrays(result.autoencoder)) == last_hash


@pytest.mark.slow
def test_a_fit_that_ends_while_it_calibrates_goes_on_without_training_also_with_another_threshold(
    spec: FitSpec,
    fitted: Any,
    fit_into: Callable[..., Any],
    roles: SampleRoles,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(SCORES, spec.score.kind, EndingScore)
        with pytest.raises(InterruptedError):
            fit_into(spec, tmp_path)
    assert not (tmp_path / "bundle").exists()
    progress = (tmp_path / "checkpoints" / "progress.jsonl").read_bytes()  # it holds times: another training, other bytes
    changed = dataclasses.replace(spec, **CHANGES["threshold"])
    fit_into(changed, tmp_path)
    assert (tmp_path / "checkpoints" / "progress.jsonl").read_bytes() == progress
    calibrate(changed, fitted.history, roles, content_sha256=CONTENT, bundle=tmp_path / "expected")
    assert (tmp_path / "bundle" / "SHA256SUMS").read_text() == (tmp_path / "expected" / "SHA256SUMS").read_text()
    assert [file.name for file in (tmp_path / "checkpoints").iterdir()] == ["progress.jsonl"]


def test_weights_of_another_spec_or_dataset_are_refused_and_nothing_is_written(
    spec: FitSpec, fitted: Any, roles: SampleRoles, tmp_path: Path
) -> None:
    other = dataclasses.replace(
        spec,
        model=dataclasses.replace(spec.model, bottleneck=dataclasses.replace(spec.model.bottleneck, size=8)),
        train=dataclasses.replace(spec.train, seed=4),
    )
    message = r"settings of the spec, got others in model and train; expected the dataset aaaaaaaaaaaa, got 000000000000"
    with pytest.raises(BundleError, match=message):
        calibrate(other, fitted.history, roles, content_sha256="a" * 64, bundle=tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("name", ["training.json", "weights.safetensors", "history.csv", "trail.csv", "SHA256SUMS"])
def test_a_training_that_lacks_a_file_or_a_byte_is_refused(
    spec: FitSpec, training: Path, roles: SampleRoles, tmp_path: Path, name: str
) -> None:
    whole = (training / name).read_bytes()
    for content in (None, whole[:-2]):
        if content is None:
            (training / name).unlink()
        else:
            (training / name).write_bytes(content)
        with pytest.raises(BundleError, match=r"the training .* is refused: .*SHA256SUMS|the training .* is refused: " + name):
            calibrate(spec, training, roles, content_sha256=CONTENT, bundle=tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_training_of_a_later_format_is_refused_by_name(training: Path) -> None:
    document = json.loads((training / "training.json").read_text())
    (training / "training.json").write_text(json.dumps(document | {"format": 99}))
    write_checksums(training)
    with pytest.raises(BundleError, match="expected format 1, got 99"):
        load_training(training)


def test_samples_that_do_not_fit_are_refused_as_a_training_refuses_them(
    spec: FitSpec, fitted: Any, roles: SampleRoles, digits: np.ndarray, tmp_path: Path
) -> None:
    few = dataclasses.replace(roles, calibration=ArraySampleSet(digits[:18]))
    with pytest.raises(SpecError, match="needs 19 calibration samples or more, got 18"):
        calibrate(spec, fitted.history, few, content_sha256=CONTENT, bundle=tmp_path / "bundle")
    outside = dataclasses.replace(roles, calibration=ArraySampleSet(digits.astype(np.float32) + 1))
    with pytest.raises(TrainingError, match=r"the calibration samples have values from 1\.0 to 256\.0"):
        calibrate(spec, fitted.history, outside, content_sha256=CONTENT, bundle=tmp_path / "bundle")
