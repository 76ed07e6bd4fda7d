"""Corruptions: damage to the input that the autoencoder learns to undo.

Each module maps images (n, c, h, w) or series (n, c, t) in [0, 1] to the same shape (grey: to one channel), or token ids
(n, tokens) to the same shape. It also acts in evaluation mode: the caller decides when to corrupt. Random numbers are drawn
on the input's device from torch's global generator, which the caller seeds, for the whole batch (`ae_models.batch_share`).
"""

import torch
from torch import Tensor, nn

from ae_models.batch_share import draw_like, draw_rows
from ae_models.tokens import END, PADDING

__all__ = [
    "CORRUPTIONS",
    "GaussianCorruption",
    "GreyCorruption",
    "MaskingCorruption",
    "NoCorruption",
    "SaltAndPepperCorruption",
    "WordDeletionCorruption",
    "rgb_to_luma",
]


class NoCorruption(nn.Module):
    """The identity."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class GaussianCorruption(nn.Module):
    """x + N(0, deviation^2) at every number, clipped to [0, 1].

    Args:
        deviation: in units where a value lies in [0, 1].
    """

    def __init__(self, deviation: float) -> None:
        super().__init__()
        self.deviation = deviation

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.deviation * draw_like(x, Tensor.normal_)).clamp(0.0, 1.0)


class SaltAndPepperCorruption(nn.Module):
    """Each pixel (or step), in all channels at once, becomes 0 or 1 with probability share / 2 each."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        uniform_draws = _uniform_by_position(x)
        salt_values = (uniform_draws >= self.share / 2).to(x.dtype)
        return torch.where(uniform_draws < self.share, salt_values, x)


class MaskingCorruption(nn.Module):
    """Each unit becomes 0 with probability `share`.

    Args:
        share: of the units, in expectation.
        unit: "pixels" (or steps; in all channels at once), "blocks" (squares of pixels, or stretches of steps, in all
            channels at once) or "features" (single numbers).
        block: pixels a side of a block; the last block of an axis is smaller where the side is no multiple.
    """

    def __init__(self, share: float, unit: str, block: int) -> None:
        super().__init__()
        self.share, self.unit, self.block = share, unit, block

    def forward(self, x: Tensor) -> Tensor:
        return x * (self._uniform_by_unit(x) >= self.share)

    def _uniform_by_unit(self, x: Tensor) -> Tensor:
        """Return uniform numbers in [0, 1), equal within a unit, that broadcast to x."""
        if self.unit == "features":
            return draw_like(x, Tensor.uniform_)
        if self.unit == "pixels":
            return _uniform_by_position(x)
        sides = x.shape[2:]
        blocks = [-(-side // self.block) for side in sides]
        uniform_draws = draw_rows(len(x), lambda rows: torch.rand(rows, 1, *blocks, device=x.device))
        for axis, side in enumerate(sides, start=2):
            uniform_draws = uniform_draws.repeat_interleave(self.block, dim=axis).narrow(axis, 0, side)
        return uniform_draws


class GreyCorruption(nn.Module):
    """Red, green and blue (n, 3, h, w) become their luma (n, 1, h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        return rgb_to_luma(x)


class WordDeletionCorruption(nn.Module):
    """Deletes each token with probability `share`; the rest closes up and padding follows. At least one token stays, and END.

    As TSDAE (Wang, Reimers and Gurevych 2021), which does so with whole words.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        is_word = (x != PADDING) & (x != END)
        uniform_draws = draw_rows(len(x), lambda rows: torch.rand(rows, *x.shape[1:], device=x.device)).masked_fill(
            ~is_word, -1.0
        )
        # The token with the largest number stays in any case: it matters only where every token would go.
        survival_mask = (uniform_draws >= self.share) | (uniform_draws == uniform_draws.amax(1, keepdim=True))
        retention_mask = (is_word & survival_mask) | (x == END)
        order = torch.argsort((~retention_mask).to(torch.uint8), dim=1, stable=True)
        return x.masked_fill(~retention_mask, PADDING).gather(1, order)


def rgb_to_luma(rgb: Tensor) -> Tensor:
    """Return 0.299 R + 0.587 G + 0.114 B of gamma-corrected (n, 3, h, w), as (n, 1, h, w) (Rec. ITU-R BT.601-7, 2.5.1)."""
    red, green, blue = rgb.chunk(3, dim=1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def _uniform_by_position(x: Tensor) -> Tensor:
    """Return a uniform number in [0, 1) for each pixel or step, the same for all channels: (n, 1, h, w) or (n, 1, t)."""
    return draw_rows(len(x), lambda rows: torch.rand(rows, 1, *x.shape[2:], device=x.device))


CORRUPTIONS = {
    "none": NoCorruption,
    "gaussian": GaussianCorruption,
    "salt-and-pepper": SaltAndPepperCorruption,
    "masking": MaskingCorruption,
    "grey": GreyCorruption,
    "word-deletion": WordDeletionCorruption,
}
