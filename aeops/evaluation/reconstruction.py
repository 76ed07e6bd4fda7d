"""Errors and similarity of reconstructions and their targets. All values here lie in [0, 1]."""

import math

import numpy as np
from scipy.ndimage import uniform_filter

from aeops.kinds.arrays import mse_per_image

WINDOW = 7  # pixels a side, all of one weight: scikit-image's default, and the window of the reference in docs/recipes
BORDER = WINDOW // 2  # pixels at each edge that the window does not fit around
C1, C2 = 0.01**2, 0.03**2  # their K1, K2 squared, for values that span 1
BLOCK_ROWS = 4096  # images filtered at once: bounds the memory of the five filtered copies


def psnr(mse: float) -> float:
    """Return the peak signal-to-noise ratio in dB for a peak of 1, of a mean squared error over the whole set.

    It is not the mean over images: one perfect image would make that infinite, and this one ranks models as the mean
    squared error does.
    """
    if mse == 0:
        return math.inf
    return -10 * math.log10(mse)


def ssim(target: np.ndarray, output: np.ndarray) -> float | None:
    """Return the mean structural similarity (Wang et al. 2004, IEEE TIP 13(4)) of images (n, c, h, w), in [-1, 1].

    Uniform window of 7 x 7 pixels, unbiased moments, borders that the window overlaps left out, mean over channels: as
    scikit-image computes for one image with `data_range=1` and its defaults, here for all images in one pass. The paper's
    Gaussian window of 11 x 11 gives higher values on noisy images: 0.41 instead of 0.38 for MNIST with noise of deviation 0.5.

    Returns:
        None for images smaller than the window and for series, where it is not defined.
    """
    if target.ndim != 4 or min(target.shape[-2:]) < WINDOW:
        return None
    total = 0.0
    for start in range(0, len(target), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        total += float(_ssim_map(target[block], output[block]).mean(axis=(1, 2, 3)).sum())
    return total / len(target)


def _ssim_map(target: np.ndarray, output: np.ndarray) -> np.ndarray:
    """Return the similarity at each pixel that the window fits around, (n, c, h - 6, w - 6)."""
    x, y = target.astype(np.float64), output.astype(np.float64)
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    unbiased = WINDOW**2 / (WINDOW**2 - 1)
    var_x, var_y = unbiased * (_window_mean(x * x) - mean_x**2), unbiased * (_window_mean(y * y) - mean_y**2)
    cov_xy = unbiased * (_window_mean(x * y) - mean_x * mean_y)
    pixel_similarity = (2 * mean_x * mean_y + C1) * (2 * cov_xy + C2) / ((mean_x**2 + mean_y**2 + C1) * (var_x + var_y + C2))
    return np.asarray(pixel_similarity[..., BORDER:-BORDER, BORDER:-BORDER])


def _window_mean(images: np.ndarray) -> np.ndarray:
    return np.asarray(uniform_filter(images, WINDOW, axes=(-2, -1)))


def reconstruction_metrics(target: np.ndarray, output: np.ndarray) -> dict[str, float | None]:
    """Return the mean squared error, PSNR in dB and structural similarity of all samples; None where it is not defined."""
    mse = float(mse_per_image(target, output).mean())
    return {"mse": mse, "psnr": psnr(mse), "ssim": ssim(target, output)}
