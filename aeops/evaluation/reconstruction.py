"""How near a reconstruction comes to its target. All values here lie in [0, 1]."""

import math

import numpy as np
from scipy.ndimage import gaussian_filter

from aeops.kinds.arrays import mse_per_image

SIGMA, TRUNCATE = 1.5, 3.5  # the Gaussian window of Wang et al. (2004)
RADIUS = int(TRUNCATE * SIGMA + 0.5)
C1, C2 = 0.01**2, 0.03**2  # their K1, K2 squared, for values that span 1
QUANTILE = 1.959964  # of the normal law, for 95 %
BLOCK = 4096  # images filtered at once: bounds the memory of the five filtered copies


def psnr(mse: float) -> float:
    """Peak signal-to-noise ratio in dB for a peak of 1, of a mean squared error over the whole set.

    Of the mean and not the mean of each image's: one perfect image would make that infinite, and this one tells the
    same story as the mean squared error beside it.
    """
    return math.inf if mse == 0 else -10 * math.log10(mse)


def ssim(target: np.ndarray, made: np.ndarray) -> float | None:
    """Mean structural similarity (Wang et al. 2004, IEEE TIP 13(4)) of images (n, c, h, w), in [-1, 1].

    Gaussian window of sigma 1.5, biased moments, borders that the window overlaps left out, mean over channels: what
    scikit-image computes for one image with `gaussian_weights=True, use_sample_covariance=False, data_range=1`, here
    for all images in one pass. None for images smaller than the window (11 x 11) and for series, where it is not defined.
    """
    if target.ndim != 4 or min(target.shape[-2:]) <= 2 * RADIUS:
        return None
    blocks = range(0, len(target), BLOCK)
    total = sum(float(ssim_map(target[at : at + BLOCK], made[at : at + BLOCK]).mean(axis=(1, 2, 3)).sum()) for at in blocks)
    return total / len(target)


def ssim_map(target: np.ndarray, made: np.ndarray) -> np.ndarray:
    """The similarity at each pixel that the window fits around, (n, c, h - 10, w - 10)."""
    x, y = target.astype(np.float64), made.astype(np.float64)
    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y, cov = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2, blur(x * y) - mean_x * mean_y
    likeness = (2 * mean_x * mean_y + C1) * (2 * cov + C2) / ((mean_x**2 + mean_y**2 + C1) * (var_x + var_y + C2))
    return np.asarray(likeness[..., RADIUS:-RADIUS, RADIUS:-RADIUS])


def blur(images: np.ndarray) -> np.ndarray:
    return np.asarray(gaussian_filter(images, SIGMA, truncate=TRUNCATE, axes=(-2, -1)))


def mean_interval(values: np.ndarray, groups: np.ndarray) -> tuple[float, float] | None:
    """The 95 % interval of the mean of values (n,) where samples of one group, (n,), belong together.

    The normal law with the variance of a ratio of totals over groups, as in cluster sampling (Cochran 1977, Sampling
    Techniques, section 9A.1); None below two groups.
    """
    _, place = np.unique(groups, return_inverse=True)
    sizes, sums = np.bincount(place), np.bincount(place, weights=values)
    count, mean = len(sizes), float(values.mean())
    if count < 2:
        return None
    spread = math.sqrt(count / (count - 1) * float(np.square(sums - mean * sizes).sum())) / len(values)
    return mean - QUANTILE * spread, mean + QUANTILE * spread


def reconstruction_metrics(target: np.ndarray, made: np.ndarray) -> dict[str, float | None]:
    """Mean squared error, PSNR in dB and structural similarity of all samples; None where it is not defined."""
    mse = float(mse_per_image(target, made).mean())
    return {"mse": mse, "psnr": psnr(mse), "ssim": ssim(target, made)}
