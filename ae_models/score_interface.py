"""What a kind of score is, and what the kinds share."""

import torch
from torch import Tensor, nn

from ae_models.model_output import ModelOutput

__all__ = ["ENERGY_FLOOR", "Score", "log_energy"]

# Added to sums of squares, so that a blank sample has a score: below a 255th of one pixel's range, squared.
ENERGY_FLOOR = 1e-6


class Score(nn.Module):
    """An anomaly score: the higher, the more anomalous. Its constructor takes the fields of its spec as keyword arguments.

    What it learns of samples is in its buffers; a bundle stores those that are persistent.
    """

    def forward(self, output: ModelOutput) -> Tensor:
        """Return the scores of n samples, (n,): of an ensemble the mean over its members."""
        members = output.members or (output,)
        scores = [self.score_member(member) for member in members]
        return torch.stack(scores).mean(0) if len(scores) > 1 else scores[0]

    def score_member(self, output: ModelOutput) -> Tensor:
        """Return the scores of n samples by one model, (n,)."""
        raise NotImplementedError


def log_energy(values: Tensor) -> Tensor:
    """Return the logarithm of each sample's sum of squares, (n,)."""
    return torch.log(values.square().flatten(1).sum(1) + ENERGY_FLOOR)
