"""Lightning module: connects the autoencoder, the optimiser and the samples. The computation itself stands elsewhere."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ae_models.augmentations import AUGMENTATIONS
from ae_models.autoencoder import Autoencoder
from ae_models.batch_share import BatchShare, add_workers, use_share
from ae_models.data_loading import (
    EPOCH_SEED_STRIDE,
    EVALUATION_SEED,
    IndexBatchSampler,
    MappedSamples,
    ResidentIndices,
    evaluation_batch_size,
    make_loader,
    seed_generators,
)
from ae_models.factory import build_part
from ae_models.sample_sets import SampleSet
from ae_models.spec import TrainSpec
from ae_models.stacked_members import StackedMembers, can_stack
from ae_models.training_worker import ALONE, TrainingWorker, average_in_order
from ae_models.trimming import kept_pair, trimmed_count

__all__ = ["AutoencoderModule"]

_WARM_UP_SHARE = 0.05  # share of the steps in which the learning rate climbs to its peak
_ADAM_BETAS = (0.9, 0.98)  # in trainings of some thousand steps a memory of 50 steps beat the usual 1,000


class AutoencoderModule(pl.LightningModule):
    """Trains an autoencoder, or the members of an ensemble together, a step of each at a time.

    A member has its own order of samples, random numbers and gradients. It ends in the weights of a single model with its seed,
    as the sum of the members' losses has each member's gradient for its weights; small dense members, whose losses are computed
    at once (`ae_models.stacked_members`), end in the same up to rounding.

    Args:
        autoencoder: the model.
        spec: of the training.
        train: raw samples (n, ...), or token ids.
        validation: the same, evaluated after each epoch.
        resident: whether they lie on the device, moved there with the module and never saved with it; else they are read
            from their files, in the same order.
        worker: which of the workers of the training this process is; alone, by default.
    """

    loss_sums: Tensor  # (members,)
    train_samples: Tensor
    validation_samples: Tensor

    def __init__(
        self,
        autoencoder: Autoencoder,
        spec: TrainSpec,
        train: SampleSet,
        validation: SampleSet,
        resident: bool,
        worker: TrainingWorker = ALONE,
    ) -> None:
        super().__init__()
        self.spec, self.worker = spec, worker
        self.autoencoder = autoencoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its hints
        self.augment = build_part(AUGMENTATIONS, spec.augment)
        self.stacked: StackedMembers | None = None
        self.train_set, self.validation_set, self.resident = train, validation, resident
        if resident:
            self.register_buffer("train_samples", _copy_to_tensor(train), persistent=False)
            self.register_buffer("validation_samples", _copy_to_tensor(validation), persistent=False)
        self.register_buffer("loss_sums", torch.zeros(spec.members), persistent=False)
        self.rows = train.shape[0]
        self.steps_per_epoch = math.ceil(self.rows / spec.batch)

    @property
    def samples_per_epoch(self) -> int:
        """Samples that an epoch trains on, counted once for each member."""
        return self.rows * self.spec.members

    def train_dataloader(self) -> DataLoader[Tensor]:
        dataset = ResidentIndices() if self.resident else MappedSamples(self.train_set)
        spec, worker = self.spec, self.worker
        sampler = IndexBatchSampler(self.rows, spec.batch, spec.seed, spec.members, worker.number, worker.count)
        return make_loader(dataset, sampler)

    def batch_size(self, batch_idx: int) -> int:
        """Return the samples that all workers together train on in a step of an epoch, those of a single member."""
        return min(self.spec.batch, self.rows - batch_idx * self.spec.batch)

    def on_train_start(self) -> None:
        if self.worker.count > 2:  # the sum of two numbers has no order
            distributed_model: Any = self.trainer.strategy.model
            distributed_model.register_comm_hook(None, average_in_order)

    def on_train_epoch_start(self) -> None:
        self.loss_sums = torch.zeros_like(self.loss_sums)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        step_losses = self._step_losses(batch, self.worker.share(self.batch_size(batch_idx)))
        self.loss_sums += step_losses.detach()
        return step_losses.sum()

    def _step_losses(self, batch: Tensor, share: BatchShare | None) -> Tensor:
        """Return each member's loss on its own part of a batch, (members,).

        Args:
            batch: the samples at hand, or their indices, those of a member after the other's.
            share: that they are of the batch of all workers; None: all of it.
        """
        parts = zip(self.autoencoder.members, batch.chunk(self.spec.members), strict=True)
        if self.stacked is None:
            return torch.stack([self._member_loss(index, member, part, share) for index, (member, part) in enumerate(parts)])
        pairs = [self._training_pair(index, member, part, share)[:2] for index, (member, part) in enumerate(parts)]
        inputs, targets = zip(*pairs, strict=True)
        return self.stacked.losses(inputs, targets)

    def _member_loss(self, index: int, member: Autoencoder, part: Tensor, share: BatchShare | None) -> Tensor:
        """Return the loss of a member; of a share, such that the workers' mean is the loss on the whole batch."""
        inputs, target, share = self._training_pair(index, member, part, share)
        with use_share(share):
            loss: Tensor = member.loss_of(inputs, target)
        return loss if share is None else loss * share.weight

    def _training_pair(
        self, index: int, member: Autoencoder, part: Tensor, share: BatchShare | None
    ) -> tuple[Tensor, Tensor, BatchShare | None]:
        """Return a member's inputs and targets, those that are trimmed in this step left out, and the share that they are."""
        # The random numbers of a member's step (augment, corrupt, bottleneck, critic) depend on its seed and the step's
        # index alone, so a resumed training draws the same.
        seed_generators(self.device, (self.spec.seed + index) * EPOCH_SEED_STRIDE + self.global_step)
        raw = self.train_samples[part] if self.resident else part
        with use_share(share):
            inputs, target = member.training_pair(_to_channels_last(self.augment(member.normalise(raw))))
        steps = self.spec.total_epochs * self.steps_per_epoch
        batch = len(part) if share is None else share.total
        return kept_pair(member, inputs, target, trimmed_count(self.spec, self.global_step, steps, batch), share)

    def train_losses(self) -> list[float]:
        """Return each member's mean loss of the steps of this epoch, the same in every worker, each of which must ask.

        Waits for the device and for the other workers: call it once an epoch.
        """
        if self.worker.count > 1:
            self.loss_sums = add_workers(self.loss_sums) / self.worker.count
        return [float(loss_sum) / self.steps_per_epoch for loss_sum in self.loss_sums]

    @torch.no_grad()
    def validation_errors(self) -> list[float]:
        """Return the error of each member's reconstructions of the validation samples.

        Returns:
            The mean squared error in [0, 1], or a text's share of wrong tokens. Nothing is augmented; samples that are served
            corrupted are, the same way each time and for each member.
        """
        autoencoder = self.autoencoder.eval()
        seed_generators(self.device, EVALUATION_SEED)
        total_errors, total_count = [0.0] * self.spec.members, 0
        for raw in self._validation_batches():
            clean, target = autoencoder.split_target(autoencoder.normalise(raw))
            output = autoencoder.run(autoencoder.serving_input(clean))
            for index, member_output in enumerate(output.members or [output]):
                total_errors[index] += _sum_errors(member_output.reconstruction, target)
            total_count += _count_compared(target)
        autoencoder.train()
        return [total_error / total_count for total_error in total_errors]

    def _validation_batches(self) -> Iterator[Tensor]:
        blocks = [self.validation_samples] if self.resident else map(torch.from_numpy, self.validation_set.blocks())
        for block in blocks:
            for raw in torch.split(block, evaluation_batch_size(block)):
                yield raw.to(self.device)

    def configure_optimizers(self) -> Any:
        parameters = list(self.autoencoder.parameters())
        # Here: they are on their device now. Workers exchange the gradients of the members' own weights, which a stack has not.
        if self.worker.count == 1 and can_stack(self.autoencoder.members):
            self.stacked = StackedMembers(self.autoencoder.members)
            parameters = list(self.stacked.parameters.values())
        optimizer = torch.optim.Adam(parameters, lr=self.spec.learning_rate, betas=_ADAM_BETAS, fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._learning_rate_share)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _learning_rate_share(self, step: int) -> float:
        """Return the share of the peak learning rate at a step: a linear climb, then half a cosine down to zero."""
        steps = self.spec.total_epochs * self.steps_per_epoch
        warm_up_steps = max(1, round(_WARM_UP_SHARE * steps))
        if step < warm_up_steps:
            return (step + 1) / warm_up_steps
        return 0.5 * (1 + math.cos(math.pi * (step - warm_up_steps) / max(1, steps - warm_up_steps)))


def _copy_to_tensor(sample_set: SampleSet) -> Tensor:
    """Return all samples as one tensor: a copy, since torch asks for memory that may be written to."""
    samples = np.empty(sample_set.shape, sample_set.dtype)
    first = 0
    for block in sample_set.blocks():
        samples[first : first + len(block)] = block
        first += len(block)
    return torch.from_numpy(samples)


def _to_channels_last(x: Tensor) -> Tensor:
    """Return images in the memory order in which convolutions are fastest; other samples as they are."""
    if x.dim() != 4:
        return x
    return x.contiguous(memory_format=torch.channels_last)


def _sum_errors(reconstruction: Tensor, target: Tensor) -> float:
    """Return the sum of squared errors, or of wrong tokens (0 is no token)."""
    if target.is_floating_point():
        return float((reconstruction - target).square().sum())
    return float(((reconstruction != target) & (target != 0)).sum())


def _count_compared(target: Tensor) -> int:
    """Return the count of numbers, or of tokens: what `_sum_errors` is a sum over."""
    if target.is_floating_point():
        return target.numel()
    return max(1, int((target != 0).sum()))
