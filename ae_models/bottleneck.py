"""bottleneck: what the code must pass. Each module maps codes (n, size) to codes (n, size)."""

from torch import Tensor, nn


class IdentityBottleneck(nn.Module):
    """The code as it is.

    Args:
        size: numbers in a code; the encoder and the decoder are built to it.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, z: Tensor) -> Tensor:
        return z


KINDS = {"identity": IdentityBottleneck}
