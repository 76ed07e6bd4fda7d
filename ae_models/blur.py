"""Gaussian blur along each axis of images and series: what a score and structural similarity share."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

REACH = 3  # standard deviations to which a blur's kernel goes


def gaussian(deviation: float) -> Tensor:
    """A Gaussian kernel that sums to one, (2 ceil(REACH deviation) + 1,); a deviation of 0 gives the one that changes nothing."""
    reach = math.ceil(REACH * deviation)
    distance = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (distance / deviation) ** 2) if reach else torch.ones(1, dtype=torch.float64)
    return (weights / weights.sum()).float()


def blurred(d: Tensor, kernel: Tensor, padding: int) -> Tensor:
    """Each channel of (n, c, h, w) or (n, c, t) filtered with `kernel` along each axis.

    Args:
        d: images or series.
        kernel: (taps,), an odd number of them.
        padding: zeros taken in beyond each border; taps // 2 keeps the size, 0 leaves only what the kernel wholly covers.
    """
    if len(kernel) == 1:
        return d
    n, c, *sides = d.shape
    d = d.reshape(n * c, 1, *sides)
    if len(sides) == 1:
        d = F.conv1d(d, kernel.view(1, 1, -1), padding=padding)
    else:
        d = F.conv2d(d, kernel.view(1, 1, -1, 1), padding=(padding, 0))
        d = F.conv2d(d, kernel.view(1, 1, 1, -1), padding=(0, padding))
    return d.reshape(n, c, *d.shape[2:])
