"""Values that a network was not trained for, made such as it knows: what lies outside the range, and what is missing (NaN)."""

from typing import Any

import torch
from torch import Tensor, nn

from ae_models.spec import FLAG_MISSING, LARGEST_EXCESS, MISSING_RULES, REFUSE_MISSING

__all__ = ["InputBounds"]


class InputBounds(nn.Module):
    """Clip samples to [low, high], fill in missing values, and measure how far out a sample was.

    A missing value becomes the mean of the other values of its channel, clipped; the middle of the range where there are none.

    Args:
        low, high: the range: numbers, or arrays (channels, 1) with one for each channel.
        missing: one of `ae_models.spec.MISSING_RULES`.

    Attributes:
        dtype: of the samples.
    """

    dtype = torch.float32

    low: Any
    high: Any

    def __init__(self, low: Any, high: Any, missing: str) -> None:
        super().__init__()
        if missing not in MISSING_RULES:
            raise ValueError(f"missing: expected one of {', '.join(MISSING_RULES)}, got {missing!r}")
        self.missing = missing
        for name, value in (("low", low), ("high", high)):
            if isinstance(value, int | float):
                setattr(self, name, value)
            else:
                self.register_buffer(name, torch.tensor(value, dtype=torch.float32), persistent=False)

    def forward(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the network takes of a batch, and how far out each sample is.

        Args:
            raw: float32 (n, channels, ...), any values.

        Returns:
            (n, channels, ...) in [low, high], and the excess (n,): how far the values lie outside, summed, in lengths of the
            range; of a missing value 1, under the rule `impute` 0. It is 0 for a sample inside, and NaN for one to refuse.
        """
        is_missing = torch.isnan(raw)
        middle = (self.low + self.high) / 2
        filled = torch.where(is_missing, middle, raw)
        clipped = filled.clamp(self.low, self.high)
        excess = ((filled - clipped).abs() / (self.high - self.low)).clamp(max=LARGEST_EXCESS)
        if self.missing == FLAG_MISSING:
            excess = torch.where(is_missing, 1.0, excess)
        elif self.missing == REFUSE_MISSING:
            excess = torch.where(is_missing, torch.nan, excess)
        present = (~is_missing).to(clipped.dtype)
        present_count = present.flatten(2).sum(2)
        # The sum over distances from the middle, so that a channel without any value gets the middle itself.
        distance_sum = ((clipped - middle) * present).flatten(2).sum(2)
        mean_distance = distance_sum / present_count.clamp(min=1)
        mean = (middle + mean_distance.reshape(*mean_distance.shape, *[1] * (raw.dim() - 2))).clamp(self.low, self.high)
        return torch.where(is_missing, mean, clipped), excess.flatten(1).sum(1)
