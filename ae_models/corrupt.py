"""corrupt: what the encoder is given instead of the input. Each module maps (n, c, h, w) in [0, 1] to the same shape.

Anything random is drawn on the input's device from torch's global generator, which the training seeds at each step.
"""

from torch import Tensor, nn


class NoCorruption(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


KINDS = {"none": NoCorruption}
