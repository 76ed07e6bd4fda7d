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
from ae_models.data_loading import (
    EPOCH_SEED_STRIDE,
    EVALUATION_SEED,
    MappedSamples,
    ResidentIndices,
    evaluation_batch_size,
    make_loader,
    seed_generators,
)
from ae_models.factory import build_part
from ae_models.sample_sets import SampleSet
from ae_models.spec import TrainSpec

__all__ = ["AutoencoderModule"]

_WARM_UP_SHARE = 0.05  # share of the steps in which the learning rate climbs to its peak
_ADAM_BETAS = (0.9, 0.98)  # in trainings of some thousand steps a memory of 50 steps beat the usual 1,000


class AutoencoderModule(pl.LightningModule):
    """Trains an autoencoder.

    Args:
        autoencoder: the model.
        spec: of the training.
        train: raw samples (n, ...), or token ids.
        validation: the same, evaluated after each epoch.
        resident: whether they lie on the device, moved there with the module and never saved with it; else they are read
            from their files, in the same order.
    """

    loss_sum: Tensor
    train_samples: Tensor
    validation_samples: Tensor

    def __init__(
        self, autoencoder: Autoencoder, spec: TrainSpec, train: SampleSet, validation: SampleSet, resident: bool
    ) -> None:
        super().__init__()
        self.spec = spec
        self.autoencoder = autoencoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its hints
        self.augment = build_part(AUGMENTATIONS, spec.augment)
        self.train_set, self.validation_set, self.resident = train, validation, resident
        if resident:
            self.register_buffer("train_samples", _copy_to_tensor(train), persistent=False)
            self.register_buffer("validation_samples", _copy_to_tensor(validation), persistent=False)
        self.register_buffer("loss_sum", torch.zeros(()), persistent=False)
        self.rows = train.shape[0]
        self.steps_per_epoch = math.ceil(self.rows / spec.batch)

    def train_dataloader(self) -> DataLoader[Tensor]:
        dataset = ResidentIndices() if self.resident else MappedSamples(self.train_set)
        return make_loader(dataset, self.rows, self.spec.batch, self.spec.seed)

    def on_train_epoch_start(self) -> None:
        self.loss_sum = torch.zeros_like(self.loss_sum)

    def on_train_batch_start(self, batch: Tensor, batch_idx: int) -> None:
        # The random numbers of a step (augment, corrupt) depend on its index alone, so a resumed training draws the same.
        seed_generators(self.device, self.spec.seed * EPOCH_SEED_STRIDE + self.global_step)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        raw = self.train_samples[batch] if self.resident else batch
        x = _to_channels_last(self.augment(self.autoencoder.normalise(raw)))
        loss: Tensor = self.autoencoder.loss(x)
        self.loss_sum += loss.detach()
        return loss

    def train_loss(self) -> float:
        """Return the mean loss of the steps of this epoch. Waits for the device: call it once an epoch."""
        return float(self.loss_sum) / self.steps_per_epoch

    @torch.no_grad()
    def validation_error(self) -> float:
        """Return the error of the validation samples' reconstructions.

        Returns:
            The mean squared error in [0, 1], or a text's share of wrong tokens. Nothing is augmented; samples that are served
            corrupted are, the same way each time.
        """
        autoencoder = self.autoencoder.eval()
        seed_generators(self.device, EVALUATION_SEED)
        total_error, total_count = 0.0, 0
        for raw in self._validation_batches():
            clean, target = autoencoder.split_target(autoencoder.normalise(raw))
            reconstruction, _ = autoencoder(autoencoder.serving_input(clean))
            error, count = _sum_errors(reconstruction, target)
            total_error, total_count = total_error + error, total_count + count
        autoencoder.train()
        return total_error / total_count

    def _validation_batches(self) -> Iterator[Tensor]:
        blocks = [self.validation_samples] if self.resident else map(torch.from_numpy, self.validation_set.blocks())
        for block in blocks:
            for raw in torch.split(block, evaluation_batch_size(block)):
                yield raw.to(self.device)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.autoencoder.parameters(), lr=self.spec.learning_rate, betas=_ADAM_BETAS, fused=True)
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


def _sum_errors(reconstruction: Tensor, target: Tensor) -> tuple[float, int]:
    """Return the sum of squared errors, or of wrong tokens (0 is no token), and the count of numbers or tokens."""
    if target.is_floating_point():
        return float((reconstruction - target).square().sum()), target.numel()
    in_use = target != 0
    return float(((reconstruction != target) & in_use).sum()), max(1, int(in_use.sum()))
