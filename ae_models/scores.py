"""Anomaly scores: the higher, the more anomalous. Each module maps the ModelOutput of n samples to (n,)."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from ae_models.blur import blur_axes, gaussian_kernel
from ae_models.corruptions import rgb_to_luma
from ae_models.model_output import ModelOutput
from ae_models.score_interface import ENERGY_FLOOR, Score, compute_by_member, log_energy, to_shares
from ae_models.score_samples import ScoreSamples
from ae_models.tokens import PADDING

if TYPE_CHECKING:
    from ae_models.autoencoder import Autoencoder

__all__ = [
    "AmbiguityScore",
    "CodeResidualScore",
    "DenoisingScore",
    "NormalisedResidualScore",
    "TokenSurpriseScore",
]


class NormalisedResidualScore(Score):
    """log ||B(x - y)||^2 - energy log ||x||^2, with the input x, its reconstruction y and a Gaussian blur B.

    A residual grows with how much there is to reconstruct; energy = 1/2 takes half of that growth away. An edge that is
    off by a pixel leaves a residual of both signs, which the blur cancels; a stroke that is missing stays. Where x has one
    channel and y three, y's luma is compared: a colouring against its grey input.

    Args:
        energy: share of the sample's own energy that is subtracted.
        blur: standard deviation of B in pixels (steps, in a series); values outside count as zero.
    """

    has_value_shares = True
    kernel: Tensor

    def __init__(self, energy: float, blur: float) -> None:
        super().__init__()
        self.energy = energy
        self.register_buffer("kernel", gaussian_kernel(blur), persistent=False)
        self.padding = len(self.kernel) // 2

    def score_member(self, output: ModelOutput) -> Tensor:
        x, y = output.inputs, output.reconstruction
        if (x.shape[1], y.shape[1]) == (1, 3):
            y = rgb_to_luma(y)
        residual_energy = log_energy(blur_axes(x - y, self.kernel, self.padding))
        input_energy = log_energy(x)
        return residual_energy - self.energy * input_energy

    def value_shares(self, output: ModelOutput) -> Tensor | None:
        return torch.stack(compute_by_member(_residual_shares, output)).mean(0)


def _residual_shares(output: ModelOutput) -> Tensor:
    return to_shares(output.inputs - output.reconstruction)


class CodeResidualScore(Score):
    """log ||z - z'||^2 between the code and that of the reconstruction (GANomaly, Akcay et al. 2018, equation 7, as log)."""

    def score_member(self, output: ModelOutput) -> Tensor:
        assert output.reconstruction_code is not None, "score code-residual needs a critic with a second encoder"
        return log_energy(output.latent - output.reconstruction_code)


class AmbiguityScore(Score):
    """Mean of -p log2 p - (1 - p) log2 (1 - p), in bits, 0 to 1, with p = sigmoid(output): how undecided the model is."""

    def score_member(self, output: ModelOutput) -> Tensor:
        # With u = |output| the entropy is log(1 + e^-u) + u sigmoid(-u) nats: two terms of one sign, so none is lost.
        magnitude = output.decoder_output.abs()
        entropy = F.softplus(-magnitude) + magnitude * torch.sigmoid(-magnitude)
        return entropy.flatten(1).mean(1) / math.log(2.0)


class TokenSurpriseScore(Score):
    """Mean of -log p over a text's own tokens, END among them, in nats a token; 0 for a text without tokens."""

    has_token_surprise = True

    def score_member(self, output: ModelOutput) -> Tensor:
        in_use = output.inputs != PADDING
        return _surprise_by_token(output).sum(1) / in_use.sum(1).clamp(min=1)

    def token_surprise(self, output: ModelOutput) -> Tensor:
        """Return -log p of each token, of an ensemble the mean over its members."""
        return torch.stack(compute_by_member(_surprise_by_token, output)).mean(0)


def _surprise_by_token(output: ModelOutput) -> Tensor:
    """Return -log p of each token, (n, tokens), and 0 for padding."""
    log_probabilities = output.decoder_output.log_softmax(1)
    own_tokens = log_probabilities.gather(1, output.inputs.unsqueeze(1)).squeeze(1)
    return -(own_tokens * (output.inputs != PADDING))


class DenoisingScore(Score):
    """log of the mean over noises n of ||B(D(x + n) - x)||^2, less energy log ||x||^2, with the model D.

    The noises are the same for every sample, so that a sample has one score.

    Args:
        draws: number of noises.
        energy: share of the sample's own energy that is subtracted.
        blur: standard deviation of B in pixels (steps, in a series).
    """

    noises: Tensor
    kernel: Tensor

    def __init__(self, draws: int, energy: float, blur: float) -> None:
        super().__init__()
        self.draws, self.energy = draws, energy
        self.register_buffer("kernel", gaussian_kernel(blur), persistent=False)
        self.register_buffer("noises", torch.zeros(0))

    def attach(self, autoencoder: "Autoencoder") -> None:
        self._run = autoencoder.run
        self._deviation = float(getattr(autoencoder.corrupt, "deviation"))  # noqa: B009  # the spec asks for gaussian noise
        self._shape = autoencoder.input_shape

    def fit(self, samples: ScoreSamples) -> None:
        generator = torch.Generator().manual_seed(samples.seed)
        self.noises = self._deviation * torch.randn((self.draws, *self._shape), generator=generator)

    def forward(self, output: ModelOutput) -> Tensor:
        x = output.inputs
        energies = []
        for noise in self.noises:
            noisy_output = self._run((x + noise).clamp(0.0, 1.0))
            for member in noisy_output.members or (noisy_output,):
                residual = blur_axes(member.reconstruction - x, self.kernel, len(self.kernel) // 2)
                energies.append(residual.square().flatten(1).sum(1))
        return torch.log(torch.stack(energies).mean(0) + ENERGY_FLOOR) - self.energy * log_energy(x)
