"""Ensembles: members as their seeds would train them alone, one graph, scores of all of them, and nothing new where M is 1."""

import copy
import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx_export import by_onnxruntime
from safetensors.numpy import load_file
from scipy.ndimage import gaussian_filter
from torch import Tensor

from ae_models import checkpoint, tokens
from ae_models.autoencoder import Autoencoder
from ae_models.bundle import load_bundle
from ae_models.calibration import calibrate
from ae_models.data_loading import epoch_orders
from ae_models.ensemble import Ensemble, build_autoencoder
from ae_models.ensemble_scores import DisagreementScore
from ae_models.errors import DivergenceError, SpecError
from ae_models.fit import fit
from ae_models.model_output import ModelOutput
from ae_models.sample_sets import ArraySampleSet, SampleRoles
from ae_models.score_interface import ENERGY_FLOOR
from ae_models.scores import NormalisedResidualScore
from ae_models.spec import ConvDecoderSpec, ConvEncoderSpec, FitSpec, WeightsSpec
from ae_models.stacked_members import StackedMembers, can_stack
from ae_models.training import train_autoencoder
from ae_models.training_environment import deterministic_threads, quiet_lightning
from ae_models.training_progress import history_columns
from ae_models.training_result import load_training

MODELS: dict[str, dict[str, Any]] = {
    "variational": {},
    "convolutional": {"encode": {"kind": "conv", "widths": [4, 6]}, "decode": {"kind": "conv", "widths": [6, 4]}},
    "adversarial": {
        "corrupt": {"kind": "gaussian", "deviation": 0.3},
        "bottleneck": {"kind": "vq", "size": 8, "slots": 2, "words": 4},
        "critic": {"kind": "ganomaly", "features": 8},
    },
}


def weights_spec(members: int, seed: int, parts: dict[str, Any]) -> WeightsSpec:
    model = {
        "corrupt": {"kind": "none"},
        "encode": {"kind": "dense", "widths": [12]},
        "bottleneck": {"kind": "variational", "size": 8},
        "decode": {"kind": "dense", "widths": [12]},
        "compare": {"kind": "mse"},
    }
    train = {"epochs": 2, "batch": 10, "seed": seed, "members": members, "threads": 1, "accelerator": "cpu"}
    sections = {
        "input": {"kind": "image", "shape": [1, 8, 8]},
        "model": model | parts,
        "train": train | {"augment": {"kind": "affine"}},
    }
    return WeightsSpec.from_dict(sections, "small")


def trained(spec: WeightsSpec, checkpoints: Path) -> Autoencoder:
    samples = np.random.default_rng(0).integers(0, 256, (25, 1, 8, 8), dtype=np.uint8)
    with deterministic_threads(1), quiet_lightning():
        return train_autoencoder(spec, samples, samples[:6], checkpoints, progress_bar=False).autoencoder


@pytest.mark.parametrize("parts", MODELS.values(), ids=MODELS)
def test_each_member_ends_in_the_bits_of_a_single_model_with_its_seed(parts: dict[str, Any], tmp_path: Path) -> None:
    ensemble = trained(weights_spec(3, seed=5, parts=parts), tmp_path / "ensemble")
    lines = [json.loads(line) for line in (tmp_path / "ensemble" / "progress.jsonl").read_text().splitlines()]
    assert isinstance(ensemble, Ensemble)
    for index, member in enumerate(ensemble.members):
        single = trained(weights_spec(1, seed=5 + index, parts=parts), tmp_path / str(index)).state_dict()
        of_member = member.state_dict()
        assert all(torch.equal(of_member[name], values) for name, values in single.items())
        number = f"_{index + 1}" if index else ""
        alone = [json.loads(line) for line in (tmp_path / str(index) / "progress.jsonl").read_text().splitlines()]
        for column in ("train_loss", "validation_error"):
            assert [line[column + number] for line in lines] == [line[column] for line in alone]


STACKABLE: dict[str, Any] = {
    "corrupt": {"kind": "gaussian", "deviation": 0.2},
    "bottleneck": {"kind": "l1", "size": 8, "weight": 0.01},
}


