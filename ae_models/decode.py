"""decode: code to reconstruction. Each module maps (n, size) to (n, c, h, w), not yet clipped to [0, 1]."""

from itertools import pairwise

from torch import Tensor, nn

from ae_models.parts import halving_padding, halvings


class ConvDecode(nn.Module):
    """One dense layer, then transposed convolutions, each doubling height and width (or one less, where the size is odd).

    Args:
        widths: channels before each doubling.
        kernel: pixels a side of each convolution.
        shape: (c, h, w) of a reconstruction, of any size.
        size: numbers in a code.
    """

    def __init__(self, widths: tuple[int, ...], kernel: int, shape: tuple[int, ...], size: int) -> None:
        super().__init__()
        heights, breadths = (halvings(side, len(widths))[::-1] for side in shape[1:])
        seed = ((*widths, shape[0])[0], heights[0], breadths[0])
        self.dense = nn.Sequential(nn.Linear(size, seed[0] * seed[1] * seed[2]), nn.Unflatten(1, seed))
        layers: list[nn.Module] = []
        for (before, after), height, breadth in zip(pairwise((*widths, shape[0])), heights[1:], breadths[1:], strict=True):
            padding, more = zip(halving_padding(height, kernel), halving_padding(breadth, kernel), strict=True)
            layers += [nn.ReLU(), nn.ConvTranspose2d(before, after, kernel, 2, padding, more)]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        y: Tensor = self.layers(self.dense(z))
        return y


KINDS = {"conv": ConvDecode}
