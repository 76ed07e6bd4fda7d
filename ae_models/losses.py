"""Reconstruction losses. Each module maps the decoder's output and a target to one number, and has its activation.

Arrays are (n, c, h, w) or (n, c, t), targets in [0, 1]; texts are token ids (n, tokens), 0 where there is none.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ae_models.batch_share import count_in_share
from ae_models.blur import blur_axes, gaussian_kernel
from ae_models.spec import BOOLEAN, CATEGORY, ColumnBlock
from ae_models.table_preprocessing import ONE_HOT
from ae_models.tokens import END, PADDING

__all__ = [
    "LOSSES",
    "BceLoss",
    "HuberLoss",
    "L1Loss",
    "LevelCrossEntropyLoss",
    "MixedLoss",
    "MseLoss",
    "ReconstructionLoss",
    "SsimLoss",
    "TokenCrossEntropyLoss",
]


class ReconstructionLoss(nn.Module):
    """Behaviour that the kinds for arrays share.

    Args:
        reduce: "mean" over all numbers of a batch, or "sum" over a sample's numbers, then the mean over samples.

    Attributes:
        outputs_per_value: numbers that the decoder makes for each value of a target.
    """

    def __init__(self, reduce: str) -> None:
        super().__init__()
        self.reduce = reduce
        self.outputs_per_value = 1

    def elementwise(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return a loss for each number (of a text: token), (n, ...)."""
        raise NotImplementedError

    def forward(self, outputs: Tensor, target: Tensor) -> Tensor:
        losses = self.elementwise(outputs.float(), target)
        if self.reduce == "mean":
            return losses.mean()
        return losses.flatten(1).sum(1).mean()

    def sample_losses(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss over the numbers of each sample (of a text: over its tokens in use), (n,)."""
        return self.elementwise(outputs.float(), target).flatten(1).mean(1)

    def activate(self, outputs: Tensor) -> Tensor:
        """Return the reconstruction: values in [0, 1] of the target's shape, or token ids.

        The loss itself sees the outputs unclipped, so that one out of range still pulls the weights back.
        """
        return outputs.clamp(0.0, 1.0)


class MseLoss(ReconstructionLoss):
    """(y - t)^2."""

    def forward(self, outputs: Tensor, target: Tensor) -> Tensor:
        if self.reduce == "mean":  # the same bits by one operation
            return F.mse_loss(outputs.float(), target)
        return super().forward(outputs, target)

    def elementwise(self, outputs: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(outputs, target, reduction="none")


class L1Loss(ReconstructionLoss):
    """|y - t|."""

    def elementwise(self, outputs: Tensor, target: Tensor) -> Tensor:
        return F.l1_loss(outputs, target, reduction="none")


class HuberLoss(ReconstructionLoss):
    """(y - t)^2 / 2 up to delta, then delta (|y - t| - delta / 2) (Huber 1964)."""

    def __init__(self, reduce: str, delta: float) -> None:
        super().__init__(reduce)
        self.delta = delta

    def elementwise(self, outputs: Tensor, target: Tensor) -> Tensor:
        return F.huber_loss(outputs, target, reduction="none", delta=self.delta)


class BceLoss(ReconstructionLoss):
    """-positive t log p - (1 - t) log(1 - p) with p = sigmoid(y): the decoder's outputs are logits.

    Args:
        reduce: as everywhere.
        positive: weight of t's part.
    """

    def __init__(self, reduce: str, positive: float) -> None:
        super().__init__(reduce)
        self.positive = positive

    def elementwise(self, outputs: Tensor, target: Tensor) -> Tensor:
        return self.positive * target * F.softplus(-outputs) + (1.0 - target) * F.softplus(outputs)

    def activate(self, outputs: Tensor) -> Tensor:
        return outputs.sigmoid()


class SsimLoss(ReconstructionLoss):
    """1 - structural similarity (Wang et al. 2004), of each window of 11 x 11 pixels that lies wholly in the image.

    So a sample has c (h - 10) (w - 10) numbers to reduce.
    """

    kernel: Tensor

    def __init__(self, reduce: str) -> None:
        super().__init__(reduce)
        self.register_buffer("kernel", gaussian_kernel(1.5), persistent=False)

    def elementwise(self, outputs: Tensor, target: Tensor) -> Tensor:
        c1, c2 = 0.01**2, 0.03**2  # K1, K2 of the paper, for values in a range of 1
        products = [outputs, target, outputs * outputs, target * target, outputs * target]
        y, t, yy, tt, yt = blur_axes(torch.cat(products, dim=1), self.kernel, padding=0).chunk(5, dim=1)
        means = (2 * y * t + c1) / (y * y + t * t + c1)
        variances = (2 * (yt - y * t) + c2) / ((yy - y * y) + (tt - t * t) + c2)
        return 1.0 - means * variances


class LevelCrossEntropyLoss(ReconstructionLoss):
    """-log softmax(y)[level] for values that are one of `categories` levels evenly from 0 to 1.

    Outputs (n, c categories, ...) are read as (n, c, categories, ...); the level of a value t is t (categories - 1), rounded.
    """

    def __init__(self, reduce: str, categories: int) -> None:
        super().__init__(reduce)
        self.outputs_per_value = categories

    def elementwise(self, outputs: Tensor, target: Tensor) -> Tensor:
        levels = torch.round(target * (self.outputs_per_value - 1)).long()
        return _negative_log_likelihood(self._split_categories(outputs).movedim(2, -1), levels)

    def activate(self, outputs: Tensor) -> Tensor:
        return self._split_categories(outputs).argmax(2).float() / (self.outputs_per_value - 1)

    def _split_categories(self, outputs: Tensor) -> Tensor:
        channels = outputs.shape[1] // self.outputs_per_value
        return outputs.reshape(outputs.shape[0], channels, self.outputs_per_value, *outputs.shape[2:])


class TokenCrossEntropyLoss(ReconstructionLoss):
    """-log softmax(y)[token] of outputs (n, vocabulary, tokens). Padding does not count: "mean" is over tokens in use."""

    def elementwise(self, outputs: Tensor, target: Tensor) -> Tensor:
        return _negative_log_likelihood(outputs.transpose(1, 2), target) * (target != PADDING)

    def forward(self, outputs: Tensor, target: Tensor) -> Tensor:
        losses = self.elementwise(outputs.float(), target)
        if self.reduce == "sum":
            return losses.sum(1).mean()
        return losses.sum() / count_in_share((target != PADDING).sum(1)).clamp(min=1)

    def sample_losses(self, outputs: Tensor, target: Tensor) -> Tensor:
        losses = self.elementwise(outputs.float(), target).sum(1)
        return losses / (target != PADDING).sum(1).clamp(min=1)

    def activate(self, outputs: Tensor) -> Tensor:
        """Return the likeliest tokens up to the first END; the positions after it were never trained, and hold no token."""
        ids = outputs.argmax(1)
        is_end = (ids == END).long()
        return ids * (is_end.cumsum(1) - is_end == 0)


class MixedLoss(ReconstructionLoss):
    """Losses of a table's columns: of scaled numbers Huber's, of booleans and missing-indicators binary cross-entropy, of
    categories cross-entropy. A column without a value counts by its indicator alone.

    Outputs and targets are vectors (n, numbers), as `ae_models.table_preprocessing` makes them; where a target is a choice,
    outputs are logits.

    Args:
        reduce: as everywhere; the numbers of a sample are its columns.
        delta: of Huber's loss, in spreads of a column.
        blocks: the places of each column.
    """

    is_boolean: Tensor

    def __init__(self, reduce: str, delta: float, blocks: tuple[ColumnBlock, ...]) -> None:
        super().__init__(reduce)
        self.delta = delta
        self.scaled = [block for block in blocks if block.spec.is_scaled]
        self.booleans = [block for block in blocks if block.spec.type == BOOLEAN]
        self.categories = [block for block in blocks if block.spec.type == CATEGORY]
        self.with_indicator = [block for block in blocks if block.indicator is not None]
        plain = sorted((*self.scaled, *self.booleans), key=lambda block: block.start)
        is_boolean = torch.tensor([block.spec.type == BOOLEAN for block in plain], dtype=torch.bool)
        self.register_buffer("is_boolean", is_boolean, persistent=False)
        computed_columns = [block.column for block in (*self.scaled, *self.booleans, *self.categories)]
        self.order_back = sorted(range(len(blocks)), key=computed_columns.__getitem__)

    def elementwise(self, outputs: Tensor, target: Tensor) -> Tensor:
        losses = []
        if self.scaled:
            places = [block.start for block in self.scaled]
            losses.append(F.huber_loss(outputs[:, places], target[:, places], reduction="none", delta=self.delta))
        if self.booleans:
            places = [block.start for block in self.booleans]
            losses.append(_binary_cross_entropy(outputs[:, places], target[:, places] + 0.5))
        for block in self.categories:
            likelihood = outputs[:, block.places].log_softmax(1)
            losses.append(-(likelihood * target[:, block.places] / ONE_HOT).sum(1, keepdim=True))
        by_column = torch.cat(losses, 1)[:, self.order_back]
        if not self.with_indicator:
            return by_column
        columns = [block.column for block in self.with_indicator]
        indicators = [block.indicator for block in self.with_indicator]
        membership = F.one_hot(torch.tensor(columns), by_column.shape[1]).to(by_column)
        is_missing = target[:, indicators]
        indicator_losses = _binary_cross_entropy(outputs[:, indicators], is_missing)
        return by_column * (1 - is_missing @ membership) + indicator_losses @ membership

    def activate(self, outputs: Tensor) -> Tensor:
        """Return the vector that outputs stand for: numbers as they are, of a choice the probabilities."""
        numbers = outputs[:, : len(self.is_boolean)]
        parts = [torch.where(self.is_boolean, numbers.sigmoid() - 0.5, numbers) if self.booleans else numbers]
        parts += [ONE_HOT * outputs[:, block.places].softmax(1) for block in self.categories]
        if self.with_indicator:
            parts.append(outputs[:, [block.indicator for block in self.with_indicator]].sigmoid())
        return torch.cat(parts, 1)


def _binary_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return F.softplus(logits) - logits * target


def _negative_log_likelihood(logits: Tensor, classes: Tensor) -> Tensor:
    """Return -log softmax(logits)[class], in nats: logits (..., classes), classes (...) int64, result (...)."""
    # By rows: torch's cross-entropy over maps adds up without a fixed order on a GPU.
    losses = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), classes.reshape(-1), reduction="none")
    return losses.reshape(classes.shape)


def _cross_entropy_loss(reduce: str, categories: int) -> ReconstructionLoss:
    """Return the loss of tokens where `categories` is 0, else of values that are one of so many levels."""
    if categories:
        return LevelCrossEntropyLoss(reduce, categories)
    return TokenCrossEntropyLoss(reduce)


LOSSES: dict[str, Callable[..., ReconstructionLoss]] = {
    "mse": MseLoss,
    "l1": L1Loss,
    "huber": HuberLoss,
    "bce": BceLoss,
    "ssim": SsimLoss,
    "cross-entropy": _cross_entropy_loss,
    "mixed": MixedLoss,
}