def test_small_dense_members_are_trained_at_once_to_the_weights_of_single_models(tmp_path: Path) -> None:
    ensemble = trained(weights_spec(8, seed=5, parts=STACKABLE), tmp_path / "ensemble")
    assert can_stack(ensemble.members)
    for index in (0, 7):
        single = trained(weights_spec(1, seed=5 + index, parts=STACKABLE), tmp_path / str(index))
        for name, values in single.state_dict().items():
            assert torch.allclose(ensemble.members[index].state_dict()[name], values, atol=1e-5), (index, name)


def test_members_that_are_trained_at_once_end_in_the_same_bits_after_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = weights_spec(8, seed=5, parts=STACKABLE)
    whole = trained(spec, tmp_path / "whole").state_dict()
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "MIN_SECONDS_BETWEEN", 0.0)
        step, calls = StackedMembers.losses, []

        def interrupted(self: StackedMembers, *parts: Any) -> Tensor:
            calls.append(1)
            if len(calls) == 5:  # of 3 steps an epoch
                raise RuntimeError("interrupted")
            return step(self, *parts)

        patch.setattr(StackedMembers, "losses", interrupted)
        with pytest.raises(RuntimeError, match="interrupted"):
            trained(spec, tmp_path / "interrupted")
    resumed = trained(spec, tmp_path / "interrupted").state_dict()
    assert len((tmp_path / "interrupted" / "progress.jsonl").read_text().splitlines()) == 2
    assert all(torch.equal(resumed[name], values) for name, values in whole.items())
    assert (tmp_path / "interrupted" / "trail.csv").read_text() == (tmp_path / "whole" / "trail.csv").read_text()


@pytest.mark.parametrize(
    ("members", "parts", "stacked"),
    [
        (8, {}, False),  # variational: it draws
        (8, STACKABLE, True),
        (7, STACKABLE, False),
        (8, {"bottleneck": {"kind": "top-k", "size": 8, "active": 2}, "compare": {"kind": "bce"}}, True),
        (8, STACKABLE | {"critic": {"kind": "aae", "widths": [4]}}, False),
        (8, STACKABLE | {"encode": {"kind": "dense", "widths": [2000]}}, False),  # 100,000 weights or more
        (8, STACKABLE | MODELS["convolutional"], False),
    ],
)
def test_members_are_trained_at_once_where_it_is_quicker(members: int, parts: dict[str, Any], stacked: bool) -> None:
    spec = weights_spec(members, seed=5, parts=parts)
    assert can_stack(build_autoencoder(spec.model, spec.input, members).members) == stacked


@pytest.mark.slow
def test_the_first_member_is_the_model_that_encodes_and_reconstructs(
    ensemble_spec: FitSpec, fitted_ensemble: Any, digits: np.ndarray
) -> None:
    ensemble = load_bundle(fitted_ensemble.bundle).scorer.autoencoder
    weights = load_file(fitted_ensemble.bundle / "weights.safetensors")
    single = Autoencoder(ensemble_spec.model, ensemble_spec.input).eval()
    single.load_state_dict({name: torch.from_numpy(weights[name]) for name in single.state_dict()})
    assert isinstance(ensemble, Ensemble)
    with torch.inference_mode():
        x = ensemble.normalise(torch.from_numpy(digits[:5]))
        output, alone = ensemble.run(x), single.run(x)
        assert torch.equal(output.reconstruction, alone.reconstruction)
        assert torch.equal(ensemble.reconstruct(output.code), alone.reconstruction)
        assert torch.equal(ensemble(x)[1], alone.code)
        assert torch.equal(output.members[0].reconstruction, alone.reconstruction)
        assert not torch.equal(output.members[1].reconstruction, alone.reconstruction)
    assert len(output.members) == 2
    assert alone.members == ()


def test_the_history_has_a_curve_for_each_member(fitted_ensemble: Any) -> None:
    header, *lines = (fitted_ensemble.history / "history.csv").read_text().splitlines()
    assert header.split(",") == history_columns(members=2)
    assert header == "epoch,step,train_loss,validation_error,learning_rate,train_loss_2,validation_error_2"
    assert [line.split(",")[:2] for line in lines] == [["1", "5"], ["2", "10"], ["3", "15"], ["4", "20"]]


