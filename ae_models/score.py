"""score: how foreign a sample is; higher is more foreign. Each module maps samples and reconstructions, both
(n, c, h, w) in [0, 1], to (n,)."""

import torch
from torch import Tensor, nn

# Added to both sums of squares, so that a blank sample has a score: below a 255th of one pixel's range, squared.
TINY = 1e-6


class NormalisedResidualScore(nn.Module):
    """log ||x - y||^2 - energy log ||x||^2.

    A residual grows with how much there is to reconstruct; energy = 1/2 takes half of that growth away.
    """

    def __init__(self, energy: float) -> None:
        super().__init__()
        self.energy = energy

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        residual, content = (torch.log(part.square().flatten(1).sum(1) + TINY) for part in (x - y, x))
        return residual - self.energy * content


KINDS = {"normalised-residual": NormalisedResidualScore}
