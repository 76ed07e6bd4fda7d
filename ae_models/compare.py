"""compare: the loss. Each module maps what the decoder makes, raw, and a target to one number, and finishes what is raw.

Arrays are (n, c, h, w) or (n, c, t), targets in [0, 1]; texts are token ids (n, tokens), 0 where there is none.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ae_models.blur import blurred, gaussian
from ae_models.tokens import END, PADDING


class Compare(nn.Module):
    """What the kinds for arrays share.

    Args:
        reduce: "mean" over all numbers of a batch, or "sum" over a sample's numbers, then the mean over samples.

    Attributes:
        numbers: how many the decoder makes for each value of a target.
    """

    def __init__(self, reduce: str) -> None:
        super().__init__()
        self.reduce = reduce
        self.numbers = 1

    def losses(self, raw: Tensor, target: Tensor) -> Tensor:
        """A loss for each number (of a text: token), (n, ...)."""
        raise NotImplementedError

    def forward(self, raw: Tensor, target: Tensor) -> Tensor:
        losses = self.losses(raw.float(), target)
        return losses.mean() if self.reduce == "mean" else losses.flatten(1).sum(1).mean()

    def finished(self, raw: Tensor) -> Tensor:
        """The reconstruction: values in [0, 1] of the target's shape, or token ids. The loss itself sees raw values unclipped,
        so that one out of range still pulls the weights back."""
        return raw.clamp(0.0, 1.0)


class MseCompare(Compare):
    """(y - t)^2."""

    def losses(self, raw: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(raw, target, reduction="none")


class L1Compare(Compare):
    """|y - t|."""

    def losses(self, raw: Tensor, target: Tensor) -> Tensor:
        return F.l1_loss(raw, target, reduction="none")


class HuberCompare(Compare):
    """(y - t)^2 / 2 up to delta, then delta (|y - t| - delta / 2) (Huber 1964)."""

    def __init__(self, reduce: str, delta: float) -> None:
        super().__init__(reduce)
        self.delta = delta

    def losses(self, raw: Tensor, target: Tensor) -> Tensor:
        return F.huber_loss(raw, target, reduction="none", delta=self.delta)


class BceCompare(Compare):
    """-positive t log p - (1 - t) log(1 - p) with p = sigmoid(y): raw values are logits.

    Args:
        reduce: as everywhere.
        positive: weight of t's part.
    """

    def __init__(self, reduce: str, positive: float) -> None:
        super().__init__(reduce)
        self.positive = positive

    def losses(self, raw: Tensor, target: Tensor) -> Tensor:
        return self.positive * target * F.softplus(-raw) + (1.0 - target) * F.softplus(raw)

    def finished(self, raw: Tensor) -> Tensor:
        return raw.sigmoid()


class SsimCompare(Compare):
    """1 - structural similarity (Wang et al. 2004), of each window of 11 x 11 pixels that lies wholly in the image.

    So a sample has c (h - 10) (w - 10) numbers to be reduced.
    """

    kernel: Tensor

    def __init__(self, reduce: str) -> None:
        super().__init__(reduce)
        self.register_buffer("kernel", gaussian(1.5), persistent=False)

    def losses(self, raw: Tensor, target: Tensor) -> Tensor:
        c1, c2 = 0.01**2, 0.03**2  # K1, K2 of the paper, for values in a range of 1
        moments = torch.cat([raw, target, raw * raw, target * target, raw * target], dim=1)
        y, t, yy, tt, yt = blurred(moments, self.kernel, padding=0).chunk(5, dim=1)
        means = (2 * y * t + c1) / (y * y + t * t + c1)
        variances = (2 * (yt - y * t) + c2) / ((yy - y * y) + (tt - t * t) + c2)
        return 1.0 - means * variances


class LevelCrossEntropy(Compare):
    """-log softmax(y)[level] for values that are one of `categories` levels evenly from 0 to 1.

    raw (n, c categories, ...) is read as (n, c, categories, ...); the level of a value t is t (categories - 1), rounded.
    """

    def __init__(self, reduce: str, categories: int) -> None:
        super().__init__(reduce)
        self.numbers = categories

    def losses(self, raw: Tensor, target: Tensor) -> Tensor:
        levels = torch.round(target * (self.numbers - 1)).long()
        return surprise(self.by_category(raw).movedim(2, -1), levels)

    def finished(self, raw: Tensor) -> Tensor:
        return self.by_category(raw).argmax(2).float() / (self.numbers - 1)

    def by_category(self, raw: Tensor) -> Tensor:
        return raw.reshape(raw.shape[0], raw.shape[1] // self.numbers, self.numbers, *raw.shape[2:])


class TokenCrossEntropy(Compare):
    """-log softmax(y)[token] of raw (n, vocabulary, tokens). Padding does not count: "mean" is over tokens in use."""

    def losses(self, raw: Tensor, target: Tensor) -> Tensor:
        return surprise(raw.transpose(1, 2), target) * (target != PADDING)

    def forward(self, raw: Tensor, target: Tensor) -> Tensor:
        losses = self.losses(raw.float(), target)
        if self.reduce == "sum":
            return losses.sum(1).mean()
        return losses.sum() / (target != PADDING).sum().clamp(min=1)

    def finished(self, raw: Tensor) -> Tensor:
        """The likeliest tokens up to the first END; what comes after it was never trained, and is no token."""
        ids = raw.argmax(1)
        ends = (ids == END).long()
        return ids * (ends.cumsum(1) - ends == 0)


def surprise(logits: Tensor, classes: Tensor) -> Tensor:
    """-log softmax(logits)[class], in nats: logits (..., classes), classes (...) int64, result (...)."""
    # By rows: torch's cross-entropy over maps adds up without a fixed order on a GPU.
    flat = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), classes.reshape(-1), reduction="none")
    return flat.reshape(classes.shape)


def cross_entropy(reduce: str, categories: int) -> Compare:
    """Of tokens where `categories` is 0, else of values that are one of so many levels."""
    return LevelCrossEntropy(reduce, categories) if categories else TokenCrossEntropy(reduce)


KINDS: dict[str, Callable[..., Compare]] = {
    "mse": MseCompare,
    "l1": L1Compare,
    "huber": HuberCompare,
    "bce": BceCompare,
    "ssim": SsimCompare,
    "cross-entropy": cross_entropy,
}