def test_each_member_sees_the_samples_in_the_order_of_a_single_model_with_its_seed() -> None:
    of_members = epoch_orders(rows=23, seed=5, members=2, epoch=3)
    for index in range(2):
        assert torch.equal(of_members[index], epoch_orders(rows=23, seed=5 + index, members=1, epoch=3)[0])


# ---------------------------------------------------------------- scores


def outputs_of(x: Tensor, reconstructions: list[Tensor]) -> ModelOutput:
    nothing = torch.zeros(0)
    members = [ModelOutput(x, y, nothing, nothing, nothing, None) for y in reconstructions]
    return members[0]._replace(members=tuple(members))


def disagreement(x: Any, reconstructions: Any, energy: float, blur: float) -> Any:
    """V in numpy and scipy: reconstructions are (members, n, c, *sides)."""
    reach = math.ceil(3 * blur)
    deviations = reconstructions - reconstructions.mean(0)
    if blur:
        sides = reconstructions.ndim - 3
        sigmas, radii = (0, 0, 0, *[blur] * sides), (0, 0, 0, *[reach] * sides)
        deviations = gaussian_filter(deviations, sigmas, mode="constant", radius=radii)
    variance = (deviations**2).reshape(*deviations.shape[:2], -1).sum(2).mean(0)
    energies = (x**2).reshape(len(x), -1).sum(1)
    return np.log(variance + ENERGY_FLOOR) - energy * np.log(energies + ENERGY_FLOOR)


@pytest.mark.parametrize("shape", [(6, 2, 9, 12), (6, 2, 30)])
@pytest.mark.parametrize(("energy", "blur"), [(0.0, 0.0), (0.5, 1.0), (1.0, 1.7)])
def test_disagreement_is_the_formula_in_numpy(shape: tuple[int, ...], energy: float, blur: float) -> None:
    random = np.random.default_rng(1)
    x, reconstructions = random.random(shape), random.random((4, *shape))
    output = outputs_of(torch.from_numpy(x).float(), list(torch.from_numpy(reconstructions).float()))
    expected = disagreement(x, reconstructions, energy, blur)
    np.testing.assert_allclose(DisagreementScore(energy, blur)(output).numpy(), expected, rtol=1e-4)


def test_members_that_agree_have_a_finite_disagreement_below_all_others() -> None:
    x = torch.zeros(2, 1, 8, 8)
    apart = x.clone()
    apart[1] += 0.01
    score = DisagreementScore(0.5, 1.0)(outputs_of(x, [x, apart]))
    assert torch.isfinite(score).all()
    assert score[0] < score[1]


def test_a_score_of_one_model_is_the_mean_over_the_members() -> None:
    random = np.random.default_rng(1)
    x, *reconstructions = torch.from_numpy(random.random((4, 6, 1, 9, 9), dtype=np.float32))
    score = NormalisedResidualScore(0.5, 1.0)
    each = [score(outputs_of(x, [y])._replace(members=())) for y in reconstructions]
    assert torch.allclose(score(outputs_of(x, reconstructions)), torch.stack(each).mean(0))


def test_onnxruntime_tells_disagreement_as_torch_does(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    tensors = list(torch.from_numpy(random.random((4, 6, 2, 20), dtype=np.float32)))
    score = DisagreementScore(0.5, 1.0)

    def scored(x: Tensor, *reconstructions: Tensor) -> Tensor:
        scores: Tensor = score(outputs_of(x, list(reconstructions)))
        return scores

    actual = by_onnxruntime(score, scored, tmp_path, *tensors)
    np.testing.assert_allclose(actual, scored(*tensors).numpy(), rtol=1e-5, atol=1e-6)


def run_graph(bundle: Path, raw: np.ndarray) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(str(bundle / "model.onnx"), providers=["CPUExecutionProvider"])
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, {"input": raw}), strict=True))


