"""Samples that a person gives, as prepared samples are: what `ae recalibrate --on` stores."""

import numpy as np
import pytest

from aeops.errors import DataError
from aeops.kinds.interface import load_kind
from aeops.kinds.samples import SampleSpec


@pytest.mark.parametrize(("dtype", "stored"), [(np.uint8, np.uint8), (np.float64, np.float32), (np.int64, np.float32)])
def test_images_get_the_shape_of_the_dataset_and_bytes_stay_bytes(dtype: type, stored: type) -> None:
    spec = SampleSpec((1, 4, 5), (1, 4, 5), 0, 255, (1, 4, 5))
    images = np.arange(60).reshape(3, 4, 5).astype(dtype)
    array = load_kind("image").dataset_array(images, spec)
    assert (array.shape, array.dtype) == ((3, 1, 4, 5), stored)
    np.testing.assert_array_equal(array[:, 0], images)


def test_texts_become_utf8_filled_up_with_zeros_and_one_that_is_too_long_is_refused() -> None:
    spec = SampleSpec((8,), (8,), 0, 255, (6,))
    array = load_kind("text").dataset_array(np.array(["häh", "a"], object), spec)
    assert [row.tobytes().rstrip(b"\0").decode() for row in array] == ["häh", "a"]
    assert (array.shape, array.dtype) == ((2, 6), np.uint8)
    with pytest.raises(DataError, match="expected texts of at most 6 bytes"):
        load_kind("text").dataset_array(np.array(["1234567"], object), spec)
