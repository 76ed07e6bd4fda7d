"""Encoders: from the input to the numbers that the bottleneck asks for.

Each module maps the input, in [0, 1] or as token ids, to (n, size). `size` may exceed the numbers of a code: a variational
bottleneck asks for twice as many.
"""

import math
from collections.abc import Callable, Iterable
from itertools import pairwise

import torch
from torch import Tensor, nn

from ae_models.encoder_interface import EncoderModule
from ae_models.layers import (
    FlattenPositions,
    ResidualBlock,
    dense_layers,
    halved_sides,
    halving_padding,
    latent_map_channels,
)
from ae_models.onnx_encoder import OnnxEncoder
from ae_models.spec import CATEGORY, ColumnBlock
from ae_models.tokens import PADDING
from ae_models.transformer import EMBEDDING_STD, Transformer, position_embeddings

__all__ = ["ENCODERS", "ConvEncoder", "DenseEncoder", "TableEncoder", "TemporalEncoder", "TokenEncoder"]

# a of Arora et al. 2017, who found 1e-3 to 1e-4 best; a token that makes up this share of all weighs one half
_RARITY_SCALE = 1e-3
_CONVOLUTIONS: dict[int, Callable[..., nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d}  # by the number of sides


class ConvEncoder(EncoderModule):
    """Strided convolutions, each halving height and width (rounding up), then one dense layer over the smallest map.

    A latent map has one small dense layer instead, the same at each position (a 1x1 convolution). Its numbers lie position by
    position in reading order, so that those of a position stay together: a quantising bottleneck with a slot a position makes
    a word of each.

    Args:
        widths: channels after each halving.
        kernel: pixels a side of each convolution.
        blocks: residual blocks after each halving.
        dense: numbers after each dense layer before the last, with ReLU between them.
        map: whether the code is a map.
        shape: (c, h, w) of an input, of any size.
        size: numbers of an output.

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
        conv_layers, (channels, *sides) = _halving_layers(widths, kernel, blocks, shape)
        positions = math.prod(sides)
        self.dense: nn.Module
        if map:
            self.layers = nn.Sequential(*conv_layers, FlattenPositions())
            self.dense = nn.Sequential(nn.Linear(channels, latent_map_channels(size, positions)), nn.Flatten())
        else:
            self.layers = nn.Sequential(*conv_layers, nn.Flatten())
            self.dense = _dense_head(channels * positions, dense, size)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.dense(self.layers(x))
        return h

    def forward_with_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features: Tensor = self.layers[:-1](x)
        h: Tensor = self.dense(self.layers[-1](features))
        return h, features


class DenseEncoder(EncoderModule):
    """Dense layers with ReLU between them, over all numbers of a sample.

    Args:
        widths: numbers after each layer; one more layer makes the code.
        shape: (c, h, w) or (c, steps) of an input.
        size: numbers of an output.
    """

    def __init__(self, widths: tuple[int, ...], shape: tuple[int, ...], size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), *dense_layers((math.prod(shape), *widths, size)))

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.layers(x)
        return h


class TableEncoder(EncoderModule):
    """Dense layers over the vector of a table's row, in which each category with many values has been embedded.

    Args:
        widths: numbers after each layer; one more layer makes the code.
        embedding: numbers of a category whose vector has more places than this.
        shape: (numbers,) of a vector.
        size: numbers of an output.
        blocks: the places of each column.
    """

    def __init__(
        self, widths: tuple[int, ...], embedding: int, shape: tuple[int, ...], size: int, blocks: tuple[ColumnBlock, ...]
    ) -> None:
        super().__init__()
        self.embedded = [block for block in blocks if block.spec.type == CATEGORY and block.size > embedding]
        self.embeddings = nn.ModuleList([nn.Linear(block.size, embedding, bias=False) for block in self.embedded])
        embedded_places: set[int] = set()
        for block in self.embedded:
            embedded_places.update(range(block.start, block.start + block.size))
        self.plain_places = sorted(set(range(shape[0])) - embedded_places)
        width = len(self.plain_places) + embedding * len(self.embedded)
        self.layers = nn.Sequential(*dense_layers((width, *widths, size)))

    def forward(self, x: Tensor) -> Tensor:
        parts = [x]
        if self.embedded:
            parts = [x[:, self.plain_places]]
        for block, embedding in zip(self.embedded, self.embeddings, strict=True):
            parts.append(embedding(x[:, block.places]))
        h: Tensor = self.layers(torch.cat(parts, 1))
        return h


class TemporalEncoder(EncoderModule):
    """Strided convolutions along time, each halving the steps (rounding up), then one dense layer.

    Args:
        widths: channels after each halving.
        kernel: steps of each convolution.
        shape: (c, steps) of a window, of any length.
        size: numbers of an output.
    """

    def __init__(self, widths: tuple[int, ...], kernel: int, shape: tuple[int, ...], size: int) -> None:
        super().__init__()
        conv_layers, smallest_shape = _halving_layers(widths, kernel, 0, shape)
        self.layers = nn.Sequential(*conv_layers, nn.Flatten())
        self.dense = nn.Linear(math.prod(smallest_shape), size)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.dense(self.layers(x))
        return h


class TokenEncoder(EncoderModule):
    """Embeddings of tokens and of their positions, transformer layers, the mean over the tokens in use, one dense layer.

    Maps ids int64 (n, length), 0 where there is no token, to (n, size). Padding is neither attended to nor averaged over, so
    a text has one code at every length. A text without tokens is read as one empty position, since a mean needs something.

    Args:
        vocabulary: number of token ids.
        length: tokens of a text.
        width: numbers a token.
        layers: of the transformer.
        heads: of the transformer.
        pooling: "mean", or "inverse-frequency": tokens weigh a / (a + p) (Arora et al. 2017), with p from `count_tokens`.
        positions: whether a position's embedding is added to its token's.
        shape: (length,).
        size: numbers of an output.

    Raises:
        ValueError: `shape` is not (length,).
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
            raise ValueError(f"expected an input of shape ({length},), as encode.length says, got {shape}")
        self.embeddings = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.embeddings.weight, std=EMBEDDING_STD)
        self.positions = position_embeddings(length, width) if positions else None
        self.transformer = Transformer(width, layers, heads)
        self.dense = nn.Linear(width, size)
        self.register_buffer("first", torch.arange(length) == 0, persistent=False)
        self.weighs_by_rarity = pooling == "inverse-frequency"
        if self.weighs_by_rarity:
            self.register_buffer("shares", torch.zeros(vocabulary))  # p; saved with the weights

    def count_tokens(self, id_blocks: Iterable[Tensor]) -> None:
        """Set the share of each token in the training texts; pooling by the plain mean needs none and ignores the call.

        Args:
            id_blocks: token ids, (k, length) each.
        """
        if not self.weighs_by_rarity:
            return
        counts = torch.zeros(len(self.shares), dtype=torch.int64)
        for block in id_blocks:
            counts += torch.bincount(block.flatten(), minlength=len(counts))
        counts[PADDING] = 0
        self.shares.copy_(counts / counts.sum())

    def forward(self, ids: Tensor) -> Tensor:
        padding = ids == PADDING
        in_use = ~padding | (padding.all(1, keepdim=True) & self.first)
        h = self.embeddings(ids)
        if self.positions is not None:
            h = h + self.positions
        h = self.transformer(h, in_use)
        weights = in_use.to(h.dtype)
        if self.weighs_by_rarity:
            weights = weights * _RARITY_SCALE / (_RARITY_SCALE + self.shares[ids])
        mean = (h * weights.unsqueeze(2)).sum(1) / weights.sum(1, keepdim=True)
        outputs: Tensor = self.dense(mean)
        return outputs


