"""What every encoder is."""

from torch import Tensor, nn

__all__ = ["EncoderModule"]


class EncoderModule(nn.Module):
    """Maps inputs in [0, 1], or token ids, to the numbers that the bottleneck asks for, (n, size)."""

    def forward_with_features(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the output (n, size), and the last convolutional map (n, c, h, w); None for a kind without one."""
        return self(x), None
