"""Attention and the layers around it, against the same written in numpy."""

import numpy as np
import pytest
import torch
from scipy.special import erf

from ae_models.transformer import MultiHeadAttention, Transformer, TransformerLayer

WIDTH, HEADS, LENGTH = 12, 3, 7


def numbers(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def drawn(module: torch.nn.Module) -> torch.nn.Module:
    """Parameters far from their start, so that none hides behind a 0 or a 1."""
    torch.manual_seed(1)
    for value in module.parameters():
        torch.nn.init.normal_(value, std=0.5)
    return module


def attention_in_numpy(module: MultiHeadAttention, x: np.ndarray, in_use: np.ndarray) -> np.ndarray:
    inward = x @ numbers(module.inward.weight).T + numbers(module.inward.bias)
    queries, keys, values = np.split(inward, 3, axis=2)
    each = WIDTH // module.heads
    heard = np.zeros_like(x)
    for sample in range(len(x)):
        for head in range(module.heads):
            own = slice(head * each, (head + 1) * each)
            weights = np.exp(queries[sample, :, own] @ keys[sample, :, own].T / np.sqrt(each)) * in_use[sample]
            heard[sample, :, own] = weights / weights.sum(axis=1, keepdims=True) @ values[sample, :, own]
    return heard @ numbers(module.outward.weight).T + numbers(module.outward.bias)


def norm_in_numpy(norm: torch.nn.LayerNorm, x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(axis=2, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=2, keepdims=True) + norm.eps) * numbers(norm.weight) + numbers(norm.bias)


def layer_in_numpy(layer: TransformerLayer, x: np.ndarray, in_use: np.ndarray) -> np.ndarray:
    x = x + attention_in_numpy(layer.attention, norm_in_numpy(layer.attention_norm, x), in_use)
    first, _, second = layer.perceptron
    hidden = norm_in_numpy(layer.perceptron_norm, x) @ numbers(first.weight).T + numbers(first.bias)
    hidden = hidden * (1 + erf(hidden / np.sqrt(2))) / 2
    return x + hidden @ numbers(second.weight).T + numbers(second.bias)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(4, LENGTH, WIDTH, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def in_use() -> torch.Tensor:
    """Texts of 7, 1, 3 and 5 tokens."""
    return torch.arange(LENGTH) < torch.tensor([7, 1, 3, 5])[:, None]


@pytest.mark.parametrize("heads", [1, 3, 12])
def test_attention_is_the_softmax_of_products_over_what_is_in_use(x: torch.Tensor, in_use: torch.Tensor, heads: int) -> None:
    module = drawn(MultiHeadAttention(WIDTH, heads))
    actual = numbers(module(x, in_use))
    np.testing.assert_allclose(actual, attention_in_numpy(module, numbers(x), in_use.numpy()), rtol=1e-4, atol=1e-4)


def test_without_a_mask_every_position_is_in_use(x: torch.Tensor) -> None:
    module = drawn(MultiHeadAttention(WIDTH, HEADS))
    expected = attention_in_numpy(module, numbers(x), np.ones((4, LENGTH)))
    np.testing.assert_allclose(numbers(module(x, None)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_layers_add_to_what_they_are_given_and_the_end_is_normalised(x: torch.Tensor, in_use: torch.Tensor, layers: int) -> None:
    transformer = drawn(Transformer(WIDTH, layers, HEADS))
    expected = numbers(x)
    for layer in transformer.layers:
        expected = layer_in_numpy(layer, expected, in_use.numpy())
    expected = norm_in_numpy(transformer.norm, expected)
    np.testing.assert_allclose(numbers(transformer(x, in_use)), expected, rtol=1e-3, atol=1e-3)


def test_what_is_not_in_use_changes_nothing_elsewhere(x: torch.Tensor, in_use: torch.Tensor) -> None:
    transformer = drawn(Transformer(WIDTH, 2, HEADS))
    other = torch.where(in_use[:, :, None], x, 100 * torch.randn_like(x))
    torch.testing.assert_close(transformer(x, in_use)[in_use], transformer(other, in_use)[in_use])
