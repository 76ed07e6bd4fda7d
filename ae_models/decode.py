"""decode: code to reconstruction. Each module maps (n, size) to (n, *shape) as the comparison takes it: not yet clipped to
[0, 1], or logits."""

import math
from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn

from ae_models.parts import FromPlaces, Residual, channels_of_map, dense_layers, halving_padding, halvings
from ae_models.transformer import Transformer, drawn_positions

# By the number of sides: steps; height and width.
TRANSPOSED: dict[int, Callable[..., nn.Module]] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d}


class ConvDecode(nn.Module):
    """One dense layer, then transposed convolutions, each doubling height and width (or one less, where the size is odd).

    A map has one small dense layer instead, the same at each place (a 1x1 convolution); its numbers lie place by place, as
    `ConvEncode` makes them.

    Args:
        widths: channels before each doubling.
        kernel: pixels a side of each convolution.
        blocks: residual blocks before each doubling.
        dense: numbers after each dense layer before the one that makes the smallest map, with ReLU between them.
        map: whether the code is a map.
        shape: (c, h, w) of a reconstruction, of any size.
        size: numbers in a code.

    Raises:
        ValueError: a map whose places `size` is no multiple of.
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
        channels, height, breadth = seed = smallest(widths, shape)
        if map:
            each = channels_of_map(size, height * breadth)
            self.dense = nn.Sequential(nn.Unflatten(1, (height * breadth, each)), nn.Linear(each, channels), FromPlaces(seed))
        else:
            self.dense = nn.Sequential(*dense_layers((size, *dense, math.prod(seed))), nn.Unflatten(1, seed))
        self.layers = nn.Sequential(*doubling(widths, kernel, blocks, shape))

    def forward(self, z: Tensor) -> Tensor:
        y: Tensor = self.layers(self.dense(z))
        return y


class DenseDecode(nn.Module):
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


class TemporalDecode(nn.Module):
    """One dense layer, then transposed convolutions along time, each doubling the steps (or one less, where they are odd).

    Args:
        widths: channels before each doubling.
        kernel: steps of each convolution.
        shape: (c, steps) of a reconstruction, of any length.
        size: numbers in a code.
    """

    def __init__(self, widths: tuple[int, ...], kernel: int, shape: tuple[int, ...], size: int) -> None:
        super().__init__()
        seed = smallest(widths, shape)
        self.dense = nn.Sequential(*dense_layers((size, math.prod(seed))), nn.Unflatten(1, seed))
        self.layers = nn.Sequential(*doubling(widths, kernel, 0, shape))

    def forward(self, z: Tensor) -> Tensor:
        y: Tensor = self.layers(self.dense(z))
        return y


class TokensDecode(nn.Module):
    """The code beside each position's embedding, transformer layers, and a logit for each token: all positions at once.

    Maps (n, size) to logits (n, vocabulary, length).

    Args:
        width: numbers a position.
        layers, heads: of the transformer.
        shape: (length,).
        size: numbers in a code.
        vocabulary: ids there may be.
    """

    def __init__(self, width: int, layers: int, heads: int, shape: tuple[int, ...], size: int, vocabulary: int) -> None:
        super().__init__()
        self.dense = nn.Linear(size, width)
        self.positions = drawn_positions(shape[0], width)
        self.transformer = Transformer(width, layers, heads)
        self.logits = nn.Linear(width, vocabulary)

    def forward(self, z: Tensor) -> Tensor:
        h = self.transformer(self.positions + self.dense(z).unsqueeze(1))
        logits: Tensor = self.logits(h)
        return logits.transpose(1, 2)


def smallest(widths: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """(c, *sides) from which one doubling for each width leads to `shape`."""
    return ((*widths, shape[0])[0], *(halvings(side, len(widths))[-1] for side in shape[1:]))


def doubling(widths: tuple[int, ...], kernel: int, blocks: int, shape: tuple[int, ...]) -> list[nn.Module]:
    """Transposed convolutions from `smallest` to (c, *sides), one for each width."""
    convolution = TRANSPOSED[len(shape) - 1]
    sizes = [halvings(side, len(widths))[::-1][1:] for side in shape[1:]]
    layers: list[nn.Module] = []
    for step, (before, after) in enumerate(pairwise((*widths, shape[0]))):
        padding, more = zip(*(halving_padding(side[step], kernel) for side in sizes), strict=True)
        layers += [*(Residual(before) for _ in range(blocks)), nn.ReLU()]
        layers += [convolution(before, after, kernel, 2, padding, more)]
    return layers


KINDS = {"conv": ConvDecode, "dense": DenseDecode, "temporal": TemporalDecode, "tokens": TokensDecode}
