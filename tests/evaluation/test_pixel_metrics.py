"""AUPRO and AUROC of pixels: beside a slow implementation and scikit-learn's, and cases whose answer is known."""

import itertools

import numpy as np
import pytest
from scipy.ndimage import label
from sklearn.metrics import roc_auc_score

from aeops.evaluation.pixel_metrics import aupro, find_regions, pixel_auroc


def slow_aupro(maps: np.ndarray, masks: np.ndarray, limit: float) -> float:
    """AUPRO by a loop over all thresholds and all regions, the curve cut at the limit by interpolation."""
    regions = []
    for row, mask in enumerate(masks):
        numbered, count = label(mask, np.ones((3, 3)))
        regions += [(row, numbered == number) for number in range(1, count + 1)]
    points = [(0.0, 0.0)]
    for threshold in sorted(set(maps.ravel().tolist()), reverse=True):
        above = maps >= threshold
        false_rate = float(above[~masks].mean())
        points.append((false_rate, float(np.mean([above[row][region].mean() for row, region in regions]))))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 >= limit:
            break
        if x1 > limit:
            y1 = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            x1 = limit
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Maps with many equal values and masks with large, small and touching regions, (6, 14, 11)."""
    draw = np.random.default_rng(0)
    masks = draw.random((6, 14, 11)) > 0.9
    masks[1, 3:9, 2:6] = True
    masks[4] = False
    maps = np.round(draw.random((6, 14, 11)) + 0.4 * masks, 1)
    return maps, masks


@pytest.mark.parametrize("limit", [0.05, 0.3, 0.77, 1.0])
def test_the_overlap_is_that_of_a_slow_loop(drawn: tuple[np.ndarray, np.ndarray], limit: float) -> None:
    maps, masks = drawn
    assert aupro(maps, masks, limit) == pytest.approx(slow_aupro(maps, masks, limit), abs=1e-12)


def test_the_overlap_of_finer_maps_is_that_of_a_slow_loop() -> None:
    draw = np.random.default_rng(1)
    masks = np.zeros((3, 9, 9), bool)
    masks[0, 2:5, 2:5] = masks[0, 7, 7] = masks[2, :, 0] = True
    maps = draw.normal(size=(3, 9, 9)) + masks
    assert aupro(maps, masks) == pytest.approx(slow_aupro(maps, masks, 0.3), abs=1e-12)


def test_the_auroc_of_pixels_is_scikit_learns(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    maps, masks = drawn
    assert pixel_auroc(maps, masks) == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()))


def test_a_perfect_a_constant_and_a_reversed_map_have_known_areas(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    _, masks = drawn
    assert aupro(masks.astype(float), masks) == pytest.approx(1.0)
    assert pixel_auroc(masks.astype(float), masks) == pytest.approx(1.0)
    assert aupro(np.ones(masks.shape), masks) == pytest.approx(0.15)  # half of the limit
    assert pixel_auroc(np.ones(masks.shape), masks) == pytest.approx(0.5)
    assert aupro(-masks.astype(float), masks) == pytest.approx(0.0)


def test_a_small_region_counts_as_much_as_a_large_one() -> None:
    masks = np.zeros((1, 20, 20), bool)
    masks[0, :10, :10] = masks[0, 15, 15] = True
    maps = np.zeros((1, 20, 20))
    maps[0, :10, :10] = 1.0  # the large one is found, the small one is as the good pixels are
    assert aupro(maps, masks) == pytest.approx(0.5 + 0.5 * 0.15)
    assert find_regions(masks).count == 2


def test_without_a_defect_or_without_a_good_pixel_nothing_is_defined() -> None:
    maps = np.random.default_rng(0).random((2, 5, 5))
    for masks in (np.zeros((2, 5, 5), bool), np.ones((2, 5, 5), bool)):
        assert aupro(maps, masks) is None
        assert pixel_auroc(maps, masks) is None


def test_regions_that_touch_at_a_corner_are_one() -> None:
    mask = np.zeros((1, 4, 4), bool)
    mask[0, 0, 0] = mask[0, 1, 1] = mask[0, 3, 3] = True
    regions = find_regions(mask)
    assert regions.count == 2
    np.testing.assert_allclose(np.sort(regions.weights[regions.weights > 0]), [0.5, 0.5, 1.0])
