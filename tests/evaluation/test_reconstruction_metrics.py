import math

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from ae_models.intervals import mean_interval
from aeops.evaluation.reconstruction import psnr, ssim
from aeops.kinds.arrays import mse_per_image


@pytest.fixture
def pair(digits) -> tuple[np.ndarray, np.ndarray]:
    """Two hundred digits in [0, 1], and the same with noise."""
    target = (digits[0][:200] / 255).astype(np.float32)
    noise = np.random.default_rng(1).normal(0, 0.2, target.shape)
    return target, (target + noise).clip(0, 1).astype(np.float32)


def test_mse_of_an_image_is_the_mean_over_its_values(pair):
    target, made = pair
    by_hand = [sum((a - b) ** 2 for a, b in zip(t.flat, m.flat, strict=True)) / t.size for t, m in zip(*pair, strict=True)]
    np.testing.assert_allclose(mse_per_image(target, made), by_hand, rtol=1e-5)


def test_psnr_is_that_of_the_mean_error_over_the_set(pair):
    target, made = pair
    whole_set = peak_signal_noise_ratio(target.astype(float), made.astype(float), data_range=1)
    assert psnr(float(mse_per_image(target, made).mean())) == pytest.approx(whole_set)
    assert psnr(0.0) == math.inf


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_of_all_images_at_once_is_what_scikit_image_finds_for_each(pair, channels):
    target, made = (images[:30].reshape(30 // channels, channels, 28, 28) for images in pair)
    each = [structural_similarity(t, m, data_range=1.0, channel_axis=0) for t, m in zip(target, made, strict=True)]
    assert ssim(target, made) == pytest.approx(np.mean(each), abs=1e-6)


def test_ssim_is_not_defined_for_images_smaller_than_its_window():
    small = np.zeros((2, 1, 6, 28), np.float32)
    assert ssim(small, small) is None


def test_a_mean_is_as_sure_as_its_standard_error_where_every_sample_is_a_group_of_its_own():
    values = np.random.default_rng(2).gamma(2, 1, 400)
    low, high = mean_interval(values, np.arange(400))
    standard_error = values.std(ddof=1) / np.sqrt(400)
    assert (low + high) / 2 == pytest.approx(values.mean())
    assert (high - low) / 2 == pytest.approx(1.96 * standard_error, rel=1e-3)


def test_samples_of_one_group_count_once():
    values = np.random.default_rng(3).gamma(2, 1, 100)
    alone, thrice = mean_interval(values, np.arange(100)), mean_interval(values.repeat(3), np.arange(100).repeat(3))
    assert thrice == pytest.approx(alone)
    assert mean_interval(values, np.zeros(100)) is None


def test_the_mean_of_grouped_samples_lies_in_its_interval_about_as_often_as_it_says():
    rng, inside = np.random.default_rng(4), 0
    for _ in range(400):
        sizes = rng.integers(1, 9, 60)
        values = np.repeat(rng.normal(1, 1, 60), sizes) + rng.normal(0, 0.3, sizes.sum())
        low, high = mean_interval(values, np.repeat(np.arange(60), sizes))
        inside += low <= 1 <= high
    assert 0.9 <= inside / 400 <= 0.98
