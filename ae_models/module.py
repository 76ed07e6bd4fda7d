"""The one Lightning module: it wires the sentence, the optimiser and the samples. What is computed stands elsewhere."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ae_models import augment
from ae_models.autoencoder import Autoencoder
from ae_models.feed import EPOCHS_APART, Indices, ReadSamples, loader, seed_draws
from ae_models.parts import build
from ae_models.rows import Rows
from ae_models.spec import TrainSpec

WARM_UP = 0.05  # share of the steps in which the learning rate climbs to its peak
BETAS = (0.9, 0.98)  # of Adam: in trainings of some thousand steps a memory of 50 steps beat the usual 1,000
EVALUATION_BATCH = 1024  # samples at once where no gradient is kept, of some thousand numbers each; fewer of larger ones
TOKEN_WEIGHT = 256  # numbers that a token id counts for: a decoder makes as many as the vocabulary has of each
EVALUATION_SEED = 2_718_281_828  # of what is drawn where samples are served corrupted: the same draws each time


class Training(pl.LightningModule):
    """Trains an autoencoder.

    Args:
        autoencoder: the sentence.
        spec: how to train it.
        train: raw samples (n, ...), or token ids.
        validation: the same, watched after each epoch.
        resident: whether they lie on the device, moved there with the module and never saved with it; else they are read
            from where they are, in the same order.
    """

    loss_sum: Tensor
    train_samples: Tensor
    validation_samples: Tensor

    def __init__(self, autoencoder: Autoencoder, spec: TrainSpec, train: Rows, validation: Rows, resident: bool) -> None:
        super().__init__()
        self.spec = spec
        self.autoencoder = autoencoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's hints
        self.augment = build(augment.KINDS, spec.augment)
        self.train_rows, self.validation_rows, self.resident = train, validation, resident
        if resident:
            self.register_buffer("train_samples", whole(train), persistent=False)
            self.register_buffer("validation_samples", whole(validation), persistent=False)
        self.register_buffer("loss_sum", torch.zeros(()), persistent=False)
        self.rows = train.shape[0]
        self.steps_an_epoch = math.ceil(self.rows / spec.batch)

    def train_dataloader(self) -> DataLoader[Tensor]:
        samples = Indices() if self.resident else ReadSamples(self.train_rows)
        return loader(samples, self.rows, self.spec.batch, self.spec.seed)

    def on_train_epoch_start(self) -> None:
        self.loss_sum = torch.zeros_like(self.loss_sum)

    def on_train_batch_start(self, batch: Tensor, batch_idx: int) -> None:
        # Whatever a step draws (augment, corrupt) depends on its number alone, so a resumed training draws the same.
        seed_draws(self.device, self.spec.seed * EPOCHS_APART + self.global_step)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        x = self.autoencoder.normalise(self.train_samples[batch] if self.resident else batch)
        x = channels_last(self.augment(x))
        loss: Tensor = self.autoencoder.loss(x)
        self.loss_sum += loss.detach()
        return loss

    def train_loss(self) -> float:
        """The mean loss of the steps of this epoch so far complete. Waits for the device: ask once an epoch."""
        return float(self.loss_sum) / self.steps_an_epoch

    @torch.no_grad()
    def validation_error(self) -> float:
        """How far reconstructions of the validation samples are from their targets: the mean squared error in [0, 1], or the
        share of a text's tokens that are wrong. Nothing is augmented; what is served corrupted is, the same way each time."""
        autoencoder = self.autoencoder.eval()
        seed_draws(self.device, EVALUATION_SEED)
        wrong, count = 0.0, 0
        for raw in self.validation_blocks():
            clean, target = autoencoder.pair(autoencoder.normalise(raw))
            made, _ = autoencoder(autoencoder.served(clean))
            here, numbers = error(made, target)
            wrong, count = wrong + here, count + numbers
        autoencoder.train()
        return wrong / count

    def validation_blocks(self) -> Iterator[Tensor]:
        blocks = [self.validation_samples] if self.resident else map(torch.from_numpy, self.validation_rows.blocks())
        for block in blocks:
            for raw in torch.split(block, evaluation_batch(block)):
                yield raw.to(self.device)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.autoencoder.parameters(), lr=self.spec.learning_rate, betas=BETAS, fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.learning_rate_share)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def learning_rate_share(self, step: int) -> float:
        """Share of the peak learning rate at a step: a linear climb, then half a cosine down to zero."""
        steps = self.spec.epochs_in_all * self.steps_an_epoch
        climb = max(1, round(WARM_UP * steps))
        if step < climb:
            return (step + 1) / climb
        return 0.5 * (1 + math.cos(math.pi * (step - climb) / max(1, steps - climb)))


def whole(rows: Rows) -> Tensor:
    """All rows as one tensor: a copy, since torch asks for memory that may be written to."""
    samples = np.empty(rows.shape, rows.dtype)
    first = 0
    for block in rows.blocks():
        samples[first : first + len(block)] = block
        first += len(block)
    return torch.from_numpy(samples)


def channels_last(x: Tensor) -> Tensor:
    """Images in the memory order in which convolutions are fastest; other samples as they are."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


def evaluation_batch(samples: Tensor) -> int:
    """How many such samples to evaluate at once, so that the activations of large ones fit as well."""
    weight = TOKEN_WEIGHT if samples.dtype == torch.int64 else 1
    return max(1, min(EVALUATION_BATCH, EVALUATION_BATCH * 1024 // max(1, weight * samples[0].numel())))


def error(made: Tensor, target: Tensor) -> tuple[float, int]:
    """What is wrong with reconstructions, and over how many numbers: squared errors, or wrong tokens (0 is no token)."""
    if target.is_floating_point():
        return float((made - target).square().sum()), target.numel()
    used = target != 0
    return float(((made != target) & used).sum()), max(1, int(used.sum()))
