"""score: how foreign a sample is; higher is more foreign. Each module maps an Answer on n samples to (n,)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ae_models.answer import Answer
from ae_models.blur import blurred, gaussian
from ae_models.corrupt import luma
from ae_models.tokens import PADDING

# Added to sums of squares, so that a blank sample has a score: below a 255th of one pixel's range, squared.
TINY = 1e-6


class NormalisedResidualScore(nn.Module):
    """log ||B(x - y)||^2 - energy log ||x||^2, with x what was given, y what was made of it, B a Gaussian blur.

    A residual grows with how much there is to reconstruct; energy = 1/2 takes half of that growth away. An edge that is
    off by a pixel leaves a residual of both signs, which the blur cancels; a stroke that is missing stays. Where x has one
    channel and y three, y's luma is compared: what a colouring did to the grey that it was given.

    Args:
        energy: share of the sample's own energy that is taken away.
        blur: standard deviation of B in pixels (steps, in a series); what lies outside counts as zero.
    """

    kernel: Tensor

    def __init__(self, energy: float, blur: float) -> None:
        super().__init__()
        self.energy = energy
        self.register_buffer("kernel", gaussian(blur), persistent=False)
        self.reach = len(self.kernel) // 2

    def forward(self, answer: Answer) -> Tensor:
        x, y = answer.given, answer.made
        if (x.shape[1], y.shape[1]) == (1, 3):
            y = luma(y)
        residual, content = log_energy(blurred(x - y, self.kernel, self.reach)), log_energy(x)
        return residual - self.energy * content


class CodeResidualScore(nn.Module):
    """log ||z - z'||^2 between the code and that of the reconstruction (GANomaly, Akcay et al. 2018, equation 7, as log)."""

    def forward(self, answer: Answer) -> Tensor:
        assert answer.again is not None, "score code-residual needs a critic that encodes again"
        return log_energy(answer.code - answer.again)


def log_energy(values: Tensor) -> Tensor:
    """log of each sample's sum of squares, (n,)."""
    return torch.log(values.square().flatten(1).sum(1) + TINY)


class AmbiguityScore(nn.Module):
    """Mean of -p log2 p - (1 - p) log2 (1 - p), in bits, 0 to 1, with p = sigmoid(raw): how undecided the model is."""

    def forward(self, answer: Answer) -> Tensor:
        # With u = |raw| the entropy is log(1 + e^-u) + u sigmoid(-u) nats: two terms of one sign, so none is lost.
        sure = answer.raw.abs()
        nats = F.softplus(-sure) + sure * torch.sigmoid(-sure)
        return nats.flatten(1).mean(1) / math.log(2.0)


class TokenSurpriseScore(nn.Module):
    """Mean of -log p over a text's own tokens, its end's among them, in nats a token; 0 for a text without tokens."""

    def forward(self, answer: Answer) -> Tensor:
        own = answer.raw.log_softmax(1).gather(1, answer.given.unsqueeze(1)).squeeze(1)
        used = answer.given != PADDING
        return -(own * used).sum(1) / used.sum(1).clamp(min=1)


KINDS = {
    "normalised-residual": NormalisedResidualScore,
    "code-residual": CodeResidualScore,
    "ambiguity": AmbiguityScore,
    "token-surprise": TokenSurpriseScore,
}
