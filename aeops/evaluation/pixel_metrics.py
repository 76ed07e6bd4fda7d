"""How well maps of anomaly mark the defects of images, by masks: AUROC of pixels, and the per-region overlap (AUPRO)."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import generate_binary_structure, label

FALSE_POSITIVE_RATE = 0.3  # up to which AUPRO integrates
EIGHT_NEIGHBOURS = generate_binary_structure(2, 2)  # pixels that touch at a corner are of one region


@dataclass(frozen=True)
class DefectRegions:
    """The connected regions of masks.

    Attributes:
        is_defect: bool (pixels,), of all images in order.
        weights: (pixels,) of each defect pixel one over the number of pixels of its region, else 0.
        count: of the regions.
    """

    is_defect: np.ndarray
    weights: np.ndarray
    count: int


def find_regions(masks: np.ndarray) -> DefectRegions:
    """Return the regions of masks, bool (n, h, w): pixels of one image that touch, also at corners."""
    weights, count = np.zeros(masks.shape), 0
    for mask, mask_weights in zip(masks, weights, strict=True):
        numbered, regions = label(mask, EIGHT_NEIGHBOURS)
        sizes = np.bincount(numbered.ravel(), minlength=regions + 1).astype(np.float64)
        sizes[0] = np.inf  # what is no region
        mask_weights[:] = 1 / sizes[numbered]
        count += regions
    return DefectRegions(masks.ravel().astype(bool), weights.ravel(), count)


def pixel_auroc(maps: np.ndarray, masks: np.ndarray) -> float | None:
    """Return the AUROC of pixels; None where none is good, or none is a defect.

    Args:
        maps: (n, h, w), higher is more anomalous.
        masks: bool (n, h, w), of defects.
    """
    is_defect = masks.ravel()
    defects = int(is_defect.sum())
    if defects in (0, len(is_defect)):
        return None
    false_rates, true_rates = _curve(maps, is_defect.astype(np.float64) / defects, is_defect)
    return float(np.trapezoid(true_rates, false_rates))


def aupro(maps: np.ndarray, masks: np.ndarray, limit: float = FALSE_POSITIVE_RATE) -> float | None:
    """Return the area under the per-region overlap up to a false-positive rate, divided by that rate: 1 is perfect.

    At a threshold, the overlap is the share of a region's pixels that are above it, and its mean over all regions counts small
    defects as much as large ones; the false-positive rate is the share of good pixels above it, in all images (Bergmann et al.
    2021, "The MVTec anomaly detection dataset", IJCV 129, section 5.2). Exact: every value of the maps is a threshold, equal
    values are crossed at once, and the curve is linear between two. A constant map has limit / 2.

    Args:
        maps: (n, h, w), higher is more anomalous.
        masks: bool (n, h, w), of defects.
        limit: above 0, at most 1.

    Returns:
        From 0 to 1; None where there is no region, or no good pixel.
    """
    regions = find_regions(masks)
    if regions.count == 0 or regions.is_defect.all():
        return None
    false_rates, overlaps = _curve(maps, regions.weights / regions.count, regions.is_defect)
    inside = false_rates < limit
    overlap_at_limit = np.interp(limit, false_rates, overlaps)
    area = np.trapezoid(np.append(overlaps[inside], overlap_at_limit), np.append(false_rates[inside], limit))
    return float(area / limit)


def _curve(maps: np.ndarray, weights: np.ndarray, is_defect: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of good pixels and the summed weights above each threshold, from the highest one down; both begin at 0.

    A false-positive rate that stands several times, as the first pixels of a map may all be defects, is followed upwards.
    """
    values = maps.ravel()
    order = np.argsort(-values, kind="stable")
    last_equal = np.flatnonzero(np.diff(values[order], append=-np.inf))  # of equal values all are above a threshold or none
    good = np.cumsum(~is_defect[order])[last_equal] / max(1, int((~is_defect).sum()))
    gains = np.cumsum(weights[order])[last_equal]
    return np.concatenate([[0.0], good]), np.concatenate([[0.0], gains])
