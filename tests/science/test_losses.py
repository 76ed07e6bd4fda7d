"""Losses against their formulas in numpy, scipy and scikit-image."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx_export import by_onnxruntime
from scipy.special import expit, log_softmax
from skimage.metrics import structural_similarity

from ae_models.losses import LOSSES
from ae_models.spec import PART_SPECS

RANDOM = np.random.default_rng(0)
RAW = RANDOM.normal(0.5, 0.6, (5, 3, 14, 17)).astype(np.float32)  # some of it out of [0, 1]
TARGET = RANDOM.random((5, 3, 14, 17), dtype=np.float32)


def bce(y: Any, t: Any) -> Any:
    p = expit(y.astype(np.float64))
    return -2.5 * t * np.log(p) - (1 - t) * np.log1p(-p)


def huber(y: Any, t: Any) -> Any:
    far = np.abs(y - t)
    return np.where(far <= 0.3, (y - t) ** 2 / 2, 0.3 * (far - 0.15))


FORMULAS: dict[str, tuple[dict[str, float], Callable[[Any, Any], Any]]] = {
    "mse": ({}, lambda y, t: (y - t) ** 2),
    "l1": ({}, lambda y, t: np.abs(y - t)),
    "huber": ({"delta": 0.3}, huber),
    "bce": ({"positive": 2.5}, bce),
}


def test_every_comparison_of_the_spec_exists() -> None:
    assert list(LOSSES) == list(PART_SPECS["compare"])


@pytest.mark.parametrize("kind", FORMULAS)
@pytest.mark.parametrize("shape", [(5, 3, 14, 17), (5, 3, 238)])
def test_a_loss_is_the_formula_in_numpy_whole_or_by_sample(kind: str, shape: tuple[int, ...]) -> None:
    fields, formula = FORMULAS[kind]
    y, t = (torch.from_numpy(values).reshape(shape) for values in (RAW, TARGET))
    expected = formula(RAW.astype(np.float64), TARGET.astype(np.float64))
    assert float(LOSSES[kind](reduce="mean", **fields)(y, t)) == pytest.approx(expected.mean(), rel=1e-5)
    assert float(LOSSES[kind](reduce="sum", **fields)(y, t)) == pytest.approx(expected.sum() / 5, rel=1e-5)


def test_bce_stays_finite_where_the_sigmoid_does_not() -> None:
    extreme = torch.tensor([[-200.0, 200.0]], requires_grad=True)
    loss = LOSSES["bce"](reduce="sum", positive=1.0)(extreme, torch.tensor([[1.0, 0.0]]))
    assert float(loss.detach()) == 400.0
    (slope,) = torch.autograd.grad(loss, extreme)
    assert slope.tolist() == [[-1.0, 1.0]]


def test_ssim_is_that_of_scikit_image_inside_the_borders() -> None:
    t = TARGET
    y = np.clip(0.7 * t + 0.3 * RAW, 0, 1)
    maps = [
        structural_similarity(
            a[channel],
            b[channel],
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1.0,
            full=True,
        )[1][5:-5, 5:-5]
        for a, b in zip(y, t, strict=True)
        for channel in range(3)
    ]
    actual = [float(LOSSES["ssim"](reduce)(torch.from_numpy(y), torch.from_numpy(t))) for reduce in ("mean", "sum")]
    assert actual == pytest.approx([1 - np.mean(maps), np.sum(1 - np.array(maps)) / 5], rel=1e-4)


def test_ssim_of_an_image_with_itself_costs_nothing() -> None:
    x = torch.from_numpy(TARGET)
    assert float(LOSSES["ssim"]("mean")(x, x)) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("sides", [(4, 5), (20,)])
def test_cross_entropy_of_levels_is_the_formula_in_scipy(sides: tuple[int, ...]) -> None:
    raw = RANDOM.normal(size=(3, 2, 5, *sides)).astype(np.float32)  # 2 channels of 5 levels
    levels = RANDOM.integers(0, 5, (3, 2, *sides))
    logs = log_softmax(raw.astype(np.float64), axis=2)
    expected = -np.take_along_axis(logs, levels[:, :, None], axis=2)
    target = torch.from_numpy((levels / 4 + RANDOM.uniform(-0.1, 0.1, levels.shape)).astype(np.float32))  # rounds to its level
    mean, total = (LOSSES["cross-entropy"](reduce=reduce, categories=5) for reduce in ("mean", "sum"))
    decoded = torch.from_numpy(raw.reshape(3, 10, *sides))
    assert mean.outputs_per_value == 5
    assert float(mean(decoded, target)) == pytest.approx(expected.mean(), rel=1e-5)
    assert float(total(decoded, target)) == pytest.approx(expected.sum() / 3, rel=1e-5)
    np.testing.assert_allclose(mean.activate(decoded).numpy(), raw.argmax(2) / 4)


def test_cross_entropy_of_tokens_leaves_padding_out() -> None:
    ids = np.array([[3, 1, 2, 0, 0], [6, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
    raw = RANDOM.normal(size=(3, 7, 5)).astype(np.float32)
    logs = log_softmax(raw.astype(np.float64), axis=1)
    surprises = [-logs[row, ids[row, place], place] for row, place in ((0, 0), (0, 1), (0, 2), (1, 0))]
    y, t = torch.from_numpy(raw), torch.from_numpy(ids)
    assert float(LOSSES["cross-entropy"](reduce="mean", categories=0)(y, t)) == pytest.approx(sum(surprises) / 4, rel=1e-5)
    assert float(LOSSES["cross-entropy"](reduce="sum", categories=0)(y, t)) == pytest.approx(sum(surprises) / 3, rel=1e-5)


def test_made_tokens_stop_at_the_first_end() -> None:
    expected = np.array([[3, 1, 2, 5, 4], [6, 2, 3, 4, 5], [1, 1, 2, 1, 2]])
    raw = torch.from_numpy(np.eye(7, dtype=np.float32)[expected].transpose(0, 2, 1))
    ids = LOSSES["cross-entropy"](reduce="mean", categories=0).activate(raw)
    assert ids.tolist() == [[3, 1, 0, 0, 0], [6, 2, 3, 4, 5], [1, 0, 0, 0, 0]]


def test_texts_without_any_token_cost_nothing() -> None:
    loss = LOSSES["cross-entropy"](reduce="mean", categories=0)(torch.randn(2, 7, 5), torch.zeros(2, 5, dtype=torch.int64))
    assert float(loss) == 0.0


ACTIVATIONS: dict[str, Callable[[Any], Any]] = {kind: lambda y: np.clip(y, 0, 1) for kind in ("mse", "l1", "huber", "ssim")} | {
    "bce": expit,
    "cross-entropy": lambda y: y.argmax(1)[:, None] / 2,  # 3 levels of one channel
}


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_the_activation_is_the_formula_in_numpy_and_by_onnxruntime(kind: str, tmp_path: Path) -> None:
    fields = FORMULAS[kind][0] if kind in FORMULAS else {"categories": 3} if kind == "cross-entropy" else {}
    loss_module, raw = LOSSES[kind](reduce="mean", **fields), torch.from_numpy(RAW)
    expected = ACTIVATIONS[kind](RAW)
    np.testing.assert_allclose(loss_module.activate(raw).numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(by_onnxruntime(loss_module, loss_module.activate, tmp_path, raw), expected, rtol=1e-5)


@pytest.mark.parametrize("kind", [kind for kind in LOSSES if kind != "mixed"])  # of rows: test_table_bounds.py
def test_a_step_against_the_slope_lowers_the_loss(kind: str) -> None:
    fields = FORMULAS[kind][0] if kind in FORMULAS else {"categories": 3} if kind == "cross-entropy" else {}
    loss_module = LOSSES[kind](reduce="sum", **fields)
    raw = torch.from_numpy(RAW).requires_grad_()
    target = torch.from_numpy(TARGET)[:, : 3 // loss_module.outputs_per_value]
    loss = loss_module(raw, target)
    (slope,) = torch.autograd.grad(loss, raw)
    assert loss_module(raw - 1e-3 * slope, target) < loss
