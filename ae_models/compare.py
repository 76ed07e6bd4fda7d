"""compare: the loss. Each module maps a reconstruction and its target, both (n, c, h, w), to one number."""

from torch import Tensor, nn
from torch.nn import functional as F


class MseCompare(nn.Module):
    """The mean over samples, channels and pixels of (y - x)^2."""

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        return F.mse_loss(y, x)


KINDS = {"mse": MseCompare}
