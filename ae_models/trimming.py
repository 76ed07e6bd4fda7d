"""Trimmed training: of each batch, the samples with the highest losses get no gradient, as some of them may be anomalous.

An anomaly that a model is trained on is soon reconstructed as well as a normal sample. Least trimmed squares (Rousseeuw 1984)
leaves out the samples that fit worst; here it is the same share of every batch, so that nothing has to be remembered between two
steps and a training that was stopped goes on with the same bits.
"""

import math

import torch
from torch import Tensor

from ae_models.autoencoder import Autoencoder
from ae_models.batch_share import BatchShare, sum_over_workers, use_share
from ae_models.spec import TrainSpec

__all__ = ["WARM_UP_SHARE", "kept_pair", "trimmed_count"]

WARM_UP_SHARE = 0.2  # share of the steps that are not trimmed: until then, losses say little about a sample


def trimmed_count(spec: TrainSpec, step: int, steps: int, batch: int) -> int:
    """Return how many samples of a batch get no gradient, at most all but one; over many steps it is the share `spec.trim`.

    Args:
        spec: of the training.
        step: of the training, from 0.
        steps: of the whole training.
        batch: samples in the batch.

    >>> spec = TrainSpec(batch=16, trim=0.05)
    >>> [trimmed_count(spec, step, 100, 16) for step in (0, 19, 20, 21, 22, 23, 24)]
    [0, 0, 0, 1, 1, 1, 1]
    """
    if spec.trim == 0 or step < WARM_UP_SHARE * steps:
        return 0
    share = spec.trim * batch  # its whole part, and one more as often as its fraction says
    return min(batch - 1, math.floor((step + 1) * share + 1e-9) - math.floor(step * share + 1e-9))


def kept_pair(
    member: Autoencoder, inputs: Tensor, target: Tensor, trimmed: int, share: BatchShare | None = None
) -> tuple[Tensor, Tensor, BatchShare | None]:
    """Return inputs and targets without the `trimmed` samples of the batch that the member reconstructs worst, in their order.

    Args:
        member: the model that is trained.
        inputs: of its encoder, (n, ...).
        target: of the same samples.
        trimmed: how many of the batch are left out, fewer than it has.
        share: of the batch that the samples are; None: all of it.

    Returns:
        Inputs, targets, and the share that they are of what remains of the batch.
    """
    if trimmed == 0:
        return inputs, target, share
    losses = member.sample_losses(inputs, target)
    if share is not None:
        losses = _gather_losses(losses, share)
    order = torch.argsort(losses, stable=True)
    kept = torch.sort(order[: len(order) - trimmed]).values
    if share is None:
        return inputs[kept], target[kept], None
    kept_share, own = _own_of_kept(kept, share)
    return inputs[own], target[own], kept_share


def _gather_losses(losses: Tensor, share: BatchShare) -> Tensor:
    """Return the losses of the whole batch, (total,), of those of each worker's samples."""
    of_batch = losses.new_zeros(share.total)
    of_batch[share.first : share.first + share.count] = losses[: share.count]
    with use_share(share):
        return sum_over_workers(of_batch)


def _own_of_kept(kept: Tensor, share: BatchShare) -> tuple[BatchShare, Tensor]:
    """Return the share of what remains of a batch, and which of the samples at hand it is: any one where none remains.

    Args:
        kept: rows of the batch that remain, ascending.
        share: of the batch.
    """
    before = int((kept < share.first).sum())
    own = kept[(kept >= share.first) & (kept < share.first + share.count)] - share.first
    kept_share = BatchShare(before, len(own), len(kept), share.workers)
    if len(own) == 0:
        own = torch.zeros(1, dtype=torch.int64, device=kept.device)
    return kept_share, own
