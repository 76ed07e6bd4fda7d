"""Gaussian blur along each axis of images and series, which a score and structural similarity share."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["blur_axes", "gaussian_kernel"]

_REACH_SIGMAS = 3  # standard deviations to which a blur's kernel goes


def gaussian_kernel(deviation: float) -> Tensor:
    """Return a Gaussian kernel that sums to one.

    Args:
        deviation: standard deviation in pixels or steps; 0 gives the kernel that changes nothing.

    Returns:
        (2 ceil(3 deviation) + 1,) float32.
    """
    radius = math.ceil(_REACH_SIGMAS * deviation)
    if radius == 0:
        return torch.ones(1)
    distance = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (distance / deviation) ** 2)
    return (weights / weights.sum()).float()


def blur_axes(x: Tensor, kernel: Tensor, padding: int) -> Tensor:
    """Filter each channel of (n, c, h, w) or (n, c, t) with a kernel along each axis.

    Args:
        x: images or series.
        kernel: (taps,), an odd number of them.
        padding: zeros added beyond each border; taps // 2 keeps the size, 0 leaves only what the kernel wholly covers.
    """
    if len(kernel) == 1:
        return x
    n, c, *sides = x.shape
    x = x.reshape(n * c, 1, *sides)
    if len(sides) == 1:
        x = F.conv1d(x, kernel.view(1, 1, -1), padding=padding)
    else:
        x = F.conv2d(x, kernel.view(1, 1, -1, 1), padding=(padding, 0))
        x = F.conv2d(x, kernel.view(1, 1, 1, -1), padding=(0, padding))
    return x.reshape(n, c, *x.shape[2:])
