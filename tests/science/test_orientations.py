"""Histograms of gradient orientations against their definition in numpy, and what they do not see."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, shift

from ae_models.orientations import OrientationHistograms

DIGIT = (1, 28, 28)


def vectors_by_definition(image: np.ndarray, blur: float, count: int) -> np.ndarray:
    """Return the vector of an image (h, w) with `count` cells an axis: pixel by pixel."""
    side = len(image)
    smooth = np.pad(gaussian_filter(image, blur, mode="nearest", radius=math.ceil(3 * blur)) if blur else image, 1, mode="edge")
    histograms = np.zeros((8, count, count))
    middles = (np.arange(count) + 0.5) * side / count - 0.5
    deviation = side / count / 2
    for row in range(side):
        for column in range(side):
            down = (smooth[row + 2, column + 1] - smooth[row, column + 1]) / 2
            right = (smooth[row + 1, column + 2] - smooth[row + 1, column]) / 2
            length = math.hypot(down, right)
            if length == 0:
                continue
            windows = [np.exp(-0.5 * ((place - middles) / deviation) ** 2) for place in (row, column)]
            weight = np.outer(*windows) / (2 * math.pi * deviation**2)
            for direction in range(8):
                cosine = math.cos(math.atan2(down, right) - direction * math.pi / 4)
                histograms[direction] += weight * length * max(cosine, 0.0) ** 4
    roots = np.sqrt(histograms + 1e-4).ravel()
    return np.asarray(roots / np.linalg.norm(roots))


@pytest.mark.parametrize(("blur", "cell", "count"), [(0.7, 4, 7), (0.0, 5, 6)])
def test_the_vectors_are_their_definition(digits: np.ndarray, blur: float, cell: int, count: int) -> None:
    images = digits[:3, 0] / 255.0
    histograms = OrientationHistograms(DIGIT, blur, cell)
    assert histograms.shape == (8, count, count)
    actual = histograms(torch.from_numpy(images[:, None].astype(np.float32))).numpy()
    expected = np.stack([vectors_by_definition(image, blur, count) for image in images])
    np.testing.assert_allclose(actual, expected, atol=2e-4)


def test_each_channel_has_histograms_of_its_own(digits: np.ndarray) -> None:
    images = torch.from_numpy(digits[:6].reshape(2, 3, 28, 28) / np.float32(255))
    colour = OrientationHistograms((3, 28, 28), 0.7, 4)(images).reshape(2, 3, -1)
    grey = OrientationHistograms(DIGIT, 0.7, 4)(images.reshape(6, 1, 28, 28)).reshape(2, 3, -1)
    np.testing.assert_allclose(torch.nn.functional.normalize(colour, dim=2), grey, atol=1e-5)


def test_neither_level_nor_contrast_matters_and_a_shift_matters_little(digits: np.ndarray) -> None:
    images = digits[:50].astype(np.float32) / 255
    histograms = OrientationHistograms(DIGIT, 0.7, 4)

    def distances(changed: np.ndarray) -> float:
        return float((histograms(torch.from_numpy(changed)) - histograms(torch.from_numpy(images))).norm(dim=1).mean())

    between_digits = distances(np.roll(images, 1, axis=0))
    assert distances(0.6 * images + 0.2) < 0.1 * between_digits
    moved = shift(images, (0, 0, 0, 1), order=1)
    pixels = np.linalg.norm((moved - images).reshape(50, -1), axis=1).mean()
    pixels_between = np.linalg.norm((np.roll(images, 1, axis=0) - images).reshape(50, -1), axis=1).mean()
    assert distances(moved) / between_digits < 0.7 * pixels / pixels_between


@pytest.mark.parametrize(("move", "shifted_by"), [(0, (0, -0.5)), (1, (-0.5, 0))])
def test_tangents_are_what_half_a_pixel_changes(digits: np.ndarray, move: int, shifted_by: tuple[float, float]) -> None:
    images = digits[:30].astype(np.float32) / 255
    histograms = OrientationHistograms(DIGIT, 0.7, 4)
    moved = shift(images, (0, 0, *shifted_by), order=3).clip(0, 1)
    changes = histograms(torch.from_numpy(moved)) - histograms(torch.from_numpy(images))
    tangents = histograms.tangents(torch.from_numpy(images))
    assert tangents.shape == (30, 6, 8 * 7 * 7)
    alike = torch.nn.functional.cosine_similarity(tangents[:, move], changes, dim=1)
    assert alike.mean() > 0.85, alike


def test_a_map_has_a_cells_values_at_its_place() -> None:
    histograms = OrientationHistograms((2, 25, 35), 0.0, 5)
    values = torch.zeros(1, *histograms.shape)
    values[0, :, 1, 4] = 1.0
    pixel_map = histograms.to_map(values.flatten(1))
    assert pixel_map.shape == (1, 25, 35)
    row, column = divmod(int(pixel_map.argmax()), 35)
    assert (row, column) == (7, 22)  # in the middle of the cell
    assert pixel_map.max() == 16


def test_blank_images_are_all_alike() -> None:
    blank = torch.stack([torch.full(DIGIT, level) for level in (0.0, 0.4, 1.0)])
    vectors = OrientationHistograms(DIGIT, 0.7, 4)(blank)
    np.testing.assert_allclose(vectors, np.full((3, 392), 392**-0.5), atol=1e-3)
    one_cell = OrientationHistograms((1, 3, 5), 0.0, 64)
    assert one_cell.shape == (8, 1, 1)
    assert torch.isfinite(one_cell(torch.rand(2, 1, 3, 5))).all()
