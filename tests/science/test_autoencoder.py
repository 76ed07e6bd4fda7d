"""The parts and their wiring, against formulas written another way."""

import dataclasses
import itertools

import pytest
import torch

from ae_models.autoencoder import Autoencoder
from ae_models.errors import SpecError
from ae_models.layers import halved_sizes, halving_padding
from ae_models.spec import AffineAugmentationSpec, ConvDecoderSpec, ConvEncoderSpec, FitSpec, InputSpec

SHAPES = [(1, 28, 28), (3, 32, 32), (1, 8, 8), (2, 9, 13), (1, 5, 28), (1, 1, 1)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kernel", [2, 3, 4, 5])
def test_any_size_is_reconstructed_at_its_own_size(spec: FitSpec, shape: tuple[int, ...], kernel: int) -> None:
    config = dataclasses.replace(spec.model, encode=ConvEncoderSpec((4, 8, 8), kernel), decode=ConvDecoderSpec((8, 8, 4), kernel))
    y, z = Autoencoder(config, InputSpec(shape=shape))(torch.rand(3, *shape))
    assert y.shape == (3, *shape)
    assert z.shape == (3, 16)


def test_padding_halves_and_its_transpose_doubles_back() -> None:
    for size, kernel in itertools.product(range(1, 40), range(2, 8)):
        padding, output_padding = halving_padding(size, kernel)
        half = (size + 2 * padding - kernel) // 2 + 1
        assert half == halved_sizes(size, 1)[1], (size, kernel)
        assert (half - 1) * 2 - 2 * padding + kernel + output_padding == size, (size, kernel)
        assert output_padding in (0, 1), (size, kernel)


def test_samples_are_brought_to_zero_and_one_from_any_range(spec: FitSpec) -> None:
    autoencoder = Autoencoder(spec.model, InputSpec(low=-100.0, high=300.0))
    assert autoencoder.normalise(torch.tensor([-100, 100, 300])).tolist() == [0.0, 0.5, 1.0]


def test_a_reconstruction_is_clipped_and_the_loss_is_not(spec: FitSpec) -> None:
    autoencoder = Autoencoder(spec.model, spec.input)
    torch.nn.init.constant_(autoencoder.decode.layers[-1].bias, 3.0)
    x = torch.ones(2, 1, 28, 28)
    assert autoencoder(x)[0].max() == 1.0
    assert autoencoder.loss(x) > 1.0


def test_a_spec_survives_its_own_plain_form(spec: FitSpec) -> None:
    assert FitSpec.from_dict(spec.to_dict(), "again") == spec
    assert spec.to_dict()["train"]["augment"]["kind"] == "affine"


def test_an_unknown_augmentation_is_named_with_the_near_match(spec: FitSpec) -> None:
    plain = spec.to_dict()
    plain["train"]["augment"] = {"kind": "afine"}
    with pytest.raises(SpecError, match=r"train\.augment\.kind: expected .*, got 'afine': did you mean affine"):
        FitSpec.from_dict(plain, "wrong")


def test_the_default_augmentation_is_within_its_own_bounds() -> None:
    assert AffineAugmentationSpec().shift == 1.0
