"""Decoders: from the latent code to the reconstruction.

Each module maps (n, size) to (n, *shape) as the loss expects it: not yet clipped to [0, 1], or logits.
"""

import math
from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn

from ae_models.layers import (
    ResidualBlock,
    UnflattenPositions,
    dense_layers,
    halved_sides,
    halving_padding,
    latent_map_channels,
)
from ae_models.transformer import Transformer, position_embeddings

__all__ = ["DECODERS", "ConvDecoder", "DenseDecoder", "TemporalDecoder", "TokenDecoder"]

# By the number of sides.
_TRANSPOSED_CONVOLUTIONS: dict[int, Callable[..., nn.Module]] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d}


class ConvDecoder(nn.Module):
    """One dense layer, then transposed convolutions, each doubling height and width (or one less, where the size is odd).

    A latent map has one small dense layer instead, the same at each position (a 1x1 convolution); its numbers lie position by
    position, in the order of `ConvEncoder`.

    Args:
        widths: channels before each doubling.
        kernel: pixels a side of each convolution.
        blocks: residual blocks before each doubling.
        dense: numbers after each dense layer before the one that makes the smallest map, with ReLU between them.
        map: whether the code is a map.
        shape: (c, h, w) of a reconstruction, of any size.
        size: numbers in a code.

    Raises:
        ValueError: `size` is no multiple of the map's positions.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        kernel: int,
        blocks: int,
        dense: tuple[int, ...],
        map: bool,
        shape: tuple[int, ...],
        size: int,
    ) -> None:
        super().__init__()
        smallest_shape = _smallest_shape(widths, shape)
        if map:
            channels, height, width = smallest_shape
            code_channels = latent_map_channels(size, height * width)
            self.dense = nn.Sequential(
                nn.Unflatten(1, (height * width, code_channels)),
                nn.Linear(code_channels, channels),
                UnflattenPositions(smallest_shape),
            )
        else:
            layers = dense_layers((size, *dense, math.prod(smallest_shape)))
            self.dense = nn.Sequential(*layers, nn.Unflatten(1, smallest_shape))
        self.layers = nn.Sequential(*_doubling_layers(widths, kernel, blocks, shape))

    def forward(self, z: Tensor) -> Tensor:
        y: Tensor = self.layers(self.dense(z))
        return y


class DenseDecoder(nn.Module):
    """Dense layers with ReLU between them, from the code to all numbers of a sample.

    Args:
        widths: numbers after each layer; one more layer makes the sample.
        shape: (c, h, w) or (c, steps) of a reconstruction.
        size: numbers in a code.
    """

    def __init__(self, widths: tuple[int, ...], shape: tuple[int, ...], size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*dense_layers((size, *widths, math.prod(shape))), nn.Unflatten(1, shape))

    def forward(self, z: Tensor) -> Tensor:
        y: Tensor = self.layers(z)
        return y


class TemporalDecoder(nn.Module):
    """One dense layer, then transposed convolutions along time, each doubling the steps (or one less, where they are odd).

    Args:
        widths: channels before each doubling.
        kernel: steps of each convolution.
        shape: (c, steps) of a reconstruction, of any length.
        size: numbers in a code.
    """

    def __init__(self, widths: tuple[int, ...], kernel: int, shape: tuple[int, ...], size: int) -> None:
        super().__init__()
        smallest_shape = _smallest_shape(widths, shape)
        self.dense = nn.Sequential(*dense_layers((size, math.prod(smallest_shape))), nn.Unflatten(1, smallest_shape))
        self.layers = nn.Sequential(*_doubling_layers(widths, kernel, 0, shape))

    def forward(self, z: Tensor) -> Tensor:
        y: Tensor = self.layers(self.dense(z))
        return y


class TokenDecoder(nn.Module):
    """The code beside each position's embedding, transformer layers, and a logit for each token: all positions at once.

    Maps (n, size) to logits (n, vocabulary, length).

    Args:
        width: numbers a position.
        layers: of the transformer.
        heads: of the transformer.
        shape: (length,).
        size: numbers in a code.
        vocabulary: number of token ids.
    """

    def __init__(self, width: int, layers: int, heads: int, shape: tuple[int, ...], size: int, vocabulary: int) -> None:
        super().__init__()
        self.dense = nn.Linear(size, width)
        self.positions = position_embeddings(shape[0], width)
        self.transformer = Transformer(width, layers, heads)
        self.logits = nn.Linear(width, vocabulary)

    def forward(self, z: Tensor) -> Tensor:
        h = self.transformer(self.positions + self.dense(z).unsqueeze(1))
        logits: Tensor = self.logits(h)
        return logits.transpose(1, 2)


def _smallest_shape(widths: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return (c, *sides) from which one doubling for each width leads to `shape`."""
    first_channels = (*widths, shape[0])[0]
    return (first_channels, *halved_sides(shape[1:], len(widths))[-1])


def _doubling_layers(widths: tuple[int, ...], kernel: int, blocks: int, shape: tuple[int, ...]) -> list[nn.Module]:
    """Return transposed convolutions from the smallest shape to (c, *sides), one for each width."""
    convolution = _TRANSPOSED_CONVOLUTIONS[len(shape) - 1]
    _, *doubled_sides = reversed(halved_sides(shape[1:], len(widths)))
    layers: list[nn.Module] = []
    for sides, (in_channels, out_channels) in zip(doubled_sides, pairwise((*widths, shape[0])), strict=True):
        side_paddings = [halving_padding(side, kernel) for side in sides]
        padding, output_padding = zip(*side_paddings, strict=True)
        layers += [ResidualBlock(in_channels) for _ in range(blocks)]
        layers += [nn.ReLU(), convolution(in_channels, out_channels, kernel, 2, padding, output_padding)]
    return layers


DECODERS = {"conv": ConvDecoder, "dense": DenseDecoder, "temporal": TemporalDecoder, "tokens": TokenDecoder}
