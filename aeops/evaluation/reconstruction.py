"""Errors and similarity of reconstructions and their targets. All values here lie in [0, 1]."""

import math

import numpy as np
from scipy.ndimage import uniform_filter

from aeops.evaluation.sample_blocks import rows_of_blocks, sample_values
from aeops.kinds.arrays import mse_per_image

WINDOW = 7  # pixels a side, all of one weight: scikit-image's default, and the window of the reference in docs/recipes
BORDER = WINDOW // 2  # pixels at each edge that the window does not fit around
C1, C2 = 0.01**2, 0.03**2  # their K1, K2 squared, for values that span 1
SUMMED_ROWS = 4096  # similarities that are added up before they join the total: a sum's order decides its last digits


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
    if not has_ssim(target.shape):
        return None
    return mean_similarity(ssim_of_images(target, output))


def has_ssim(shape: tuple[int, ...]) -> bool:
    """Return whether the structural similarity of samples (n, ...) is defined."""
    return len(shape) == 4 and min(shape[-2:]) >= WINDOW


def ssim_of_images(target: np.ndarray, output: np.ndarray) -> np.ndarray:
    """Return the structural similarity of each image, float64 (n,); images are filtered some at a time."""
    similarities = np.empty(len(target))
    for rows in rows_of_blocks(len(target), sample_values(target)):
        similarities[rows] = _ssim_map(target[rows], output[rows]).mean(axis=(1, 2, 3))
    return similarities


def mean_similarity(similarities: np.ndarray) -> float:
    """Return the mean of the similarities of images, (n,)."""
    total = 0.0
    for start in range(0, len(similarities), SUMMED_ROWS):
        total += float(similarities[start : start + SUMMED_ROWS].sum())
    return total / len(similarities)


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
