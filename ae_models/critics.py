"""Critics: networks that are trained against the autoencoder.

Each module but `NoCritic` adds one number to the loss: its own loss, on detached inputs, and the autoencoder's share, with the
critic's own parameters detached. So one optimiser and one backward pass train both at once, each on its own number alone.
"""

from collections.abc import Callable

from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from ae_models.batch_share import draw_like
from ae_models.layers import dense_layers

__all__ = ["CRITICS", "AdversarialCodeCritic", "GanomalyCritic", "MakeEncoder", "NoCritic"]

MakeEncoder = Callable[[tuple[int, ...], int], nn.Module]  # (input shape, output size) -> an encoder of the model's kind


class NoCritic(nn.Module):
    """Has no loss, and is not asked for one."""

    def __init__(self, make_encoder: MakeEncoder, input_shape: tuple[int, ...], size: int) -> None:
        super().__init__()

    def reconstruction_code(self, y: Tensor) -> None:
        """Return None: there is no second encoder."""


class AdversarialCodeCritic(nn.Module):
    """A discriminator D of codes, dense layers to one logit (adversarial autoencoder, Makhzani et al. 2015).

    It learns to tell samples p of N(0, I) from codes z: - log s(D(p)) - log(1 - s(D(z))), s the logistic function. The model's
    share is weight * -log s(D(z)), the form that does not fade while D wins (Goodfellow et al. 2014, section 3). Means over
    the batch. The samples come from torch's global generator, on the device of the codes.

    Args:
        widths: numbers after each layer of D.
        weight: of the model's share.
        size: numbers in a code.
        make_encoder: not needed here.
        input_shape: not needed here.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        weight: float,
        make_encoder: MakeEncoder,
        input_shape: tuple[int, ...],
        size: int,
    ) -> None:
        super().__init__()
        self.weight = weight
        self.discriminator = nn.Sequential(*dense_layers((size, *widths, 1)))

    def loss(self, x: Tensor, y: Tensor, z: Tensor, target: Tensor) -> Tensor:
        """Return the discriminator's loss plus the model's share, for codes z (n, size)."""
        own_loss = _logistic_loss(self.discriminator(draw_like(z, Tensor.normal_)), self.discriminator(z.detach()))
        model_share = _mean_softplus(-_call_detached(self.discriminator, z))
        return own_loss + self.weight * model_share

    def reconstruction_code(self, y: Tensor) -> None:
        """Return None: there is no second encoder."""


class GanomalyCritic(nn.Module):
    """A discriminator of samples and a second encoder E (GANomaly, Akcay et al. 2018, section 3.2).

    The discriminator is another encoder of the model's kind, to features f, and one dense layer to a logit D. It learns to
    tell targets t from reconstructions y: - log s(D(t)) - log(1 - s(D(y))), s the logistic function. The model's share is
    adversarial * (f(t) - f(y))^2 + encoder * (z - E(y))^2, means over numbers and batch. Its second term trains E as well,
    which is no judge but a part of the model: it brings code and second code of normal samples together from both sides.

    Targets are the clean samples, also where the inputs are corrupted: there is nothing to learn from noise.

    Args:
        features: numbers in f.
        adversarial: weight of the features' distance.
        encoder: weight of the distance between code and second code.
        make_encoder: makes an encoder from an input's shape and an output's size.
        input_shape: of a sample and of its reconstruction.
        size: numbers in a code.
    """

    def __init__(
        self,
        features: int,
        adversarial: float,
        encoder: float,
        make_encoder: MakeEncoder,
        input_shape: tuple[int, ...],
        size: int,
    ) -> None:
        super().__init__()
        self.adversarial, self.encoder = adversarial, encoder
        self.features = make_encoder(input_shape, features)
        self.logit = nn.Linear(features, 1)
        self.second = make_encoder(input_shape, size)

    def loss(self, x: Tensor, y: Tensor, z: Tensor, target: Tensor) -> Tensor:
        """Return the discriminator's loss plus the model's share, for reconstructions y in [0, 1] of targets, and codes z."""
        target_features = self.features(target)
        own_loss = _logistic_loss(self.logit(target_features), self.logit(self.features(y.detach())))
        feature_loss = F.mse_loss(_call_detached(self.features, y), target_features.detach())
        return own_loss + self.adversarial * feature_loss + self.encoder * F.mse_loss(self.second(y), z)

    def reconstruction_code(self, y: Tensor) -> Tensor:
        """Return the second code E(y) of reconstructions, (n, size)."""
        code: Tensor = self.second(y)
        return code


def _logistic_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return a discriminator's loss: mean -log s(real) plus mean -log(1 - s(fake))."""
    return _mean_softplus(-real_logits) + _mean_softplus(fake_logits)


def _mean_softplus(logits: Tensor) -> Tensor:
    """Return mean log(1 + exp(logits)), in 32 bits also for logits of 16."""
    return F.softplus(logits.float()).mean()


def _call_detached(module: nn.Module, x: Tensor) -> Tensor:
    """Return module(x), through which gradients go to x and not to the module."""
    parameters = {name: value.detach() for name, value in module.named_parameters()}
    outputs: Tensor = functional_call(module, parameters, (x,))
    return outputs


CRITICS = {"none": NoCritic, "aae": AdversarialCodeCritic, "ganomaly": GanomalyCritic}
