"""What the words share: building a module from its spec, and the arithmetic of halving an image."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from torch import nn


def build(kinds: Mapping[str, Callable[..., nn.Module]], spec: Any, **surroundings: Any) -> nn.Module:
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
