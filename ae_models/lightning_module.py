"""Lightning module: connects the autoencoder, the optimiser and the samples. The computation itself stands elsewhere."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import Tensor

from ae_models.augmentations import AUGMENTATIONS
from ae_models.autoencoder import Autoencoder
from ae_models.batch_share import BatchShare, add_workers, use_share
from ae_models.captured_steps import CapturedSteps
from ae_models.data_loading import (
    EPOCH_SEED_STRIDE,
    EVALUATION_SEED,
    epoch_orders,
    evaluation_batch_size,
    iterate_batches,
    seed_generators,
)
from ae_models.factory import build_part
from ae_models.optimisation import learning_rate_at, make_optimizer
from ae_models.sample_sets import SampleSet
from ae_models.spec import TrainSpec
from ae_models.stacked_members import StackedMembers, can_stack
from ae_models.training_worker import ALONE, TrainingWorker, average_in_order
from ae_models.trimming import kept_pair, trimmed_count

__all__ = ["AutoencoderModule"]


class AutoencoderModule(pl.LightningModule):
    """Trains an autoencoder, or the members of an ensemble together, a step of each at a time.

    A member has its own order of samples, random numbers and gradients. It ends in the weights of a single model with its seed,
    as the sum of the members' losses has each member's gradient for its weights; small dense members, whose losses are computed
    at once (`ae_models.stacked_members`), end in the same up to rounding.

    What a step reads and what it adds to stays at one address for the whole training, and no value is asked for: on a GPU, the
    host runs ahead of the device, and steps are replayed as CUDA graphs (`ae_models.captured_steps`).

    Args:
        autoencoder: the model.
        spec: of the training.
        train: raw samples (n, ...), or token ids.
        validation: the same, evaluated after each epoch.
        resident: whether they lie on the device, moved there with the module and never saved with it; else they are read
            from their files, in the same order.
        worker: which of the workers of the training this process is; alone, by default.

    Attributes:
        steps_done: steps of the optimiser since the beginning of the training, also in processes before this one.
        step_observers: called after each step with `steps_done`.
    """

    loss_sums: Tensor  # (members,)
    orders: Tensor  # (members, rows), indices of the samples in the order of this epoch
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
        self.automatic_optimization = False
        self.spec, self.worker = spec, worker
        self.autoencoder = autoencoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its hints
        self.augment = build_part(AUGMENTATIONS, spec.augment)
        self.stacked: StackedMembers | None = None
        self.captured: CapturedSteps | None = None
        self.train_set, self.validation_set, self.resident = train, validation, resident
        if resident:
            self.register_buffer("train_samples", _copy_to_tensor(train), persistent=False)
            self.register_buffer("validation_samples", _copy_to_tensor(validation), persistent=False)
        self.rows = train.shape[0]
        self.register_buffer("orders", torch.zeros(spec.members, self.rows, dtype=torch.int64), persistent=False)
        self.register_buffer("loss_sums", torch.zeros(spec.members), persistent=False)
        self.steps_per_epoch = math.ceil(self.rows / spec.batch)
        self.total_steps = spec.total_epochs * self.steps_per_epoch
        self.steps_done = 0
        self.step_observers: list[Callable[[int], None]] = []

    @property
    def samples_per_epoch(self) -> int:
        """Samples that an epoch trains on, counted once for each member."""
        return self.rows * self.spec.members

    @property
    def steps_per_batch(self) -> int:
        """Steps in one of Lightning's batches: an epoch's, as its hooks take some 0.5 ms. Their number changes no result.

        Of several workers one, as they exchange gradients in each.
        """
        return 1 if self.worker.count > 1 else self.steps_per_epoch

    def train_dataloader(self) -> range:
        """Return the first step of each of Lightning's batches of an epoch; the samples are taken by `train_step`."""
        return range(0, self.steps_per_epoch, self.steps_per_batch)

    def samples_in(self, step_of_epoch: int) -> int:
        """Return the samples that a step trains on, counted once for each member."""
        rows = self._rows_of(step_of_epoch)
        samples: int = (rows.stop - rows.start) * self.spec.members
        return samples

    def on_train_start(self) -> None:
        self.steps_done = self.current_epoch * self.steps_per_epoch
        optimizer = self._optimizer
        # A checkpoint brings a learning rate at another address, and the steps read the one they were captured with.
        optimizer.param_groups[0]["lr"] = self.learning_rate
        if self.worker.count > 2:  # the sum of two numbers has no order
            distributed_model: Any = self.trainer.strategy.model
            distributed_model.register_comm_hook(None, average_in_order)

    def on_train_epoch_start(self) -> None:
        self.orders.copy_(epoch_orders(self.rows, self.spec.seed, self.spec.members, self.current_epoch))
        self.loss_sums.zero_()
        if self.captured is None and self._can_capture:
            changed = [*self.autoencoder.parameters(), *self.autoencoder.buffers(), self.loss_sums]
            self.captured = CapturedSteps(self._step_of_member, changed, self._optimizer)
            for step_of_epoch in sorted({0, self.steps_per_epoch - 1}):  # a whole batch, and the last one, which may be smaller
                for index in range(self.spec.members):
                    self._seed_member(index)
                    self.captured.capture(index, self.orders[index, self._rows_of(step_of_epoch)])

    def training_step(self, batch: int, batch_idx: int) -> None:
        """Take the steps of one of Lightning's batches.

        Args:
            batch: the first of them.
            batch_idx: not needed.

        Raises:
            SIGTERMException: the process is asked to end: at once, and not after the batch, where Lightning looks.
        """
        for step_of_epoch in range(batch, min(self.steps_per_epoch, batch + self.steps_per_batch)):
            self.train_step(step_of_epoch)
            if self.worker.count == 1 and self.trainer.received_sigterm:
                raise SIGTERMException

    def train_step(self, step_of_epoch: int) -> None:
        """Take a step of the optimiser with the samples whose turn it is."""
        self.learning_rate.fill_(learning_rate_at(self.spec.learning_rate, self.steps_done, self.total_steps))
        rows = self._rows_of(step_of_epoch)
        if self._steps_together:
            self._step_of_all(rows)
        else:
            for index in range(self.spec.members):
                self._seed_member(index)
                step = self._step_of_member if self.captured is None else self.captured.replay
                step(index, self.orders[index, rows])
        self.steps_done += 1
        for observe in self.step_observers:
            observe(self.steps_done)

    @property
    def _steps_together(self) -> bool:
        """Whether all members take a step at once: in a stack, or where workers exchange all gradients at once."""
        return self.stacked is not None or self.worker.count > 1

    @property
    def _can_capture(self) -> bool:
        """Whether each step does the same work at the same addresses: trimming leaves out now more, now fewer samples."""
        is_static = self.resident and self.spec.trim == 0 and not self._steps_together
        return self.device.type == "cuda" and self.spec.capture == "auto" and is_static

    def _rows_of(self, step_of_epoch: int) -> slice:
        """Return the places in `orders` of the batch of all workers."""
        first = step_of_epoch * self.spec.batch
        return slice(first, min(self.rows, first + self.spec.batch))

    def _seed_member(self, index: int) -> None:
        """Seed torch's generators for a member's step.

        Its random numbers (augment, corrupt, bottleneck, critic) depend on its seed and the step's index alone, so a resumed
        training draws the same.
        """
        seed_generators(self.device, (self.spec.seed + index) * EPOCH_SEED_STRIDE + self.steps_done)

    def _step_of_member(self, index: int, indices: Tensor) -> None:
        """Take a step of one member, whose weights alone have gradients.

        Args:
            index: of the member.
            indices: of its samples, (batch,).
        """
        self._optimizer.zero_grad()
        with self._autocast():
            loss = self._member_loss(index, indices, None)
        self.loss_sums[index].add_(loss.detach())
        self._minimise(loss)

    def _step_of_all(self, rows: slice) -> None:
        """Take a step of all members at once.

        Args:
            rows: places in `orders` of the batch of all workers.
        """
        share = self.worker.share(rows.stop - rows.start)
        if share is not None:
            rows = slice(rows.start + share.computed.start, rows.start + share.computed.stop)
        self._optimizer.zero_grad()
        with self._autocast():
            losses = self._losses_of_all(rows, share)
        self.loss_sums.add_(losses.detach())
        self._minimise(losses.sum())

    def _losses_of_all(self, rows: slice, share: BatchShare | None) -> Tensor:
        """Return each member's loss on its own part of a batch, (members,).

        Args:
            rows: places in `orders` of the samples at hand.
            share: that they are of the batch of all workers; None: all of it.
        """
        if self.stacked is None:
            losses = []
            for index in range(self.spec.members):
                self._seed_member(index)
                losses.append(self._member_loss(index, self.orders[index, rows], share))
            return torch.stack(losses)
        inputs, targets = [], []
        for index in range(self.spec.members):
            self._seed_member(index)
            member_inputs, target, _ = self._training_pair(index, self.orders[index, rows], share)
            inputs.append(member_inputs)
            targets.append(target)
        return self.stacked.losses(inputs, targets)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return Lightning's precision without its cache, which would keep the weights of the first of several steps."""
        device = self.device.type
        if not torch.is_autocast_enabled(device):
            return contextlib.nullcontext()
        return torch.autocast(device, dtype=torch.get_autocast_dtype(device), cache_enabled=False)

    def _minimise(self, loss: Tensor) -> None:
        if self.worker.count > 1 or torch.is_autocast_enabled(self.device.type):
            with torch.autocast(self.device.type, enabled=False):
                self.manual_backward(loss)
        else:  # Lightning's way does the same, and calls hooks that nothing here uses
            loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()

    @property
    def _optimizer(self) -> torch.optim.Adam:
        optimizer: torch.optim.Adam = self.optimizers(use_pl_optimizer=False)  # type: ignore[assignment]  # there is one
        return optimizer

    def _member_loss(self, index: int, indices: Tensor, share: BatchShare | None) -> Tensor:
        """Return the loss of a member; of a share, such that the workers' mean is the loss on the whole batch."""
        inputs, target, share = self._training_pair(index, indices, share)
        with use_share(share):
            loss: Tensor = self.autoencoder.members[index].loss_of(inputs, target)
        return loss if share is None else loss * share.weight

    def _training_pair(self, index: int, indices: Tensor, share: BatchShare | None) -> tuple[Tensor, Tensor, BatchShare | None]:
        """Return a member's inputs and targets, those that are trimmed in this step left out, and the share that they are."""
        member = self.autoencoder.members[index]
        with use_share(share):
            inputs, target = member.training_pair(_to_channels_last(self.augment(member.normalise(self._samples_at(indices)))))
        batch = len(indices) if share is None else share.total
        trimmed = trimmed_count(self.spec, self.steps_done, self.total_steps, batch)
        return kept_pair(member, inputs, target, trimmed, share)

    def _samples_at(self, indices: Tensor) -> Tensor:
        if self.resident:
            return self.train_samples[indices]
        return torch.from_numpy(self.train_set.take(indices.cpu().numpy())).to(self.device)

    def train_loss_sums(self) -> Tensor:
        """Return each member's sum of the losses of the steps of this epoch, (members,), the same in every worker.

        Each worker must ask: it waits for the others, but not for the device.
        """
        if self.worker.count == 1:
            return self.loss_sums.clone()
        return add_workers(self.loss_sums) / self.worker.count

    @torch.no_grad()
    def validation_errors(self) -> Tensor:
        """Return the error of each member's reconstructions of the validation samples, (members,) float64.

        It is the mean squared error in [0, 1], or a text's share of wrong tokens. Nothing is augmented; samples that are served
        corrupted are, the same way each time and for each member. It does not wait for the device.
        """
        autoencoder = self.autoencoder.eval()
        seed_generators(self.device, EVALUATION_SEED)
        totals = torch.zeros(self.spec.members, dtype=torch.float64, device=self.device)
        count = torch.zeros((), dtype=torch.int64, device=self.device)
        for raw in self._validation_batches():
            clean, target = autoencoder.split_target(autoencoder.normalise(raw))
            output = autoencoder.run(autoencoder.serving_input(clean))
            for index, member_output in enumerate(output.members or [output]):
                totals[index] += _sum_errors(member_output.reconstruction, target)
            count += _count_compared(target)
        autoencoder.train()
        return totals / count

    def _validation_batches(self) -> Iterator[Tensor]:
        if self.resident:
            yield from torch.split(self.validation_samples, evaluation_batch_size(self.validation_samples))
            return
        for raw in iterate_batches(self.validation_set):
            yield raw.to(self.device)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        parameters = list(self.autoencoder.parameters())
        # Here: they are on their device now. Workers exchange the gradients of the members' own weights, which a stack has not.
        if self.worker.count == 1 and can_stack(self.autoencoder.members):
            self.stacked = StackedMembers(self.autoencoder.members)
            parameters = list(self.stacked.parameters.values())
        optimizer = make_optimizer(parameters, self.device)
        self.learning_rate: Tensor = optimizer.param_groups[0]["lr"]
        return optimizer


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


def _sum_errors(reconstruction: Tensor, target: Tensor) -> Tensor:
    """Return the sum of squared errors, or of wrong tokens (0 is no token), as a scalar on the device."""
    if target.is_floating_point():
        return (reconstruction - target).square().sum()
    return ((reconstruction != target) & (target != 0)).sum()


def _count_compared(target: Tensor) -> Tensor | int:
    """Return the count of numbers, or of tokens and 1 at least: what `_sum_errors` is a sum over."""
    if target.is_floating_point():
        return target.numel()
    return (target != 0).sum().clamp(min=1)
