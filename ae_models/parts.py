"""What the words share: building a module from its spec, the arithmetic of halving an image, and small blocks."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from itertools import pairwise
from typing import Any, TypeVar, cast

from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def build(kinds: Mapping[str, Callable[..., M]], spec: Any, **surroundings: Any) -> M:
    """The module of `spec.kind`, called with the spec's fields and its surroundings (input shape, code size)."""
    values = {key.name: getattr(spec, key.name) for key in fields(spec)}
    return kinds[spec.kind](**values, **surroundings)


def halvings(size: int, times: int) -> list[int]:
    """`size` and what each of `times` halvings (rounding up) makes of it: 28, 2 -> [28, 14, 7]; 7, 2 -> [7, 4, 2]."""
    sizes = [size]
    for _ in range(times):
        sizes.append((sizes[-1] + 1) // 2)
    return sizes


def halving_padding(size: int, kernel: int) -> tuple[int, int]:
    """(padding, output_padding) with which a stride of 2 maps `size` to ceil(size / 2), and its transpose maps it back.

    A convolution makes floor((size + 2 padding - kernel) / 2) + 1; its transpose (half - 1) 2 - 2 padding + kernel +
    output_padding. The padding that is missing may be odd: then the transpose gets the one too many back.
    """
    missing = 2 * ((size + 1) // 2 - 1) + kernel - size
    padding = (missing + 1) // 2
    return padding, 2 * padding - missing


def dense_layers(sizes: tuple[int, ...]) -> list[nn.Module]:
    """A dense layer from each size to the next, with ReLU between them and none at the ends."""
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.ReLU(), nn.Linear(before, after)]
    return layers[1:]


def channels_of_map(size: int, places: int) -> int:
    """How many channels a map of so many places has where its numbers are `size`.

    Raises:
        ValueError: they do not go into one another.
    """
    if size % places:
        raise ValueError(f"{size} numbers given for a map of {places} places; a multiple of {places} is allowed")
    return size // places


class Residual(nn.Module):
    """x + conv3x3(relu(conv3x3(relu(x)))), (n, c, h, w) to the same shape (He et al. 2016, identity mappings).

    The last convolution starts at zero, so that a block starts as the identity (Goyal et al. 2017, section 5.1).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        first, last = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        nn.init.zeros_(last.weight)
        nn.init.zeros_(cast(Tensor, last.bias))
        self.layers = nn.Sequential(nn.ReLU(), first, nn.ReLU(), last)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.layers(x)
        return y


class Places(nn.Module):
    """A map (n, c, h, w) as its places in reading order, (n, h w, c)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2)


class FromPlaces(nn.Module):
    """The inverse of `Places`, for maps of one shape (c, h, w)."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).reshape(-1, *self.shape)  # n left open: the ONNX exporter would keep that of its example
