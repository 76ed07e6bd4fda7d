"""Augmentations: random variation of training images. Each module maps (n, c, h, w) in [0, 1] to the same shape.

They act in training only and before everything else, so the clean target is the augmented sample. Random numbers are drawn on
the samples' device from torch's global generator, which the training seeds at each step.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ae_models.batch_share import draw_rows

__all__ = ["AUGMENTATIONS", "AffineAugmentation", "FlipAugmentation", "NoAugmentation"]


class NoAugmentation(nn.Module):
    """The identity."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class AffineAugmentation(nn.Module):
    """Shifts, rotates and scales each image by amounts drawn uniformly between minus and plus the maximum; borders fill with 0.

    Args:
        shift: maximum in pixels, in each direction.
        rotation: maximum in degrees.
        scale: maximum share of the size, larger or smaller.
    """

    def __init__(self, shift: float, rotation: float, scale: float) -> None:
        super().__init__()
        self.shift, self.rotation, self.scale = shift, math.radians(rotation), scale

    def forward(self, x: Tensor) -> Tensor:
        grid = F.affine_grid(self.sample_matrices(x), list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)

    def sample_matrices(self, x: Tensor) -> Tensor:
        """Return one random 2x3 matrix a sample, (n, 2, 3), in affine_grid's units: the image's sides are [-1, 1]."""
        n, _, height, width = x.shape
        draws = draw_rows(n, lambda rows: torch.empty(4, rows, device=x.device).uniform_(-1.0, 1.0), axis=1)
        turn, size, right, down = draws
        cosine = (1 + self.scale * size) * torch.cos(self.rotation * turn)
        sine = (1 + self.scale * size) * torch.sin(self.rotation * turn)
        right, down = 2 * self.shift / width * right, 2 * self.shift / height * down
        # A rotation keeps its angle only in pixels: where the sides differ, so do their units.
        entries = (cosine, -sine * (height / width), right, sine * (width / height), cosine, down)
        return torch.stack(entries, dim=1).view(n, 2, 3)


class FlipAugmentation(nn.Module):
    """Each image or its mirror image, left to right, with equal chance."""

    def forward(self, x: Tensor) -> Tensor:
        mirror_mask = draw_rows(len(x), lambda rows: torch.rand(rows, 1, 1, 1, device=x.device)) < 0.5
        return torch.where(mirror_mask, x.flip(-1), x)


AUGMENTATIONS = {"none": NoAugmentation, "affine": AffineAugmentation, "flip": FlipAugmentation}
