"""encode: input to code. Each module maps what is given, in [0, 1] or as token ids, to (n, size).

`size` is how many numbers the bottleneck asks for, which may be more than a code has.
"""

import math
from collections.abc import Callable, Iterable
from itertools import pairwise

import torch
from torch import Tensor, nn

from ae_models.parts import Places, Residual, channels_of_map, dense_layers, halving_padding, halvings
from ae_models.tokens import PADDING
from ae_models.transformer import SPREAD, Transformer, drawn_positions

RARITY = 1e-3  # a of Arora et al. 2017, who found 1e-3 to 1e-4 best; a token that makes up this share of all weighs one half

# By the number of sides: steps; height and width.
CONVOLUTIONS: dict[int, Callable[..., nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d}


class ConvEncode(nn.Module):
    """Strided convolutions, each halving height and width (rounding up), then one dense layer over all that is left.

    A map has one small dense layer instead, the same at each place (a 1x1 convolution). Its numbers lie place by place in
    reading order, so that those of a place stay together: a quantising bottleneck with a slot a place makes a word of each.

    Args:
        widths: channels after each halving.
        kernel: pixels a side of each convolution.
        blocks: residual blocks after each halving.
        dense: numbers after each dense layer before the last, with ReLU between them.
        map: whether the code is a map.
        shape: (c, h, w) of an input, of any size.
        size: numbers to make.

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
        convolutions, (channels, *sides) = halving(widths, kernel, blocks, shape)
        places = math.prod(sides)
        self.dense: nn.Module
        if map:
            self.layers = nn.Sequential(*convolutions, Places())
            self.dense = nn.Sequential(nn.Linear(channels, channels_of_map(size, places)), nn.Flatten())
        else:
            self.layers = nn.Sequential(*convolutions, nn.Flatten())
            # One layer alone keeps its plain name, which the bundles of format 1 know.
            self.dense = (
                nn.Sequential(*dense_layers((channels * places, *dense, size))) if dense else nn.Linear(channels * places, size)
            )

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.dense(self.layers(x))
        return h


class DenseEncode(nn.Module):
    """Dense layers with ReLU between them, over all numbers of a sample.

    Args:
        widths: numbers after each layer; one more layer makes the code.
        shape: (c, h, w) or (c, steps) of an input.
        size: numbers to make.
    """

    def __init__(self, widths: tuple[int, ...], shape: tuple[int, ...], size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), *dense_layers((math.prod(shape), *widths, size)))

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.layers(x)
        return h


class TemporalEncode(nn.Module):
    """Strided convolutions along time, each halving the steps (rounding up), then one dense layer.

    Args:
        widths: channels after each halving.
        kernel: steps of each convolution.
        shape: (c, steps) of a window, of any length.
        size: numbers to make.
    """

    def __init__(self, widths: tuple[int, ...], kernel: int, shape: tuple[int, ...], size: int) -> None:
        super().__init__()
        convolutions, left = halving(widths, kernel, 0, shape)
        self.layers = nn.Sequential(*convolutions, nn.Flatten())
        self.dense = nn.Linear(math.prod(left), size)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.dense(self.layers(x))
        return h


class TokensEncode(nn.Module):
    """Embeddings of tokens and of their positions, transformer layers, the mean over the tokens in use, one dense layer.

    Maps ids int64 (n, length), 0 where there is no token, to (n, size). Padding is neither attended to nor averaged over, so
    a text has one code at every length. What has no token at all is read as one empty place, since a mean needs something.

    Args:
        vocabulary: ids there may be.
        length: tokens of a text.
        width: numbers a token.
        layers, heads: of the transformer.
        pooling: "mean", or "inverse-frequency": tokens weigh a / (a + p) (Arora et al. 2017), where `count` found p.
        positions: whether a position's embedding is added to its token's.
        shape: (length,).
        size: numbers to make.
    """

    first: Tensor
    shares: Tensor

    def __init__(
        self,
        vocabulary: int,
        length: int,
        width: int,
        layers: int,
        heads: int,
        pooling: str,
        positions: bool,
        shape: tuple[int, ...],
        size: int,
    ) -> None:
        super().__init__()
        if shape != (length,):
            raise ValueError(f"the shape {shape} of an input given; ({length},) is allowed: as many ids as length says")
        self.embeddings = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.embeddings.weight, std=SPREAD)
        self.positions = drawn_positions(length, width) if positions else None
        self.transformer = Transformer(width, layers, heads)
        self.dense = nn.Linear(width, size)
        self.register_buffer("first", torch.arange(length) == 0, persistent=False)
        self.counts = pooling == "inverse-frequency"
        if self.counts:
            self.register_buffer("shares", torch.zeros(vocabulary))  # p; saved with the weights

    def count(self, ids: Iterable[Tensor]) -> None:
        """Notes how often each token stands in the training texts, given as blocks (k, length). Pooling by the plain mean
        needs no such thing, and does nothing here."""
        if self.counts:
            found = torch.zeros(len(self.shares), dtype=torch.int64)
            for block in ids:
                found += torch.bincount(block.flatten(), minlength=len(found))
            found[PADDING] = 0
            self.shares.copy_(found / found.sum())

    def forward(self, ids: Tensor) -> Tensor:
        padding = ids == PADDING
        in_use = ~padding | (padding.all(1, keepdim=True) & self.first)
        h = self.embeddings(ids)
        h = self.transformer(h if self.positions is None else h + self.positions, in_use)
        weights = in_use.to(h.dtype)
        if self.counts:
            weights = weights * RARITY / (RARITY + self.shares[ids])
        mean = (h * weights.unsqueeze(2)).sum(1) / weights.sum(1, keepdim=True)
        made: Tensor = self.dense(mean)
        return made


def halving(widths: tuple[int, ...], kernel: int, blocks: int, shape: tuple[int, ...]) -> tuple[list[nn.Module], tuple[int, ...]]:
    """Convolutions that halve the sides of (c, *sides) once for each width, and the shape that they leave."""
    convolution = CONVOLUTIONS[len(shape) - 1]
    sizes = [halvings(side, len(widths)) for side in shape[1:]]
    layers: list[nn.Module] = []
    for step, (before, after) in enumerate(pairwise((shape[0], *widths))):
        padding = tuple(halving_padding(side[step], kernel)[0] for side in sizes)
        layers += [convolution(before, after, kernel, stride=2, padding=padding)]
        layers += [*(Residual(after) for _ in range(blocks)), nn.ReLU()]
    return layers, ((shape[0], *widths)[-1], *(side[-1] for side in sizes))


KINDS = {"conv": ConvEncode, "dense": DenseEncode, "temporal": TemporalEncode, "tokens": TokensEncode}
