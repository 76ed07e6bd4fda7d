"""augment: what else a training sample could have been. Each module maps images (n, c, h, w) in [0, 1] to the same shape.

Applied before the sentence, in training only, so the clean target is the augmented sample. Drawn on the samples' device
from torch's global generator, which the training seeds at each step.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class NoAugment(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


class AffineAugment(nn.Module):
    """Shifts, turns and scales each image by amounts drawn uniformly from +- the most; what comes in from outside is 0.

    Args:
        shift: most pixels, in each direction.
        rotation: most degrees.
        scale: most share of the size, larger or smaller.
    """

    def __init__(self, shift: float, rotation: float, scale: float) -> None:
        super().__init__()
        self.shift, self.rotation, self.scale = shift, math.radians(rotation), scale

    def forward(self, x: Tensor) -> Tensor:
        grid = F.affine_grid(self.maps(x), list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)

    def maps(self, x: Tensor) -> Tensor:
        """One 2x3 matrix a sample, in affine_grid's units: the image's sides are [-1, 1]."""
        n, _, height, width = x.shape
        turn, size, right, down = torch.empty(4, n, device=x.device).uniform_(-1.0, 1.0)
        cosine, sine = ((1 + self.scale * size) * f(self.rotation * turn) for f in (torch.cos, torch.sin))
        right, down = 2 * self.shift / width * right, 2 * self.shift / height * down
        # A turn keeps its angle only in pixels: where the sides differ, so do their units.
        rows = (cosine, -sine * (height / width), right, sine * (width / height), cosine, down)
        return torch.stack(rows, dim=1).view(n, 2, 3)


class FlipAugment(nn.Module):
    """Each image or its mirror image, left to right, with equal chance."""

    def forward(self, x: Tensor) -> Tensor:
        mirrored = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
        return torch.where(mirrored, x.flip(-1), x)


KINDS = {"none": NoAugment, "affine": AffineAugment, "flip": FlipAugment}
