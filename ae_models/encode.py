"""encode: input to code. Each module maps (n, c, h, w) in [0, 1] to (n, size)."""

from itertools import pairwise

from torch import Tensor, nn

from ae_models.parts import halving_padding, halvings


class ConvEncode(nn.Module):
    """Strided convolutions, each halving height and width (rounding up), then one dense layer.

    Args:
        widths: channels after each halving.
        kernel: pixels a side of each convolution.
        shape: (c, h, w) of an input, of any size.
        size: numbers in a code.
    """

    def __init__(self, widths: tuple[int, ...], kernel: int, shape: tuple[int, ...], size: int) -> None:
        super().__init__()
        heights, breadths = (halvings(side, len(widths)) for side in shape[1:])
        layers: list[nn.Module] = []
        for (before, after), height, breadth in zip(pairwise((shape[0], *widths)), heights, breadths, strict=False):
            padding = (halving_padding(height, kernel)[0], halving_padding(breadth, kernel)[0])
            layers += [nn.Conv2d(before, after, kernel, stride=2, padding=padding), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.dense = nn.Linear((shape[0], *widths)[-1] * heights[-1] * breadths[-1], size)

    def forward(self, x: Tensor) -> Tensor:
        code: Tensor = self.dense(self.layers(x))
        return code


KINDS = {"conv": ConvEncode}
