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

from ae_models.answer import Answer
from ae_models.score import KINDS, TINY, NormalisedResidualScore
from ae_models.spec import PARTS

NOTHING = torch.zeros(0)
SHAPES = [(6, 2, 9, 12), (6, 2, 30)]


def answer(given: Any = NOTHING, made: Any = NOTHING, raw: Any = NOTHING, code: Any = NOTHING, again: Any = None) -> Answer:
    tensors = [torch.from_numpy(part) if isinstance(part, np.ndarray) else part for part in (given, made, raw, code, again)]
    return Answer(*tensors)


def random(shape: tuple[int, ...], seed: int = 1) -> Any:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def test_every_score_of_the_spec_exists() -> None:
    assert list(KINDS) == list(PARTS["score"])


def normalised_residual(x: Any, y: Any, energy: float, blur: float) -> Any:
    axes = x.ndim - 2
    sigmas, reach = (0, 0, *[blur] * axes), math.ceil(3 * blur)
    residual = gaussian_filter(x - y, sigmas, mode="constant", radius=(0, 0, *[reach] * axes)) if blur else x - y
    return [np.log((d**2).sum() + TINY) - energy * np.log((a**2).sum() + TINY) for a, d in zip(x, residual, strict=True)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("energy", "blur"), [(0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (1.0, 1.7)])
def test_the_normalised_residual_is_the_formula_in_numpy(shape: tuple[int, ...], energy: float, blur: float) -> None:
    x, y = random(shape, 1), random(shape, 2)
    given = NormalisedResidualScore(energy, blur)(answer(x, y)).numpy()
    np.testing.assert_allclose(given, normalised_residual(x, y, energy, blur), rtol=1e-5)


def test_a_colouring_is_scored_by_its_luma_against_the_grey() -> None:
    grey, colours = random((6, 1, 9, 12), 1), random((6, 3, 9, 12), 2)
    luma = np.einsum("nchw,c->nhw", colours, np.array([0.299, 0.587, 0.114], np.float32))[:, None]
    given = NormalisedResidualScore(0.5, 1.0)(answer(grey, colours)).numpy()
    np.testing.assert_allclose(given, normalised_residual(grey, luma, 0.5, 1.0), rtol=1e-5)


def test_a_blank_sample_made_blank_has_a_finite_score() -> None:
    x = torch.zeros(1, 1, 8, 8)
    assert torch.isfinite(NormalisedResidualScore(0.5, 1.0)(answer(x, x))).all()


def test_the_code_residual_is_the_formula_in_numpy() -> None:
    z, again = random((6, 10), 1), random((6, 10), 2)
    given = KINDS["code-residual"]()(answer(code=z, again=again))
    np.testing.assert_allclose(given.numpy(), np.log(((z - again) ** 2).sum(1) + TINY), rtol=1e-5)


def test_ambiguity_is_the_mean_entropy_in_bits_by_scipy() -> None:
    raw = 5 * np.random.default_rng(1).normal(size=(6, 2, 9, 12)).astype(np.float32)
    p = expit(raw.astype(np.float64))
    wanted = entropy(np.stack([p, 1 - p]), base=2, axis=0).reshape(6, -1).mean(1)
    np.testing.assert_allclose(KINDS["ambiguity"]()(answer(raw=raw)).numpy(), wanted, rtol=1e-5)
    extremes = torch.tensor([[0.0, 0.0], [-300.0, 300.0]])
    assert KINDS["ambiguity"]()(answer(raw=extremes)).tolist() == pytest.approx([1.0, 0.0])


IDS = np.array([[3, 1, 2, 0, 0], [6, 0, 0, 0, 0], [0, 0, 0, 0, 0], [1, 2, 3, 4, 5]])


def test_token_surprise_is_the_mean_over_own_tokens_by_scipy() -> None:
    raw = np.random.default_rng(1).normal(size=(4, 7, 5)).astype(np.float32)
    logs = log_softmax(raw.astype(np.float64), axis=1)
    own = [[-logs[row, token, place] for place, token in enumerate(ids) if token] for row, ids in enumerate(IDS)]
    given = KINDS["token-surprise"]()(answer(IDS, raw=raw))
    assert given.tolist() == pytest.approx([np.mean(surprises) if surprises else 0.0 for surprises in own], rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_onnxruntime_scores_as_torch_does(kind: str, tmp_path: Path) -> None:
    score = KINDS[kind](**{"energy": 0.5, "blur": 1.0} if kind == "normalised-residual" else {})
    parts = {
        "normalised-residual": {"given": random((6, 2, 20)), "made": random((6, 2, 20), 2)},
        "code-residual": {"code": random((6, 10)), "again": random((6, 10), 2)},
        "ambiguity": {"raw": random((6, 1, 4, 4))},
        "token-surprise": {"given": IDS, "raw": random((4, 7, 5))},
    }[kind]
    tensors = [torch.from_numpy(part) for part in parts.values()]

    def scored(*inputs: Tensor) -> Tensor:
        answered: Tensor = score(answer(**dict(zip(parts, inputs, strict=True))))
        return answered

    np.testing.assert_allclose(by_onnxruntime(score, scored, tmp_path, *tensors), scored(*tensors).numpy(), rtol=1e-5, atol=1e-6)
