"""What a training sample could have been instead."""

import pytest
import torch

from ae_models.augmentations import AUGMENTATIONS, AffineAugmentation, FlipAugmentation
from ae_models.spec import PART_SPECS


def test_every_augmentation_of_the_spec_exists() -> None:
    assert list(AUGMENTATIONS) == list(PART_SPECS["augment"])


def test_a_flip_mirrors_half_of_the_images_left_to_right() -> None:
    torch.manual_seed(0)
    x = torch.rand(2000, 2, 3, 5)
    y = FlipAugmentation()(x)
    mirrored = [torch.equal(b, a[:, :, [4, 3, 2, 1, 0]]) for a, b in zip(x, y, strict=True)]
    same = [torch.equal(b, a) for a, b in zip(x, y, strict=True)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert sum(mirrored) / 2000 == pytest.approx(0.5, abs=0.04)


def test_an_affine_map_by_zero_is_the_identity() -> None:
    x = torch.rand(4, 2, 9, 12)
    torch.testing.assert_close(AffineAugmentation(0.0, 0.0, 0.0)(x), x)


def test_a_shift_is_by_pixels_and_no_further() -> None:
    torch.manual_seed(0)
    x = torch.zeros(64, 1, 21, 31)
    x[:, :, 10, 15] = 1.0
    visible = AffineAugmentation(2.0, 0.0, 0.0)(x)[:, 0].amax(0) > 0
    rows, columns = torch.nonzero(visible, as_tuple=True)
    assert (rows.min(), rows.max()) == (8, 12)
    assert (columns.min(), columns.max()) == (13, 17)


def test_a_turn_does_not_stretch_where_sides_differ() -> None:
    x = torch.zeros(1, 1, 20, 40)
    torch.manual_seed(0)
    (row,) = AffineAugmentation(0.0, 90.0, 0.0).sample_matrices(x).double()
    pixels = torch.tensor([[20.0, 0.0], [0.0, 10.0]], dtype=torch.float64)  # half the sides: from units to pixels
    turn = pixels @ row[:, :2] @ pixels.inverse()
    torch.testing.assert_close(turn @ turn.T, torch.eye(2, dtype=torch.float64), atol=1e-6, rtol=0)
