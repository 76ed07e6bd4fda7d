"""The parts and their wiring, against formulas written another way."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from ae_models.augment import AffineAugment
from ae_models.autoencoder import Autoencoder
from ae_models.compare import MseCompare
from ae_models.errors import SpecError
from ae_models.parts import halving_padding, halvings
from ae_models.score import TINY, NormalisedResidualScore
from ae_models.spec import AffineAugment as AffineAugmentSpec
from ae_models.spec import ConvDecode, ConvEncode, FitSpec, InputSpec

SHAPES = [(1, 28, 28), (3, 32, 32), (1, 8, 8), (2, 9, 13), (1, 5, 28), (1, 1, 1)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kernel", [2, 3, 4, 5])
def test_any_size_is_reconstructed_at_its_own_size(spec: FitSpec, shape: tuple[int, ...], kernel: int) -> None:
    sentence = dataclasses.replace(spec.model, encode=ConvEncode((4, 8, 8), kernel), decode=ConvDecode((8, 8, 4), kernel))
    y, z = Autoencoder(sentence, InputSpec(shape=shape))(torch.rand(3, *shape))
    assert y.shape == (3, *shape)
    assert z.shape == (3, 16)


@pytest.mark.parametrize("kernel", range(2, 8))
@pytest.mark.parametrize("size", range(1, 40))
def test_padding_halves_and_its_transpose_doubles_back(size: int, kernel: int) -> None:
    padding, more = halving_padding(size, kernel)
    half = (size + 2 * padding - kernel) // 2 + 1
    assert half == halvings(size, 1)[1]
    assert (half - 1) * 2 - 2 * padding + kernel + more == size
    assert more in (0, 1)


def test_mse_is_the_mean_over_every_number() -> None:
    y, x = np.random.default_rng(0).random((2, 5, 1, 4, 4), dtype=np.float32)
    wanted = sum((a - b) ** 2 for a, b in zip(y.ravel().tolist(), x.ravel().tolist(), strict=True)) / y.size
    assert float(MseCompare()(torch.from_numpy(y), torch.from_numpy(x))) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(("energy", "blur"), [(0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (1.0, 1.7)])
def test_score_is_the_formula_in_numpy(energy: float, blur: float) -> None:
    x, y = np.random.default_rng(1).random((2, 6, 2, 5, 5), dtype=np.float32)
    sigmas, reach = (0, 0, blur, blur), math.ceil(3 * blur)
    residual = gaussian_filter(x - y, sigmas, mode="constant", radius=(0, 0, reach, reach)) if blur else x - y
    wanted = [np.log((d**2).sum() + TINY) - energy * np.log((a**2).sum() + TINY) for a, d in zip(x, residual, strict=True)]
    given = NormalisedResidualScore(energy, blur)(torch.from_numpy(x), torch.from_numpy(y))
    np.testing.assert_allclose(given.numpy(), wanted, rtol=1e-5)


def test_a_blank_sample_has_a_finite_score() -> None:
    x = torch.zeros(1, 1, 8, 8)
    assert torch.isfinite(NormalisedResidualScore(0.5, 1.0)(x, x)).all()


def test_samples_are_brought_to_zero_and_one_from_any_range(spec: FitSpec) -> None:
    autoencoder = Autoencoder(spec.model, InputSpec(low=-100.0, high=300.0))
    assert autoencoder.normalise(torch.tensor([-100, 100, 300])).tolist() == [0.0, 0.5, 1.0]


def test_a_reconstruction_is_clipped_and_the_loss_is_not(spec: FitSpec) -> None:
    autoencoder = Autoencoder(spec.model, spec.input)
    torch.nn.init.constant_(autoencoder.decode.layers[-1].bias, 3.0)
    x = torch.ones(2, 1, 28, 28)
    assert autoencoder(x)[0].max() == 1.0
    assert autoencoder.loss(x) > 1.0


def test_no_augmentation_by_zero_is_the_identity() -> None:
    x = torch.rand(4, 2, 9, 12)
    torch.testing.assert_close(AffineAugment(0.0, 0.0, 0.0)(x), x)


def test_augmentation_shifts_by_pixels_and_no_further() -> None:
    torch.manual_seed(0)
    x = torch.zeros(64, 1, 21, 31)
    x[:, :, 10, 15] = 1.0
    seen = AffineAugment(2.0, 0.0, 0.0)(x)[:, 0].amax(0) > 0
    rows, columns = torch.nonzero(seen, as_tuple=True)
    assert (rows.min(), rows.max()) == (8, 12)
    assert (columns.min(), columns.max()) == (13, 17)


def test_augmentation_turns_without_stretching_where_sides_differ() -> None:
    x = torch.zeros(1, 1, 20, 40)
    maps = AffineAugment(0.0, 90.0, 0.0)
    torch.manual_seed(0)
    (row,) = maps.maps(x).double()
    pixels = torch.tensor([[20.0, 0.0], [0.0, 10.0]], dtype=torch.float64)  # half the sides: from units to pixels
    turn = pixels @ row[:, :2] @ pixels.inverse()
    torch.testing.assert_close(turn @ turn.T, torch.eye(2, dtype=torch.float64), atol=1e-6, rtol=0)


def test_a_spec_survives_its_own_plain_form(spec: FitSpec) -> None:
    assert FitSpec.from_plain(spec.plain(), "again") == spec
    assert spec.plain()["train"]["augment"]["kind"] == "affine"


def test_an_unknown_augmentation_is_named_with_the_near_match(spec: FitSpec) -> None:
    plain = spec.plain()
    plain["train"]["augment"] = {"kind": "afine"}
    with pytest.raises(SpecError, match=r"train\.augment\.kind: no part 'afine'.*did you mean affine"):
        FitSpec.from_plain(plain, "wrong")


def test_the_default_augmentation_is_within_its_own_bounds() -> None:
    assert AffineAugmentSpec().shift == 1.0
