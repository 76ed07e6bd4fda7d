"""Images as histograms of the directions in which their brightness changes, which a score compares instead of pixels.

Histograms of oriented gradients: Dalal and Triggs 2005. Their square roots: Arandjelovic and Zisserman 2012.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ae_models.blur import blur_axes, gaussian_kernel
from ae_models.tangents import MOVES, tangent_vectors

__all__ = ["OrientationHistograms"]

_DIRECTIONS = 8  # of a histogram, 45 degrees apart
_WINDOW_DEVIATION = 0.5  # standard deviation of a cell's Gaussian window, in sides of a cell: neighbouring cells overlap
# Added to a histogram, in shares of the value range a pixel: less change than this is noise, and blank images are all alike.
_NOISE = 1e-4
_MOVE = 0.5  # pixels, of a tangent
_TINY = 1e-12  # keeps the direction of no change finite


class OrientationHistograms(nn.Module):
    """The square roots of an image's histograms of gradient orientations, scaled to length one.

    A pixel counts in each of 8 directions by the length of its gradient times the fourth power of the cosine between both, where
    that is positive. The histogram of a cell is the sum over a Gaussian window at its middle. So neither the level nor the
    contrast of an image matters, and an edge may lie half a cell away.

    Args:
        shape: of an image, (c, h, w).
        blur: standard deviation of a Gaussian before the gradient, in pixels.
        cell: side of a cell in pixels; an axis of h pixels has h / cell cells, rounded, and one at least.
    """

    kernel: Tensor
    row_windows: Tensor
    column_windows: Tensor

    def __init__(self, shape: Sequence[int], blur: float, cell: int) -> None:
        super().__init__()
        self.channels, self.height, self.width = shape
        self.register_buffer("kernel", gaussian_kernel(blur), persistent=False)
        self.register_buffer("row_windows", _cell_windows(self.height, cell), persistent=False)
        self.register_buffer("column_windows", _cell_windows(self.width, cell), persistent=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The numbers of an image: (c * 8, rows of cells, columns of cells)."""
        return self.channels * _DIRECTIONS, len(self.row_windows), len(self.column_windows)

    def forward(self, x: Tensor) -> Tensor:
        """Return the vectors of images (n, c, h, w) in [0, 1]: (n, numbers)."""
        return self._vectors(self._blur(x))

    def tangents(self, x: Tensor) -> Tensor:
        """Return how the vectors change when the images are moved a little, as `tangent_vectors` moves them: (n, 6, numbers).

        They are differences to images that are moved by half a pixel, where a move grows towards the sides at their ends.
        """
        smooth = self._blur(x)
        moves = tangent_vectors(smooth).reshape(-1, self.channels, self.height, self.width)
        at_rest = self._vectors(smooth).unsqueeze(1)
        moved = self._vectors(smooth.repeat_interleave(MOVES, 0) + _MOVE * moves)
        return moved.reshape(-1, MOVES, math.prod(self.shape)) - at_rest

    def to_map(self, values: Tensor) -> Tensor:
        """Return values of the vectors' numbers, (n, numbers), as images (n, h, w): sums of a cell, interpolated bilinearly."""
        sums = values.reshape(-1, *self.shape).sum(1, keepdim=True)
        return F.interpolate(sums, [self.height, self.width], mode="bilinear", align_corners=False).squeeze(1)

    def _blur(self, x: Tensor) -> Tensor:
        reach = len(self.kernel) // 2
        return blur_axes(F.pad(x, [reach] * 4, mode="replicate"), self.kernel, 0)

    def _vectors(self, x: Tensor) -> Tensor:
        padded = F.pad(x, [1] * 4, mode="replicate")
        down = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
        right = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
        length = torch.sqrt(down.square() + right.square() + _TINY)
        down, right = down / length, right / length
        histograms, opposite = [], []
        for direction in range(_DIRECTIONS // 2):  # one after the other, which takes an eighth of the memory
            cosine = _cosine_to(2 * math.pi * direction / _DIRECTIONS, right, down)
            histograms.append(self._sum_cells(F.relu(cosine), length))
            opposite.append(self._sum_cells(F.relu(-cosine), length))
        return F.normalize(torch.sqrt(torch.stack(histograms + opposite, 2) + _NOISE).flatten(1), dim=1)

    def _sum_cells(self, cosine: Tensor, length: Tensor) -> Tensor:
        """Return one direction's numbers of each cell, (n, c, rows, columns).

        Args:
            cosine: between each pixel's gradient and the direction, (n, c, h, w), 0 where it is negative.
            length: of the gradients.
        """
        sums: Tensor = self.row_windows @ (cosine.square().square() * length) @ self.column_windows.T
        return sums


def _cosine_to(angle: float, right: Tensor, down: Tensor) -> Tensor:
    """Return the cosine between unit vectors and a direction; along an axis it is one of their two parts."""
    cosine, sine = math.cos(angle), math.sin(angle)
    if abs(sine) < _TINY:
        return right
    if abs(cosine) < _TINY:
        return down
    return cosine * right + sine * down


def _cell_windows(side: int, cell: int) -> Tensor:
    """Return the weights of an axis's pixels in each of its cells, (cells, side); without the border they would sum to one."""
    count = max(1, round(side / cell))
    width = side / count
    middles = (torch.arange(count, dtype=torch.float64) + 0.5) * width - 0.5
    deviation = _WINDOW_DEVIATION * width
    distances = (torch.arange(side, dtype=torch.float64) - middles[:, None]) / deviation
    return (torch.exp(-0.5 * distances.square()) / (deviation * math.sqrt(2 * math.pi))).float()
