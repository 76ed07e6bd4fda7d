"""What encodes and what decodes, against the same written another way; and each as ONNX."""

import dataclasses
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.numpy import load_file
from scipy.signal import correlate
from torch import nn

from ae_models import decoders, encoders
from ae_models.factory import build_part
from ae_models.layers import FlattenPositions, ResidualBlock, UnflattenPositions
from ae_models.spec import (
    ConvDecoderSpec,
    ConvEncoderSpec,
    DenseDecoderSpec,
    DenseEncoderSpec,
    TemporalDecoderSpec,
    TemporalEncoderSpec,
    TokenDecoderSpec,
    TokenEncoderSpec,
)

IMAGES = [(1, 8, 8), (3, 9, 13), (2, 31, 8), (4, 64, 48), (1, 105, 255), (3, 256, 256)]
SERIES = [(1, 8), (3, 9), (2, 33), (1, 255), (5, 64)]
DEPTHS = [(), (4,), (2, 3), (2, 2, 2, 2, 2, 2, 2, 2, 2)]
TEXT = TokenEncoderSpec(vocabulary=300, length=9, width=8, layers=2, heads=2)


def make_encoder(spec: Any, shape: tuple[int, ...], size: int) -> nn.Module:
    return build_part(encoders.ENCODERS, spec, shape=shape, size=size)


def make_decoder(spec: Any, shape: tuple[int, ...], size: int, **more: int) -> nn.Module:
    return build_part(decoders.DECODERS, spec, shape=shape, size=size, **more)


def numbers(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def halved_by_hand(side: int, times: int) -> int:
    for _ in range(times):
        side = side // 2 + side % 2
    return side


# ---------------------------------------------------------------- shapes


@pytest.mark.parametrize("shape", IMAGES)
@pytest.mark.parametrize("widths", DEPTHS)
def test_an_image_of_any_size_is_halved_for_each_width_and_comes_back(shape: tuple[int, ...], widths: tuple[int, ...]) -> None:
    encoder_module = make_encoder(ConvEncoderSpec(widths), shape, 5)
    decoder_module = make_decoder(ConvDecoderSpec(widths[::-1]), shape, 5)
    sizes = []
    for layer in encoder_module.layers:
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda _layer, _x, y: sizes.append(tuple(y.shape[1:])))
    code = encoder_module(torch.rand(2, *shape))
    expected = [(c, *(halved_by_hand(side, i + 1) for side in shape[1:])) for i, c in enumerate(widths)]
    assert sizes == expected
    assert code.shape == (2, 5)
    assert decoder_module(code).shape == (2, *shape)


@pytest.mark.parametrize("shape", SERIES)
@pytest.mark.parametrize("widths", DEPTHS)
@pytest.mark.parametrize("kernel", [2, 5])
def test_a_window_of_any_length_comes_back(shape: tuple[int, ...], widths: tuple[int, ...], kernel: int) -> None:
    encoder_module, decoder_module = (
        make_encoder(TemporalEncoderSpec(widths, kernel), shape, 3),
        make_decoder(TemporalDecoderSpec(widths[::-1], kernel), shape, 3),
    )
    assert encoder_module.dense.in_features == (shape[0], *widths)[-1] * halved_by_hand(shape[1], len(widths))
    assert decoder_module(encoder_module(torch.rand(2, *shape))).shape == (2, *shape)


@pytest.mark.parametrize(("encoder_map", "decoder_map"), [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 13), (2, 28, 28)])
@pytest.mark.parametrize("blocks", [0, 2])
def test_a_map_goes_with_any_other_end(shape: tuple[int, ...], encoder_map: bool, decoder_map: bool, blocks: int) -> None:
    places = halved_by_hand(shape[1], 2) * halved_by_hand(shape[2], 2)
    code = make_encoder(ConvEncoderSpec((4, 6), 4, blocks, map=encoder_map), shape, 3 * places)(torch.rand(2, *shape))
    assert code.shape == (2, 3 * places)
    assert make_decoder(ConvDecoderSpec((6, 4), 4, blocks, map=decoder_map), shape, 3 * places)(code).shape == (2, *shape)


def test_a_map_whose_places_do_not_divide_the_code_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a multiple of 49 numbers for a map of 49 positions, got 100"):
        make_encoder(ConvEncoderSpec((4, 6), map=True), (1, 28, 28), 100)
    with pytest.raises(ValueError, match="expected a multiple of 49 numbers for a map of 49 positions, got 100"):
        make_decoder(ConvDecoderSpec((4, 6), map=True), (1, 28, 28), 100)


