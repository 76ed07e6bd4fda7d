"""Critics: their numbers against formulas in numpy, and who learns from which."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ae_models import critics, encoders
from ae_models.factory import build_part
from ae_models.spec import AdversarialCodeCriticSpec, ConvEncoderSpec, DenseEncoderSpec, GanomalyCriticSpec, NoCriticSpec

SHAPE, SIZE, ROWS = (2, 8, 8), 5, 6


def make_critic(spec: Any, kind: Any = None) -> nn.Module:
    kind = kind or DenseEncoderSpec((7,))

    def encoder(shape: tuple[int, ...], size: int) -> nn.Module:
        return build_part(encoders.ENCODERS, kind, shape=shape, size=size)

    torch.manual_seed(0)
    critic = build_part(critics.CRITICS, spec, make_encoder=encoder, input_shape=SHAPE, size=SIZE)
    for value in critic.parameters():
        nn.init.normal_(value, std=0.3)  # far from a start at which all logits are about 0
    return critic


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """What the model gave: all of it asks for gradients, as in a training."""
    torch.manual_seed(1)
    x, y, target = (torch.rand(ROWS, *SHAPE) for _ in range(3))
    return {"x": x, "y": y.requires_grad_(), "z": torch.randn(ROWS, SIZE).requires_grad_(), "target": target}


def numbers(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def dense_in_numpy(layers: nn.Module, x: np.ndarray) -> np.ndarray:
    linear = [layer for layer in layers.modules() if isinstance(layer, nn.Linear)]
    for place, layer in enumerate(linear):
        x = np.maximum(x, 0) if place else x
        x = x @ numbers(layer.weight).T + numbers(layer.bias)
    return x


def logistic(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


def discriminator_loss(real: np.ndarray, critic: np.ndarray) -> float:
    return float(-np.log(logistic(real)).mean() - np.log(1 - logistic(critic)).mean())


# ---------------------------------------------------------------- numbers


def test_nobody_learns_nothing(batch: dict[str, torch.Tensor]) -> None:
    nobody = make_critic(NoCriticSpec())
    assert nobody.reconstruction_code(batch["y"]) is None
    assert list(nobody.parameters()) == []


@pytest.mark.parametrize("weight", [0.0, 0.7])
@pytest.mark.parametrize("widths", [(), (4, 3)])
def test_the_loss_of_an_adversarial_critic_is_the_formula(
    batch: dict[str, torch.Tensor], weight: float, widths: tuple[int, ...]
) -> None:
    critic = make_critic(AdversarialCodeCriticSpec(widths, weight))
    torch.manual_seed(5)
    prior = torch.randn(ROWS, SIZE)
    torch.manual_seed(5)
    actual = float(critic.loss(**batch).detach())
    real, fooling = (dense_in_numpy(critic.discriminator, numbers(code)) for code in (prior, batch["z"]))
    assert real.shape == (ROWS, 1)
    assert actual == pytest.approx(discriminator_loss(real, fooling) - weight * np.log(logistic(fooling)).mean(), rel=1e-5)
    assert critic.reconstruction_code(batch["y"]) is None


@pytest.mark.parametrize(("adversarial", "encoder"), [(0.0, 0.0), (0.3, 0.0), (0.0, 0.8), (0.3, 0.8)])
def test_the_loss_of_ganomaly_is_the_formula(batch: dict[str, torch.Tensor], adversarial: float, encoder: float) -> None:
    critic = make_critic(GanomalyCriticSpec(9, adversarial, encoder))
    t, y, z = (numbers(batch[name]).reshape(ROWS, -1) for name in ("target", "y", "z"))
    of_t, of_y = (dense_in_numpy(critic.features, samples) for samples in (t, y))
    assert of_t.shape == (ROWS, 9)
    second = dense_in_numpy(critic.second, y)
    expected = discriminator_loss(dense_in_numpy(critic.logit, of_t), dense_in_numpy(critic.logit, of_y))
    expected += adversarial * ((of_t - of_y) ** 2).mean() + encoder * ((z - second) ** 2).mean()
    assert float(critic.loss(**batch).detach()) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(numbers(critic.reconstruction_code(batch["y"])), second, rtol=1e-4, atol=1e-5)


def test_a_loss_stays_finite_where_a_discriminator_is_sure(batch: dict[str, torch.Tensor]) -> None:
    for spec in (AdversarialCodeCriticSpec((4,)), GanomalyCriticSpec(9)):
        critic = make_critic(spec)
        for value in critic.parameters():
            value.data *= 1000
        assert torch.isfinite(critic.loss(**batch))


def test_a_loss_has_32_bits_in_a_training_of_16(batch: dict[str, torch.Tensor]) -> None:
    for spec in (AdversarialCodeCriticSpec((4,)), GanomalyCriticSpec(9)):
        with torch.autocast("cpu", torch.bfloat16):
            assert make_critic(spec).loss(**batch).dtype == torch.float32


@pytest.mark.parametrize("kind", [ConvEncoderSpec((3, 4)), ConvEncoderSpec((3, 4), blocks=1), DenseEncoderSpec((6,))])
def test_ganomaly_is_built_of_any_encoder(batch: dict[str, torch.Tensor], kind: Any) -> None:
    critic = make_critic(GanomalyCriticSpec(9), kind)
    assert torch.isfinite(critic.loss(**batch))
    assert critic.reconstruction_code(batch["y"]).shape == (ROWS, SIZE)


# ---------------------------------------------------------------- who learns from what


def gradients(loss: torch.Tensor, values: list[torch.Tensor]) -> list[torch.Tensor]:
    """Zeros where a value has no part in the loss."""
    found = torch.autograd.grad(loss, values, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(value) if one is None else one for one, value in zip(found, values, strict=True)]


def assert_equal(actual: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other)


def loss_from_seed(critic: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    torch.manual_seed(7)
    loss: torch.Tensor = critic.loss(**batch)
    return loss


def test_an_adversarial_discriminator_learns_from_its_own_loss_alone(batch: dict[str, torch.Tensor]) -> None:
    weighed, alone = make_critic(AdversarialCodeCriticSpec((4,), 9.0)), make_critic(AdversarialCodeCriticSpec((4,), 0.0))
    actual, expected = (gradients(loss_from_seed(one, batch), list(one.parameters())) for one in (weighed, alone))
    assert_equal(actual, expected)
    assert all(value.abs().sum() > 0 for value in actual)


def test_an_encoder_learns_from_the_adversarial_share_alone(batch: dict[str, torch.Tensor]) -> None:
    critic = make_critic(AdversarialCodeCriticSpec((4,), 0.5))
    (actual,) = gradients(loss_from_seed(critic, batch), [batch["z"]])
    share = 0.5 * -torch.log(torch.sigmoid(critic.discriminator(batch["z"]))).mean()
    assert_equal([actual], gradients(share, [batch["z"]]))
    assert actual.abs().sum() > 0


def test_a_step_of_the_encoder_moves_codes_to_where_they_pass_for_draws(
    batch: dict[str, torch.Tensor],
) -> None:
    critic = make_critic(AdversarialCodeCriticSpec((4,), 1.0))
    (gradient,) = gradients(loss_from_seed(critic, batch), [batch["z"]])
    before, after = (critic.discriminator(code).mean() for code in (batch["z"], batch["z"] - 0.5 * gradient))
    assert after > before


def test_a_ganomaly_discriminator_learns_from_its_own_loss_alone(batch: dict[str, torch.Tensor]) -> None:
    weighed, alone = make_critic(GanomalyCriticSpec(9, 5.0, 4.0)), make_critic(GanomalyCriticSpec(9, 0.0, 0.0))
    judges = [[*one.features.parameters(), *one.logit.parameters()] for one in (weighed, alone)]
    actual, expected = (gradients(one.loss(**batch), judge) for one, judge in zip((weighed, alone), judges, strict=True))
    assert_equal(actual, expected)
    assert all(value.abs().sum() > 0 for value in actual)


def test_a_model_learns_from_the_ganomaly_share_alone(batch: dict[str, torch.Tensor]) -> None:
    critic = make_critic(GanomalyCriticSpec(9, 0.5, 0.25))
    model = [batch["y"], batch["z"], *critic.second.parameters()]
    actual = gradients(critic.loss(**batch), model)
    judge = copy.deepcopy(critic.features)  # the same numbers, other tensors
    share = 0.5 * (judge(batch["target"]) - judge(batch["y"])).square().mean()
    share = share + 0.25 * (batch["z"] - critic.second(batch["y"])).square().mean()
    assert_equal(actual, gradients(share, model))
    assert all(value.abs().sum() > 0 for value in actual)


def test_one_backward_leaves_gradients_at_every_parameter_of_a_critic(batch: dict[str, torch.Tensor]) -> None:
    for spec in (AdversarialCodeCriticSpec((4,)), GanomalyCriticSpec(9)):
        critic = make_critic(spec)
        critic.loss(**batch).backward()
        assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in critic.parameters())
