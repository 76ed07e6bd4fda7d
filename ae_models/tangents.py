"""How an image changes when it is moved a little: its tangents, for scores that do not count such a change as a difference.

Tangent distance: Simard, LeCun and Denker 1993.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["MOVES", "tangent_vectors"]

MOVES = 6  # shifts along both axes, rotation, scale and shears


def tangent_vectors(x: Tensor) -> Tensor:
    """Return the derivatives of images by small affine moves: shifts, rotation, scale and shears.

    They are the products of the two parts of the gradient with 1, x and y, which span the same moves. The gradient is that of
    differences between neighbouring pixels, so an image has to be smooth: a blur of one pixel is enough.

    Args:
        x: (n, c, h, w); outside, pixels count as zero.

    Returns:
        (n, 6, c * h * w); x and y are 0 in the middle and 1 at the end of the longer side.
    """
    padded = F.pad(x, (1, 1, 1, 1))
    down = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    right = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    rows, columns = _coordinates(*x.shape[2:])
    moved = [right, down, columns * right, rows * right, columns * down, rows * down]
    return torch.stack(moved, 1).flatten(2)


def _coordinates(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the row and the column of each pixel from the middle, in halves of the longer side: (h, 1) and (1, w)."""
    half = max(height, width) / 2
    rows = (torch.arange(height) - (height - 1) / 2) / half
    columns = (torch.arange(width) - (width - 1) / 2) / half
    return rows[:, None], columns[None, :]
