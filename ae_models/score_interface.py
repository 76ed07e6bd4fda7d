"""What a kind of score is, and what the kinds share."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ae_models.blur import blur_axes
from ae_models.model_output import ModelOutput
from ae_models.sample_sets import SampleArray
from ae_models.score_samples import ScoreSamples

if TYPE_CHECKING:
    from ae_models.autoencoder import Autoencoder

__all__ = ["ENERGY_FLOOR", "Score", "compute_by_member", "log_energy", "to_shares", "to_vectors"]

# Added to sums of squares, so that a blank sample has a score: below a 255th of one pixel's range, squared.
ENERGY_FLOOR = 1e-6
_TINY = 1e-30


class Score(nn.Module):
    """An anomaly score: the higher, the more anomalous. Its constructor takes the fields of its spec as keyword arguments.

    What it learns of samples is in its persistent buffers, which a bundle stores.

    Attributes:
        has_pixel_map: whether `pixel_map` returns one.
        has_value_shares: whether `value_shares` returns values.
        has_token_surprise: whether `token_surprise` returns values: of scores of texts.
    """

    has_pixel_map: bool = False
    has_value_shares: bool = False
    has_token_surprise: bool = False

    def forward(self, output: ModelOutput) -> Tensor:
        """Return the scores of n samples, (n,): of an ensemble the mean over its members."""
        scores = compute_by_member(self.score_member, output)
        return torch.stack(scores).mean(0) if len(scores) > 1 else scores[0]

    def score_member(self, output: ModelOutput) -> Tensor:
        """Return the scores of n samples by one model, (n,)."""
        raise NotImplementedError

    def attach(self, autoencoder: "Autoencoder") -> None:
        """Take the model, for a kind that runs it again; called once, before `fit` and `forward`."""

    def fit(self, samples: ScoreSamples) -> None:
        """Learn what the score needs to know of normal samples; called once, before the threshold is chosen.

        Args:
            samples: normal samples for training and validation, none of which calibrates or tests.

        Raises:
            SpecError: too few of them.
        """

    def learnt_facts(self) -> dict[str, Any]:
        """Return what was learnt, for bundle.json, reports and cards; JSON-ready."""
        return {}

    def nearest(self, output: ModelOutput) -> Tensor | None:
        """Return the place of each sample's nearest normal sample among `bank_samples`, (n,) int64; None without a bank."""
        return None

    def bank_samples(self) -> SampleArray | None:
        """Return the raw samples of the bank, (rows, ...), for explanations; None without a bank of samples."""
        return None

    def pixel_map(self, output: ModelOutput) -> Tensor | None:
        """Return how far each pixel is from normal, (n, h, w), 0 or more; None for a kind that says nothing of pixels."""
        return None

    def value_shares(self, output: ModelOutput) -> Tensor | None:
        """Return the share of each number of the encoder's input in the score, (n, numbers), which sum to 1 for a sample.

        None for a kind that says nothing of single numbers.
        """
        return None

    def token_surprise(self, output: ModelOutput) -> Tensor | None:
        """Return -log p of each token of a text, (n, tokens) in nats, and 0 for padding; None without `has_token_surprise`."""
        return None

    def part_names(self) -> tuple[str, ...]:
        """Return the kinds of the scores that `part_scores` returns; empty for a single score."""
        return ()

    def part_scores(self, output: ModelOutput) -> Tensor | None:
        """Return the standardised score of each part, (n, parts), of which the score is made; None for a single score."""
        return None

    def stored_arrays(self) -> dict[str, SampleArray]:
        """Return the arrays that `load_arrays` needs, by the names of their buffers."""
        return {name: np.ascontiguousarray(values.numpy()) for name, values in self.state_dict().items()}

    def load_arrays(self, arrays: Mapping[str, SampleArray]) -> None:
        """Restore the buffers of `stored_arrays`, whatever their shapes.

        Raises:
            KeyError: an array is missing or unknown.
        """
        if arrays.keys() != self.state_dict().keys():
            raise KeyError(f"expected the arrays {sorted(self.state_dict())}, got {sorted(arrays)}")
        for name, values in arrays.items():
            path, _, buffer = name.rpartition(".")
            self.get_submodule(path).register_buffer(buffer, torch.from_numpy(values.copy()))


def compute_by_member(function: Callable[[ModelOutput], Tensor], output: ModelOutput) -> list[Tensor]:
    """Return what a function computes of each member of an ensemble, or of the one model."""
    return list(map(function, output.members or (output,)))


def to_shares(residuals: Tensor) -> Tensor:
    """Return the shares of a sample's numbers in the sum of their squares, (n, numbers), of residuals (n, ...)."""
    squares = residuals.flatten(1).square()
    return squares / (squares.sum(1, keepdim=True) + _TINY)


def to_vectors(inputs: Tensor, kernel: Tensor, pool: int, level: float) -> Tensor:
    """Return samples as scores without a network compare them, (n, numbers).

    Args:
        inputs: (n, channels, ...), or rows of numbers (n, numbers) with the kernel (1,), pool 1 and level 0.
        kernel: of the blur, (taps,).
        pool: pixels a side (steps) of which the mean is taken after the blur.
        level: share of each channel's mean over the sample that is subtracted before the blur.
    """
    x = inputs
    if level:
        x = x - level * x.mean(list(range(2, x.dim())), keepdim=True)
    x = blur_axes(x, kernel, len(kernel) // 2)
    if pool > 1:
        average = F.avg_pool2d if x.dim() == 4 else F.avg_pool1d
        x = average(x, pool)
    return x.flatten(1)


def log_energy(values: Tensor) -> Tensor:
    """Return the logarithm of each sample's sum of squares, (n,)."""
    return torch.log(values.square().flatten(1).sum(1) + ENERGY_FLOOR)
