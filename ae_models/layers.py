"""Blocks that encoders, decoders and critics share, and the arithmetic of halving an image."""

from itertools import pairwise
from typing import cast

from torch import Tensor, nn

__all__ = [
    "FlattenPositions",
    "ResidualBlock",
    "UnflattenPositions",
    "dense_layers",
    "halved_sides",
    "halved_sizes",
    "halving_padding",
    "latent_map_channels",
]


def halved_sizes(size: int, times: int) -> list[int]:
    """Return `size` and the sizes after each of `times` halvings, rounding up.

    >>> halved_sizes(28, 2), halved_sizes(7, 2)
    ([28, 14, 7], [7, 4, 2])
    """
    sizes = [size]
    for _ in range(times):
        sizes.append((sizes[-1] + 1) // 2)
    return sizes


def halved_sides(sides: tuple[int, ...], times: int) -> list[tuple[int, ...]]:
    """Return `sides` and the sides after each of `times` halvings, rounding up.

    >>> halved_sides((28, 7), 2)
    [(28, 7), (14, 4), (7, 2)]
    """
    sizes_of_sides = [halved_sizes(side, times) for side in sides]
    return list(zip(*sizes_of_sides, strict=True))


def halving_padding(size: int, kernel: int) -> tuple[int, int]:
    """Return (padding, output_padding) with which a stride of 2 maps `size` to ceil(size / 2), and its transpose maps it back.

    A convolution's output has floor((size + 2 padding - kernel) / 2) + 1 numbers; its transpose's has (half - 1) 2 - 2 padding +
    kernel + output_padding. Where the missing padding is odd, the transpose gives the surplus one back.

    >>> halving_padding(28, 4), halving_padding(7, 4)
    ((1, 0), (2, 1))
    """
    missing = 2 * ((size + 1) // 2 - 1) + kernel - size
    padding = (missing + 1) // 2
    return padding, 2 * padding - missing


def dense_layers(sizes: tuple[int, ...]) -> list[nn.Module]:
    """Return a dense layer from each size to the next, with ReLU between them and none at the ends."""
    layers: list[nn.Module] = []
    for in_features, out_features in pairwise(sizes):
        layers += [nn.ReLU(), nn.Linear(in_features, out_features)]
    return layers[1:]


def latent_map_channels(size: int, positions: int) -> int:
    """Return the channels of a latent map with so many positions and `size` numbers.

    Raises:
        ValueError: `size` is no multiple of `positions`.
    """
    if size % positions:
        raise ValueError(f"expected a multiple of {positions} numbers for a map of {positions} positions, got {size}")
    return size // positions


class ResidualBlock(nn.Module):
    """x + conv3x3(relu(conv3x3(relu(x)))), (n, c, h, w) to the same shape (He et al. 2016, identity mappings).

    The last convolution starts at zero, so that a block starts as the identity (Goyal et al. 2017, section 5.1).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        first = nn.Conv2d(channels, channels, 3, padding=1)
        last = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(cast(Tensor, last.bias))
        self.layers = nn.Sequential(nn.ReLU(), first, nn.ReLU(), last)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.layers(x)
        return y


class FlattenPositions(nn.Module):
    """Maps (n, c, h, w) to the positions in reading order, (n, h w, c)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2)


class UnflattenPositions(nn.Module):
    """The inverse of `FlattenPositions`, for maps of one shape (c, h, w)."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).reshape(-1, *self.shape)  # n left open: the ONNX exporter would keep that of its example