def _dense_head(in_features: int, hidden_sizes: tuple[int, ...], out_features: int) -> nn.Module:
    if not hidden_sizes:
        return nn.Linear(in_features, out_features)  # under its plain name, as the weights of format 1 have it
    return nn.Sequential(*dense_layers((in_features, *hidden_sizes, out_features)))


def _halving_layers(
    widths: tuple[int, ...], kernel: int, blocks: int, shape: tuple[int, ...]
) -> tuple[list[nn.Module], tuple[int, ...]]:
    """Return convolutions that halve the sides of (c, *sides) once for each width, and the shape of their output."""
    convolution = _CONVOLUTIONS[len(shape) - 1]
    *larger_sides, last_sides = halved_sides(shape[1:], len(widths))
    layers: list[nn.Module] = []
    for sides, (in_channels, out_channels) in zip(larger_sides, pairwise((shape[0], *widths)), strict=True):
        padding = tuple(halving_padding(side, kernel)[0] for side in sides)
        layers += [convolution(in_channels, out_channels, kernel, stride=2, padding=padding)]
        layers += [ResidualBlock(out_channels) for _ in range(blocks)]
        layers += [nn.ReLU()]
    last_channels = (shape[0], *widths)[-1]
    return layers, (last_channels, *last_sides)


ENCODERS: dict[str, type[EncoderModule]] = {
    "conv": ConvEncoder,
    "dense": DenseEncoder,
    "temporal": TemporalEncoder,
    "tokens": TokenEncoder,
    "onnx": OnnxEncoder,
    "table": TableEncoder,
}
