"""The linear codec: axes as a singular value decomposition finds them, bytes as the entropy says, an error as its step says."""

import numpy as np
import pytest

from aeops.codec.coding import decode_indices, encode_indices
from aeops.codec.linear_codec import (
    BLOCK_SAMPLES,
    LARGEST_STEP,
    SMALLEST_STEP,
    PrincipalAxes,
    choose_step,
    fit_linear_codecs,
    fit_principal_axes,
)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """More than one block of images of 6 values, uint8 (n, 1, 2, 3), some of which vary together."""
    generator = np.random.default_rng(0)
    mixing = generator.normal(size=(6, 6)) * np.array([60, 30, 15, 8, 4, 2])[:, None]
    vectors = generator.normal(size=(BLOCK_SAMPLES + 500, 6)) @ mixing + 128
    return vectors.round().clip(0, 255).astype(np.uint8).reshape(-1, 1, 2, 3)


@pytest.fixture(scope="module")
def principal(images: np.ndarray) -> PrincipalAxes:
    return fit_principal_axes(images)


def test_axes_over_blocks_are_those_of_all_samples_at_once(images: np.ndarray, principal: PrincipalAxes) -> None:
    vectors = images.reshape(len(images), -1) / 255
    _, _, axes = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(principal.mean, vectors.mean(axis=0), atol=1e-6)
    likeness = np.abs((principal.axes * axes).sum(axis=1))  # an axis has no sign
    np.testing.assert_allclose(likeness, 1, atol=1e-3)


def test_bytes_are_the_entropy_of_the_training_frequencies_and_indices_come_back(
    images: np.ndarray, principal: PrincipalAxes
) -> None:
    [codec] = fit_linear_codecs(principal, images, [0.1])
    np.testing.assert_array_equal(codec.counts.sum(axis=1), len(images))
    indices = codec.encode(images)
    assert (decode_indices(encode_indices(indices, codec.counts), codec.counts, len(images)) == indices).all()
    shares = (codec.counts + 0.5) / (codec.counts + 0.5).sum(axis=1, keepdims=True)
    needed = -np.log2(shares[np.arange(indices.shape[1]), indices]).sum() / 8 / len(images)
    assert codec.code_bytes(indices) == pytest.approx(needed, rel=0.01)


def test_no_pixel_moves_further_than_half_a_step_along_each_axis(images: np.ndarray, principal: PrincipalAxes) -> None:
    fine, coarse = fit_linear_codecs(principal, images, [0.05, 0.2])
    vectors = images.reshape(len(images), -1) / 255
    errors = []
    for codec in (fine, coarse):
        error = np.square(codec.decode(codec.encode(images)) - vectors).sum(axis=1)
        assert error.max() <= 6 * (codec.step / 2) ** 2 + 1e-5
        errors.append(error.mean())
    assert errors[0] < errors[1] / 8  # an error falls with the square of the step
    assert fine.code_bytes(fine.encode(images)) > coarse.code_bytes(coarse.encode(images))


def test_a_step_is_found_at_which_training_samples_take_the_bytes(images: np.ndarray, principal: PrincipalAxes) -> None:
    step = choose_step(principal, images, bytes_per_image=2.0)
    [codec] = fit_linear_codecs(principal, images, [step])
    assert codec.code_bytes(codec.encode(images)) == pytest.approx(2.0, rel=0.05)
    assert choose_step(principal, images, 1e6) == pytest.approx(SMALLEST_STEP, rel=0.01)
    assert choose_step(principal, images, 1e-9) <= LARGEST_STEP


def test_a_sample_beyond_the_training_samples_is_coded_as_the_outermost_index(
    images: np.ndarray, principal: PrincipalAxes
) -> None:
    [codec] = fit_linear_codecs(principal, images[:50], [0.05])
    far = np.stack([np.zeros((1, 2, 3), np.uint8), np.full((1, 2, 3), 255, np.uint8)])
    indices = codec.encode(far)
    assert indices.min() >= 0
    assert indices.max() < codec.counts.shape[1]
    decoded = codec.decode(indices)
    assert decoded.min() >= 0
    assert decoded.max() <= 1


def test_a_step_beyond_every_sample_leaves_a_code_of_the_mean(images: np.ndarray, principal: PrincipalAxes) -> None:
    [codec] = fit_linear_codecs(principal, images, [1000.0])
    assert codec.counts.shape == (1, 2)
    decoded = codec.decode(codec.encode(images[:3]))
    np.testing.assert_allclose(decoded, np.repeat(principal.mean[None], 3, axis=0), atol=1e-6)