# ---------------------------------------------------------------- what a map is


def test_numbers_of_a_place_lie_together_and_depend_on_the_pixels_there_alone() -> None:
    encoder_module = make_encoder(ConvEncoderSpec((4,), kernel=2, map=True), (1, 8, 8), 3 * 16)
    x = torch.rand(1, 1, 8, 8)
    other = x.clone()
    other[0, 0, 4:6, 2:4] += 1.0  # with a kernel of 2: the third row's second place of four
    changed = (encoder_module(x) != encoder_module(other)).view(16, 3)
    assert changed[9].all()
    assert changed.sum() == 3


def test_a_decoder_puts_each_place_where_the_encoder_found_it() -> None:
    decoder_module = make_decoder(ConvDecoderSpec((4,), kernel=2, map=True), (1, 8, 8), 3 * 16)
    code = torch.rand(1, 48)
    other = code.clone()
    other[0, 27:30] += 1.0
    changed = (decoder_module(code) != decoder_module(other))[0, 0]
    assert changed[4:6, 2:4].all()
    assert changed.sum() == 4


def test_places_are_read_row_by_row_and_put_back() -> None:
    x = torch.rand(2, 3, 4, 5)
    assert torch.equal(FlattenPositions()(x), torch.from_numpy(np.moveaxis(x.numpy(), 1, 3).reshape(2, 20, 3)))
    assert torch.equal(UnflattenPositions((3, 4, 5))(FlattenPositions()(x)), x)


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize("widths", [(), (7,), (7, 5, 3)])
def test_dense_layers_are_a_chain_of_products(widths: tuple[int, ...]) -> None:
    encoder_module, decoder_module = (
        make_encoder(DenseEncoderSpec(widths), (2, 3, 4), 6),
        make_decoder(DenseDecoderSpec(widths), (2, 12), 6),
    )
    x = torch.randn(5, 2, 3, 4)
    expected = chain(encoder_module, numbers(x).reshape(5, 24), (24, *widths, 6))
    np.testing.assert_allclose(numbers(encoder_module(x)), expected, rtol=1e-4, atol=1e-5)
    expected = chain(decoder_module, numbers(encoder_module(x)), (6, *widths, 24)).reshape(5, 2, 12)
    np.testing.assert_allclose(numbers(decoder_module(encoder_module(x))), expected, rtol=1e-4, atol=1e-5)