def test_one_graph_scores_by_all_members_as_the_formula_does(fitted_ensemble: Any, digits: np.ndarray) -> None:
    scorer = load_bundle(fitted_ensemble.bundle).scorer
    raw = digits[:20].astype(np.float32)
    by_graph = run_graph(fitted_ensemble.bundle, raw)
    with torch.inference_mode():
        by_torch = scorer(torch.from_numpy(raw))
        x = scorer.autoencoder.normalise(torch.from_numpy(raw))
        reconstructions = torch.stack([output.reconstruction for output in scorer.autoencoder.run(x).members])
    for name, expected in zip(("score", "p_value", "is_anomaly", "reconstruction", "code"), by_torch, strict=True):
        np.testing.assert_allclose(by_graph[name], expected.numpy(), rtol=1e-4, atol=1e-4, err_msg=name)
    by_formula = disagreement(x.numpy().astype(np.float64), reconstructions.numpy().astype(np.float64), energy=0.5, blur=1.0)
    np.testing.assert_allclose(by_graph["score"], by_formula, rtol=1e-4)


def test_the_same_members_are_calibrated_with_another_score(
    ensemble_spec: FitSpec, spec: FitSpec, fitted_ensemble: Any, digits: np.ndarray, tmp_path: Path
) -> None:
    roles = SampleRoles(*map(ArraySampleSet, (digits[:320], digits[320:384], digits[384:])))
    other = dataclasses.replace(ensemble_spec, score=spec.score)
    calibrate(other, fitted_ensemble.history, roles, content_sha256="0" * 64, bundle=tmp_path / "bundle")
    scorer = load_bundle(tmp_path / "bundle").scorer
    raw = digits[:20].astype(np.float32)
    with torch.inference_mode():
        members = scorer.autoencoder.run(scorer.autoencoder.normalise(torch.from_numpy(raw))).members
        each = torch.stack([scorer.score(member) for member in members])
    assert torch.allclose(scorer(torch.from_numpy(raw))[0], each.mean(0))
    np.testing.assert_allclose(run_graph(tmp_path / "bundle", raw)["score"], each.mean(0).numpy(), rtol=1e-5)


# ---------------------------------------------------------------- texts


