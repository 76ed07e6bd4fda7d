"""Scores against their formulas in numpy and scipy, and by onnxruntime."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx_export import by_onnxruntime
from scipy.ndimage import gaussian_filter
from scipy.special import expit, log_softmax
from scipy.stats import entropy
from torch import Tensor

from ae_models.combined_score import SCORES
from ae_models.model_output import ModelOutput
from ae_models.score_interface import ENERGY_FLOOR
from ae_models.scores import NormalisedResidualScore
from ae_models.spec import PART_SPECS

NOTHING = torch.zeros(0)
SHAPES = [(6, 2, 9, 12), (6, 2, 30)]


def model_output(**tensors: Any) -> ModelOutput:
    """A ModelOutput of arrays or tensors; what a score does not read is empty."""
    fields = dict.fromkeys(ModelOutput._fields, NOTHING) | {"reconstruction_code": None, "members": ()}
    for name, values in tensors.items():
        fields[name] = torch.from_numpy(values) if isinstance(values, np.ndarray) else values
    return ModelOutput(**fields)


def random(shape: tuple[int, ...], seed: int = 1) -> Any:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def test_every_score_of_the_spec_exists() -> None:
    assert list(SCORES) == list(PART_SPECS["score"])


def test_a_score_of_an_ensemble_is_the_mean_over_its_members() -> None:
    x, first, second = random((6, 1, 9, 12)), random((6, 1, 9, 12), 2), random((6, 1, 9, 12), 3)
    members = tuple(model_output(inputs=x, reconstruction=y) for y in (first, second))
    score = NormalisedResidualScore(0.5, 1.0)
    alone = [score(member).numpy() for member in members]
    together = score(model_output(inputs=x, reconstruction=first, members=members))
    np.testing.assert_allclose(together.numpy(), np.mean(alone, axis=0), rtol=1e-6)


def normalised_residual(x: Any, y: Any, energy: float, blur: float) -> Any:
    axes = x.ndim - 2
    sigmas, reach = (0, 0, *[blur] * axes), math.ceil(3 * blur)
    residual = gaussian_filter(x - y, sigmas, mode="constant", radius=(0, 0, *[reach] * axes)) if blur else x - y
    return [
        np.log((d**2).sum() + ENERGY_FLOOR) - energy * np.log((a**2).sum() + ENERGY_FLOOR)
        for a, d in zip(x, residual, strict=True)
    ]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("energy", "blur"), [(0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (1.0, 1.7)])
def test_the_normalised_residual_is_the_formula_in_numpy(shape: tuple[int, ...], energy: float, blur: float) -> None:
    x, y = random(shape, 1), random(shape, 2)
    actual = NormalisedResidualScore(energy, blur)(model_output(inputs=x, reconstruction=y)).numpy()
    np.testing.assert_allclose(actual, normalised_residual(x, y, energy, blur), rtol=1e-5)


def test_a_colouring_is_scored_by_its_luma_against_the_grey() -> None:
    grey, colours = random((6, 1, 9, 12), 1), random((6, 3, 9, 12), 2)
    luma = np.einsum("nchw,c->nhw", colours, np.array([0.299, 0.587, 0.114], np.float32))[:, None]
    actual = NormalisedResidualScore(0.5, 1.0)(model_output(inputs=grey, reconstruction=colours)).numpy()
    np.testing.assert_allclose(actual, normalised_residual(grey, luma, 0.5, 1.0), rtol=1e-5)


def test_a_blank_sample_made_blank_has_a_finite_score() -> None:
    x = torch.zeros(1, 1, 8, 8)
    assert torch.isfinite(NormalisedResidualScore(0.5, 1.0)(model_output(inputs=x, reconstruction=x))).all()


def test_the_code_residual_is_the_formula_in_numpy() -> None:
    z, second_code = random((6, 10), 1), random((6, 10), 2)
    actual = SCORES["code-residual"]()(model_output(latent=z, reconstruction_code=second_code))
    np.testing.assert_allclose(actual.numpy(), np.log(((z - second_code) ** 2).sum(1) + ENERGY_FLOOR), rtol=1e-5)


def test_ambiguity_is_the_mean_entropy_in_bits_by_scipy() -> None:
    raw = 5 * np.random.default_rng(1).normal(size=(6, 2, 9, 12)).astype(np.float32)
    p = expit(raw.astype(np.float64))
    expected = entropy(np.stack([p, 1 - p]), base=2, axis=0).reshape(6, -1).mean(1)
    np.testing.assert_allclose(SCORES["ambiguity"]()(model_output(decoder_output=raw)).numpy(), expected, rtol=1e-5)
    extremes = torch.tensor([[0.0, 0.0], [-300.0, 300.0]])
    assert SCORES["ambiguity"]()(model_output(decoder_output=extremes)).tolist() == pytest.approx([1.0, 0.0])


IDS = np.array([[3, 1, 2, 0, 0], [6, 0, 0, 0, 0], [0, 0, 0, 0, 0], [1, 2, 3, 4, 5]])


def test_token_surprise_is_the_mean_over_own_tokens_by_scipy() -> None:
    raw = np.random.default_rng(1).normal(size=(4, 7, 5)).astype(np.float32)
    logs = log_softmax(raw.astype(np.float64), axis=1)
    own = [[-logs[row, token, place] for place, token in enumerate(ids) if token] for row, ids in enumerate(IDS)]
    actual = SCORES["token-surprise"]()(model_output(inputs=IDS, decoder_output=raw))
    assert actual.tolist() == pytest.approx([np.mean(surprises) if surprises else 0.0 for surprises in own], rel=1e-5)


def test_the_surprise_of_each_token_is_the_mean_over_the_members() -> None:
    first, second = (random((4, 7, 5), seed) for seed in (1, 2))
    score = SCORES["token-surprise"]()
    members = tuple(model_output(inputs=IDS, decoder_output=raw) for raw in (first, second))
    surprise = score.token_surprise(model_output(inputs=IDS, decoder_output=first, members=members))
    assert surprise is not None
    logs = [log_softmax(raw.astype(np.float64), axis=1) for raw in (first, second)]
    expected = -np.mean([np.take_along_axis(log, IDS[:, None], axis=1)[:, 0] for log in logs], axis=0) * (IDS != 0)
    np.testing.assert_allclose(surprise.numpy(), expected, rtol=1e-5, atol=1e-6)
    assert not SCORES["ambiguity"]().has_token_surprise


@pytest.mark.parametrize("kind", ["normalised-residual", "code-residual", "ambiguity", "token-surprise"])
def test_onnxruntime_scores_as_torch_does(kind: str, tmp_path: Path) -> None:
    score = SCORES[kind](**{"energy": 0.5, "blur": 1.0} if kind == "normalised-residual" else {})
    parts = {
        "normalised-residual": {"inputs": random((6, 2, 20)), "reconstruction": random((6, 2, 20), 2)},
        "code-residual": {"latent": random((6, 10)), "reconstruction_code": random((6, 10), 2)},
        "ambiguity": {"decoder_output": random((6, 1, 4, 4))},
        "token-surprise": {"inputs": IDS, "decoder_output": random((4, 7, 5))},
    }[kind]
    tensors = [torch.from_numpy(part) for part in parts.values()]

    def scored(*inputs: Tensor) -> Tensor:
        scores: Tensor = score(model_output(**dict(zip(parts, inputs, strict=True))))
        return scores

    np.testing.assert_allclose(by_onnxruntime(score, scored, tmp_path, *tensors), scored(*tensors).numpy(), rtol=1e-5, atol=1e-6)