def chain(module: nn.Module, x: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    values = [numbers(value) for value in module.parameters()]
    assert [value.shape for value in values[::2]] == [(after, before) for before, after in pairwise(sizes)]
    for place, (weight, bias) in enumerate(zip(values[::2], values[1::2], strict=True)):
        x = np.maximum(x, 0) if place else x
        x = x @ weight.T + bias
    return x


def test_a_residual_block_adds_two_correlations() -> None:
    block = ResidualBlock(2)
    x = torch.randn(1, 2, 5, 6)
    torch.testing.assert_close(block(x), x)  # it starts as the identity
    torch.nn.init.normal_(block.layers[3].weight)
    added = inputs = numbers(x)[0]
    for layer in (block.layers[1], block.layers[3]):
        padded = np.pad(np.maximum(added, 0), ((0, 0), (1, 1), (1, 1)))
        added = np.stack([correlate(padded, w, "valid")[0] for w in numbers(layer.weight)]) + numbers(layer.bias)[:, None, None]
    np.testing.assert_allclose(numbers(block(x))[0], inputs + added, rtol=1e-4, atol=1e-5)


def test_dense_layers_stand_between_the_convolutions_and_the_code() -> None:
    encoder_module, decoder_module = (
        make_encoder(ConvEncoderSpec((2,), dense=(7, 5)), (1, 8, 8), 3),
        make_decoder(ConvDecoderSpec((2,), dense=(5,)), (1, 8, 8), 3),
    )
    x = torch.rand(4, 1, 8, 8)
    middle = numbers(encoder_module.layers(x))
    np.testing.assert_allclose(
        numbers(encoder_module(x)), chain(encoder_module.dense, middle, (32, 7, 5, 3)), rtol=1e-4, atol=1e-5
    )
    z = torch.randn(4, 3)
    np.testing.assert_allclose(
        numbers(decoder_module.dense(z)).reshape(4, -1), chain(decoder_module.dense, numbers(z), (3, 5, 32)), rtol=1e-4, atol=1e-5
    )


def test_a_halving_along_time_is_every_second_step_of_a_correlation() -> None:
    encoder_module = make_encoder(TemporalEncoderSpec((3,), kernel=4), (2, 10), 4)
    x = torch.randn(1, 2, 10)
    weight, bias = (numbers(value) for value in encoder_module.layers[0].parameters())
    padded = np.pad(numbers(x)[0], ((0, 0), (1, 1)))
    halved = np.stack([correlate(padded, w, "valid")[0, ::2] for w in weight]) + bias[:, None]
    expected = np.maximum(halved, 0).reshape(-1) @ numbers(encoder_module.dense.weight).T + numbers(encoder_module.dense.bias)
    np.testing.assert_allclose(numbers(encoder_module(x))[0], expected, rtol=1e-4, atol=1e-5)


def test_blocks_stand_at_every_scale() -> None:
    channels = {"encode": (4, 4, 6, 6), "decode": (6, 6, 4, 4)}
    ends = {
        "encode": make_encoder(ConvEncoderSpec((4, 6), blocks=2), (1, 8, 8), 3),
        "decode": make_decoder(ConvDecoderSpec((6, 4), blocks=2), (1, 8, 8), 3),
    }
    for name, end in ends.items():
        found = [layer.layers[1].in_channels for layer in end.layers if isinstance(layer, ResidualBlock)]
        assert tuple(found) == channels[name]


# ---------------------------------------------------------------- texts


@pytest.fixture
def texts() -> torch.Tensor:
    """Ids of 9, 4, 1 and 0 tokens."""
    ids = torch.randint(1, 300, (4, 9), generator=torch.Generator().manual_seed(0))
    return ids * (torch.arange(9) < torch.tensor([9, 4, 1, 0])[:, None])


def token_ends(length: int, layers: int = 2) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    spec = dataclasses.replace(TEXT, length=length, layers=layers)
    return make_encoder(spec, (length,), 5), make_decoder(TokenDecoderSpec(8, layers, 2), (length,), 5, vocabulary=300)


@pytest.mark.parametrize("layers", [0, 2])
def test_padding_does_not_change_a_code(texts: torch.Tensor, layers: int) -> None:
    short, long = token_ends(9, layers)[0], token_ends(14, layers)[0]
    with torch.no_grad():
        state = short.state_dict() | {"positions": torch.cat([short.positions, torch.randn(5, 8)])}
    long.load_state_dict(state)
    longer = torch.cat([texts, torch.zeros(4, 5, dtype=torch.int64)], dim=1)
    torch.testing.assert_close(long(longer), short(texts))


def test_a_text_without_tokens_has_a_finite_code_and_gradient(texts: torch.Tensor) -> None:
    encoder_module = token_ends(9)[0]
    code = encoder_module(texts)
    assert torch.isfinite(code).all()
    code.sum().backward()
    assert all(torch.isfinite(value.grad).all() for value in encoder_module.parameters())


def test_without_layers_a_code_is_the_mean_of_normalised_tokens(texts: torch.Tensor) -> None:
    encoder_module = token_ends(9, layers=0)[0]
    expected = []
    for ids in texts[:3]:
        rows = [
            numbers(encoder_module.embeddings.weight)[i] + numbers(encoder_module.positions)[place]
            for place, i in enumerate(ids)
            if i
        ]
        normal = [(row - row.mean()) / np.sqrt(row.var() + 1e-5) for row in rows]
        expected.append(np.mean(normal, axis=0) @ numbers(encoder_module.dense.weight).T + numbers(encoder_module.dense.bias))
    np.testing.assert_allclose(numbers(encoder_module(texts))[:3], expected, rtol=1e-3, atol=1e-4)


def test_the_order_of_tokens_matters(texts: torch.Tensor) -> None:
    encoder_module = token_ends(9)[0]
    assert not torch.allclose(encoder_module(texts[:1]), encoder_module(texts[:1].flip(1)), atol=1e-4)


@pytest.mark.parametrize("layers", [0, 2])
def test_a_decoder_makes_a_logit_for_each_token_at_each_position(layers: int) -> None:
    decoder_module = token_ends(9, layers)[1]
    y = decoder_module(torch.randn(3, 5))
    assert y.shape == (3, 300, 9)
    assert (y.std(dim=2) > 0).all()  # positions differ
    assert (y.std(dim=0) > 0).all()  # and so do codes


def test_ids_of_another_length_than_the_spec_says_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected an input of shape \(9,\).* got \(8,\)"):
        make_encoder(TEXT, (8,), 5)


# ---------------------------------------------------------------- promises of before


def test_weights_of_the_first_format_still_fit() -> None:
    old = load_file(Path(__file__).parents[1] / "fixtures" / "bundle-format-1" / "weights.safetensors")
    ends = {
        "encode": make_encoder(ConvEncoderSpec((2,)), (1, 8, 8), 2),
        "decode": make_decoder(ConvDecoderSpec((2,)), (1, 8, 8), 2),
    }
    for part, end in ends.items():
        weights = {name: torch.from_numpy(values) for name, values in old.items() if name.startswith(part)}
        own = {name.removeprefix(f"{part}."): values for name, values in weights.items()}
        assert own
        end.load_state_dict(own)


def test_a_plain_convolutional_pair_starts_from_the_same_draws_as_ever() -> None:
    """Convolutions in order, then the dense layer; decoding, the dense layer first: stored trainings depend on it."""
    torch.manual_seed(3)
    encoder_module, decoder_module = (
        make_encoder(ConvEncoderSpec((4, 8)), (1, 28, 28), 16),
        make_decoder(ConvDecoderSpec((8, 4)), (1, 28, 28), 16),
    )
    torch.manual_seed(3)
    expected = [nn.Conv2d(1, 4, 4), nn.Conv2d(4, 8, 4), nn.Linear(8 * 49, 16)]
    expected += [nn.Linear(16, 8 * 49), nn.ConvTranspose2d(8, 4, 4), nn.ConvTranspose2d(4, 1, 4)]
    names = ["layers.0", "layers.2", "dense", "dense.0", "layers.1", "layers.3"]
    for end, name, layer in zip([encoder_module] * 3 + [decoder_module] * 3, names, expected, strict=True):
        assert torch.equal(end.get_submodule(name).weight, layer.weight)
        assert torch.equal(end.get_submodule(name).bias, layer.bias)


# ---------------------------------------------------------------- ONNX

ENDS = [
    *((ConvEncoderSpec(blocks=1, map=on_map), ConvDecoderSpec(blocks=1, map=on_map), (2, 9, 12), 18) for on_map in (False, True)),
    (DenseEncoderSpec((6,)), DenseDecoderSpec((6,)), (2, 3, 4), 5),
    (TemporalEncoderSpec(), TemporalDecoderSpec(), (2, 17), 5),
    (TEXT, TokenDecoderSpec(8, 2, 2), (9,), 5),
    (dataclasses.replace(TEXT, layers=0), TokenDecoderSpec(8, 0, 2), (9,), 5),
]


@pytest.mark.parametrize(("encode_spec", "decode_spec", "shape", "size"), ENDS, ids=lambda value: getattr(value, "kind", ""))
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_each_end_answers_as_onnx_what_it_answers_as_torch(
    encode_spec: Any, decode_spec: Any, shape: tuple[int, ...], size: int, tmp_path: Path
) -> None:
    of_text = encode_spec.kind == "tokens"
    encoder_module = make_encoder(encode_spec, shape, size)
    decoder_module = make_decoder(decode_spec, shape, size, **({"vocabulary": 300} if of_text else {}))
    torch.manual_seed(0)
    x = torch.rand(5, *shape)
    if of_text:
        x = torch.randint(1, 300, (5, *shape)) * (torch.arange(9) < torch.tensor([0, 1, 4, 8, 9])[:, None])
    for end, inputs in ((encoder_module, x), (decoder_module, torch.randn(5, size))):
        agree_as_onnx(end.eval(), inputs, tmp_path / "end.onnx")


def agree_as_onnx(module: nn.Module, x: torch.Tensor, file: Path) -> None:
    """Exported with a batch of two, asked with five and with one."""
    names = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": {"x": {0: "n"}, "y": {0: "n"}}}
    torch.onnx.export(module, (x[:2],), str(file), dynamo=False, opset_version=18, **names)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    for rows in (x, x[:1]):
        (answer,) = session.run(["y"], {"x": rows.numpy()})
        np.testing.assert_allclose(answer, module(rows).detach().numpy(), rtol=1e-3, atol=1e-5)