def test_an_ensemble_of_texts_has_one_tokenizer_and_the_mean_surprise(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    words = np.array(["the", "cat", "sat", "on", "mat"])
    rows = tokens.texts_to_bytes([" ".join(random.choice(words, 5)) for _ in range(120)])
    rows = np.pad(rows, ((0, 0), (0, 32 - rows.shape[1])))
    encoder = {"vocabulary": 300, "length": 9, "width": 8, "layers": 0, "heads": 2, "pooling": "inverse-frequency"}
    sections = {
        "input": {"kind": "text", "shape": [32]},
        "model": {
            "corrupt": {"kind": "word-deletion"},
            "encode": {"kind": "tokens", **encoder},
            "bottleneck": {"kind": "identity", "size": 4},
            "decode": {"kind": "tokens", "width": 8, "layers": 0, "heads": 2},
            "compare": {"kind": "cross-entropy"},
        },
        "score": {"kind": "token-surprise"},
        "threshold": {"kind": "split-conformal", "false_alarm_rate": 0.1},
        "train": {"epochs": 1, "batch": 32, "members": 2, "threads": 1, "accelerator": "cpu"},
    }
    folders = {name: tmp_path / name for name in ("checkpoints", "bundle", "history")}
    spec = FitSpec.from_dict(sections, "texts")
    fit(spec, rows[:60], rows[60:70], rows[70:], **folders, content_sha256="0" * 64, recipe="texts", progress_bar=False)
    document = json.loads((tmp_path / "bundle" / "bundle.json").read_text())
    assert document["train"]["members"] == 2
    assert document["export"]["max_difference"] < 1e-4
    scorer, tokenizer = load_bundle(tmp_path / "bundle").scorer, load_training(tmp_path / "history").tokenizer
    assert tokenizer is not None
    first, second = scorer.autoencoder.members
    assert torch.equal(first.encode.shares, second.encode.shares)
    assert float(first.encode.shares.sum()) == pytest.approx(1.0)
    assert not torch.equal(first.encode.embeddings.weight, second.encode.embeddings.weight)
    ids = torch.from_numpy(tokens.encode_texts(tokens.tokenizer_from_json(tokenizer), rows[:5], 9))
    with torch.inference_mode():
        each = torch.stack([scorer.score(member) for member in scorer.autoencoder.run(ids).members])
        assert torch.allclose(scorer(ids)[0], each.mean(0))


# ---------------------------------------------------------------- settings


def test_one_member_is_a_single_model_and_leaves_no_trace_in_a_document(spec: FitSpec, fitted: Any) -> None:
    raw_spec = spec.to_dict()
    assert "members" not in raw_spec["train"]
    raw_spec["train"]["members"] = 1
    assert FitSpec.from_dict(raw_spec, "spec.json").to_dict() == spec.to_dict()
    for file in (fitted.bundle / "bundle.json", fitted.history / "training.json"):
        assert "members" not in json.loads(file.read_text())["train"]
    assert type(load_training(fitted.history).autoencoder) is Autoencoder


def test_the_weights_of_an_ensemble_are_of_no_other_number_of_members(
    ensemble_spec: FitSpec, fitted_ensemble: Any, digits: np.ndarray, tmp_path: Path
) -> None:
    roles = SampleRoles(*map(ArraySampleSet, (digits[:320], digits[320:384], digits[384:])))
    more = dataclasses.replace(ensemble_spec, train=dataclasses.replace(ensemble_spec.train, members=3))
    with pytest.raises(Exception, match="expected the settings of the spec, got others in train"):
        calibrate(more, fitted_ensemble.history, roles, content_sha256="0" * 64, bundle=tmp_path / "bundle")


def test_every_wrong_setting_of_an_ensemble_is_named_at_once(ensemble_spec: FitSpec) -> None:
    raw_spec = copy.deepcopy(ensemble_spec.to_dict())
    raw_spec["train"]["members"] = 65
    raw_spec["score"] |= {"energy": 2.0, "blurr": 1.0}
    with pytest.raises(SpecError) as caught:
        FitSpec.from_dict(raw_spec, "digits.yaml")
    assert caught.value.mistakes == [
        "digits.yaml: score: unexpected key 'blurr', expected energy or blur: did you mean blur?",
        "digits.yaml: score.energy: expected 0 to 1, got 2.0",
        "digits.yaml: train.members: expected 1 to 64, got 65",
    ]
    for wrong, message in ((0, "expected 1 to 64, got 0"), ("4", "expected a whole number, got '4'"), (2.5, "got 2.5")):
        raw_spec["train"]["members"] = wrong
        with pytest.raises(SpecError, match=f"train.members: .*{message}"):
            FitSpec.from_dict(raw_spec, "digits.yaml")


def test_disagreement_of_one_model_is_refused_with_every_other_misfit(ensemble_spec: FitSpec) -> None:
    raw_spec = ensemble_spec.to_dict()
    del raw_spec["train"]["members"]
    raw_spec["model"]["encode"]["map"] = True
    with pytest.raises(SpecError) as caught:
        FitSpec.from_dict(raw_spec, "digits.yaml")
    assert len(caught.value.mistakes) == 2
    assert caught.value.mistakes[1] == (
        "digits.yaml: score: disagreement needs an ensemble: expected train.members of 2 or more, got 1"
    )


def test_a_loss_that_is_no_number_names_its_member(ensemble_spec: FitSpec, fit_into: Callable[..., Any], tmp_path: Path) -> None:
    widths = (16, 16, 16, 16, 16)  # many layers, so that their product overflows at once
    deep = dataclasses.replace(ensemble_spec.model, encode=ConvEncoderSpec(widths), decode=ConvDecoderSpec(widths))
    wild = dataclasses.replace(ensemble_spec, model=deep, train=dataclasses.replace(ensemble_spec.train, learning_rate=10.0))
    with pytest.raises(
        DivergenceError, match=r"the loss of member [12] of 2 is (nan|inf) in epoch 1 of 4: lower train\.learning"
    ):
        fit_into(wild, tmp_path)
