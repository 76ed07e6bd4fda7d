"""score: how foreign a sample is; higher is more foreign. Each module maps samples and reconstructions, both
(n, c, h, w) in [0, 1], to (n,)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Added to both sums of squares, so that a blank sample has a score: below a 255th of one pixel's range, squared.
TINY = 1e-6


REACH = 3  # standard deviations to which a blur's kernel goes


class NormalisedResidualScore(nn.Module):
    """log ||B(x - y)||^2 - energy log ||x||^2, with B a Gaussian blur of standard deviation `blur` pixels.

    A residual grows with how much there is to reconstruct; energy = 1/2 takes half of that growth away. An edge that is
    off by a pixel leaves a residual of both signs, which the blur cancels; a stroke that is missing stays.
    """

    kernel: Tensor

    def __init__(self, energy: float, blur: float) -> None:
        super().__init__()
        self.energy = energy
        self.register_buffer("kernel", gaussian(blur), persistent=False)
        self.reach = len(self.kernel) // 2

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        residual, content = (torch.log(part.square().flatten(1).sum(1) + TINY) for part in (self.blurred(x - y), x))
        return residual - self.energy * content

    def blurred(self, d: Tensor) -> Tensor:
        """Each channel blurred along height, then width; what lies outside counts as zero."""
        n, c, h, w = d.shape
        d = d.reshape(n * c, 1, h, w)
        d = F.conv2d(d, self.kernel.view(1, 1, -1, 1), padding=(self.reach, 0))
        return F.conv2d(d, self.kernel.view(1, 1, 1, -1), padding=(0, self.reach)).reshape(n, c, h, w)


def gaussian(deviation: float) -> Tensor:
    """A Gaussian kernel that sums to one, (2 REACH deviation + 1,); a deviation of 0 gives the kernel that changes nothing."""
    reach = math.ceil(REACH * deviation)
    distance = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (distance / deviation) ** 2) if reach else torch.ones(1, dtype=torch.float64)
    return (weights / weights.sum()).float()


KINDS = {"normalised-residual": NormalisedResidualScore}
