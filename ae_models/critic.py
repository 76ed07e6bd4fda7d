"""critic: who else judges. Each module adds one number to the loss: its own loss, on inputs that are detached, and the share
that it hands to the model, with its own parameters detached. So one optimiser and one backward train both at once, each on
its own number alone.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from ae_models.parts import dense_layers

MakeEncoder = Callable[[tuple[int, ...], int], nn.Module]


class NoCritic(nn.Module):
    """Nobody: adds 0."""

    def __init__(self, make_encoder: MakeEncoder, given: tuple[int, ...], size: int) -> None:
        super().__init__()

    def loss(self, x: Tensor, y: Tensor, z: Tensor, target: Tensor) -> Tensor:
        return z.new_zeros(())

    def again(self, y: Tensor) -> None:
        """No second code."""


class AdversarialCodeCritic(nn.Module):
    """A discriminator D of codes, dense layers to one logit (adversarial autoencoder, Makhzani et al. 2015).

    It learns to tell draws p of N(0, I) from codes z: - log s(D(p)) - log(1 - s(D(z))), s the logistic function. The model's
    share is weight * -log s(D(z)), the form that does not fade while D wins (Goodfellow et al. 2014, section 3). Means over
    the batch. The draws come from torch's global generator, on the device of the codes.

    Args:
        widths: numbers after each layer of D.
        weight: of the model's share.
        size: numbers in a code.
        make_encoder, given: not needed here.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        weight: float,
        make_encoder: MakeEncoder,
        given: tuple[int, ...],
        size: int,
    ) -> None:
        super().__init__()
        self.weight = weight
        self.discriminator = nn.Sequential(*dense_layers((size, *widths, 1)))

    def loss(self, x: Tensor, y: Tensor, z: Tensor, target: Tensor) -> Tensor:
        """The discriminator's loss and the model's share, for codes z (n, size)."""
        own = logistic_loss(self.discriminator(torch.randn_like(z)), self.discriminator(z.detach()))
        share = mean_softplus(-frozen(self.discriminator, z))
        return own + self.weight * share

    def again(self, y: Tensor) -> None:
        """No second code."""


class GanomalyCritic(nn.Module):
    """A discriminator of samples and a second encoder E (GANomaly, Akcay et al. 2018, section 3.2).

    The discriminator is another encoder of the sentence's kind, to features f, and one dense layer to a logit D. It learns to
    tell targets t from reconstructions y: - log s(D(t)) - log(1 - s(D(y))), s the logistic function. The model's share is
    adversarial * (f(t) - f(y))^2 + encoder * (z - E(y))^2, means over numbers and batch. Its second term trains E as well,
    which is no judge but a part of the model: it brings code and second code of normal samples together from both sides.

    Targets are the samples where nothing corrupts them, and what should be made of them where something does: noise is
    nothing to learn from.

    Args:
        features: numbers in f.
        adversarial: weight of the features' distance.
        encoder: weight of the distance between code and second code.
        make_encoder: makes an encoder from the shape of an input and how many numbers to make.
        given: shape of a sample and of its reconstruction.
        size: numbers in a code.
    """

    def __init__(
        self,
        features: int,
        adversarial: float,
        encoder: float,
        make_encoder: MakeEncoder,
        given: tuple[int, ...],
        size: int,
    ) -> None:
        super().__init__()
        self.adversarial, self.encoder = adversarial, encoder
        self.features = make_encoder(given, features)
        self.logit = nn.Linear(features, 1)
        self.second = make_encoder(given, size)

    def loss(self, x: Tensor, y: Tensor, z: Tensor, target: Tensor) -> Tensor:
        """The discriminator's loss and the model's share, for reconstructions y in [0, 1] of targets, and their codes z."""
        wanted = self.features(target)
        own = logistic_loss(self.logit(wanted), self.logit(self.features(y.detach())))
        alike = F.mse_loss(frozen(self.features, y), wanted.detach())
        return own + self.adversarial * alike + self.encoder * F.mse_loss(self.second(y), z)

    def again(self, y: Tensor) -> Tensor:
        """The second code E(y), (n, size), of reconstructions."""
        code: Tensor = self.second(y)
        return code


def logistic_loss(real: Tensor, made: Tensor) -> Tensor:
    """What a discriminator pays for its logits: mean -log s(real) plus mean -log(1 - s(made))."""
    return mean_softplus(-real) + mean_softplus(made)


def mean_softplus(logits: Tensor) -> Tensor:
    """mean log(1 + exp(logits)) in 32 bits, also where logits come in 16."""
    return F.softplus(logits.float()).mean()


def frozen(module: nn.Module, x: Tensor) -> Tensor:
    """module(x), through which gradients go to x and not to the module."""
    answer: Tensor = functional_call(module, {name: value.detach() for name, value in module.named_parameters()}, (x,))
    return answer


KINDS = {"none": NoCritic, "aae": AdversarialCodeCritic, "ganomaly": GanomalyCritic}
