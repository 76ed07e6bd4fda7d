"""Statistics of samples, against formulas of their own."""

import hashlib

import numpy as np
import pytest

from ae_models.spec import InputSpec
from aeops.data.statistics import sample_sha256
from aeops.kinds.interface import load_kind

image, text = load_kind("image"), load_kind("text")


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_statistics_are_those_of_the_scaled_values(dtype: str) -> None:
    samples = np.random.default_rng(0).integers(0, 256, (5, 3, 8, 9)).astype(dtype)
    found = image.statistics(samples, InputSpec())
    for number, sample in enumerate(samples):
        scaled = sample.astype(np.float64) / 255
        assert found["mean"][number] == pytest.approx(scaled.mean(), abs=1e-9)
        assert found["std"][number] == pytest.approx(scaled.std(), abs=1e-9)
        assert (found["low"][number], found["high"][number]) == (sample.min(), sample.max())


def test_a_range_that_starts_below_zero_scales_to_zero_and_one() -> None:
    samples = np.array([-1.0, -1.0, 1.0, 1.0]).reshape(1, 1, 2, 2)
    found = image.statistics(samples, InputSpec(low=-1, high=1))
    assert (found["mean"][0], found["std"][0]) == (0.5, 0.5)


def test_nan_values_are_counted_and_left_out() -> None:
    samples = np.array([[0.0, np.nan, 1.0, 0.5], [np.nan] * 4, [0.0, np.inf, 0.0, 0.0]]).reshape(3, 1, 2, 2)
    found = image.statistics(samples, InputSpec(low=0, high=1))
    np.testing.assert_array_equal(found["nans"], [1, 4, 0])
    assert found["mean"][0] == 0.5
    assert np.isnan(found["mean"][1])
    assert np.isnan(found["low"][1])
    assert found["high"][2] == np.inf


def test_a_sample_is_blank_where_all_its_values_are_the_same() -> None:
    samples = np.stack([np.full((1, 4, 4), 7), np.eye(4)[None], np.zeros((1, 4, 4))]).astype(np.uint8)
    np.testing.assert_array_equal(image.statistics(samples, InputSpec())["blank"], [True, False, True])


def test_mean_deviation_and_blankness_leave_the_target_channels_out_and_the_range_does_not() -> None:
    given = np.random.default_rng(0).random((3, 2, 4, 4))
    targets = np.stack([np.full((1, 4, 4), 0.5), np.full((1, 4, 4), 7.0), np.full((1, 4, 4), np.nan)])
    given[1] = 0.25
    spec = InputSpec(shape=(3, 4, 4), low=0, high=1, target_channels=1)
    found = image.statistics(np.concatenate([given, targets], axis=1), spec)
    np.testing.assert_allclose(found["mean"], given.mean(axis=(1, 2, 3)), atol=1e-9)
    np.testing.assert_allclose(found["std"], given.std(axis=(1, 2, 3)), atol=1e-9)
    np.testing.assert_array_equal(found["blank"], [False, True, False])
    assert found["high"][1] == 7
    np.testing.assert_array_equal(found["nans"], [0, 0, 16])


def test_texts_are_measured_in_characters_and_not_in_bytes() -> None:
    texts = ["déjà vu £5", "  ", "", "a" * 16]
    held = np.array([list(one.encode().ljust(16, b"\0")) for one in texts], np.uint8)
    found = text.statistics(held, InputSpec(kind="text", shape=(16,)))
    assert found["characters"].tolist() == [10, 2, 0, 16]
    np.testing.assert_allclose(found["letters"], [0.6, 0, 0, 1])
    np.testing.assert_allclose(found["filled"], [13 / 16, 2 / 16, 0, 1])
    assert found["blank"].tolist() == [False, True, True, False]
    assert found["readable"].all()


def test_bytes_that_are_no_utf8_or_go_on_after_a_zero_are_not_readable() -> None:
    held = np.array([list(b"good"), list(b"\xc3\0\0\0"), list(b"a\0b\0"), list(b"\xff\xfeab")], np.uint8)
    assert text.statistics(held, InputSpec(kind="text", shape=(16,)))["readable"].tolist() == [True, False, False, False]


def test_equal_bytes_of_another_shape_or_dtype_are_another_sample() -> None:
    wide = np.zeros((1, 1, 2, 8), dtype=np.uint8)
    tall, real = wide.reshape(1, 1, 8, 2), wide.view(np.float64)
    assert len({sample_sha256(samples)[0] for samples in (wide, tall, real)}) == 3
    assert sample_sha256(wide)[0] == hashlib.sha256(b"uint8 1x2x8 " + bytes(16)).hexdigest()
