"""The one Lightning module: it wires the sentence, the optimiser and the samples. What is computed stands elsewhere."""

import math
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from ae_models import augment
from ae_models.autoencoder import Autoencoder
from ae_models.feed import EPOCHS_APART, index_loader, seed_draws
from ae_models.parts import build
from ae_models.spec import TrainSpec

WARM_UP = 0.05  # share of the steps in which the learning rate climbs to its peak
BETAS = (0.9, 0.98)  # of Adam: in trainings of some thousand steps a memory of 50 steps beat the usual 1,000
EVALUATION_BATCH = 1024  # samples at once where no gradient is kept


class Training(pl.LightningModule):
    """Trains an autoencoder on samples that lie on the device.

    Args:
        autoencoder: the sentence.
        spec: how to train it.
        train: raw samples (n, c, h, w), moved to the device with the module and never saved with it.
        validation: the same, watched after each epoch.
    """

    loss_sum: Tensor
    train_samples: Tensor
    validation_samples: Tensor

    def __init__(self, autoencoder: Autoencoder, spec: TrainSpec, train: Tensor, validation: Tensor) -> None:
        super().__init__()
        self.spec = spec
        self.autoencoder = autoencoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's hints
        self.augment = build(augment.KINDS, spec.augment)
        self.register_buffer("train_samples", train, persistent=False)
        self.register_buffer("validation_samples", validation, persistent=False)
        self.register_buffer("loss_sum", torch.zeros(()), persistent=False)
        self.steps_an_epoch = math.ceil(len(train) / spec.batch)

    def train_dataloader(self) -> DataLoader[Tensor]:
        return index_loader(len(self.train_samples), self.spec.batch, self.spec.seed)

    def on_train_epoch_start(self) -> None:
        self.loss_sum = torch.zeros_like(self.loss_sum)

    def on_train_batch_start(self, batch: Tensor, batch_idx: int) -> None:
        # Whatever a step draws (augment, corrupt) depends on its number alone, so a resumed training draws the same.
        seed_draws(self.device, self.spec.seed * EPOCHS_APART + self.global_step)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        x = self.autoencoder.normalise(self.train_samples[batch])
        x = self.augment(x).contiguous(memory_format=torch.channels_last)
        loss: Tensor = self.autoencoder.loss(x)
        self.loss_sum += loss.detach()
        return loss

    def train_loss(self) -> float:
        """The mean loss of the steps of this epoch so far complete. Waits for the device: ask once an epoch."""
        return float(self.loss_sum) / self.steps_an_epoch

    @torch.no_grad()
    def validation_mse(self) -> float:
        """Mean squared error on the validation samples, in [0, 1]; evaluation does not draw, augment or corrupt."""
        total = 0.0
        for raw in torch.split(self.validation_samples, EVALUATION_BATCH):
            x = self.autoencoder.normalise(raw)
            total += float(F.mse_loss(self.autoencoder(x)[0], x, reduction="sum"))
        return total / self.validation_samples.numel()

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.autoencoder.parameters(), lr=self.spec.learning_rate, betas=BETAS, fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.learning_rate_share)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def learning_rate_share(self, step: int) -> float:
        """Share of the peak learning rate at a step: a linear climb, then half a cosine down to zero."""
        steps = self.spec.epochs * self.steps_an_epoch
        climb = max(1, round(WARM_UP * steps))
        if step < climb:
            return (step + 1) / climb
        return 0.5 * (1 + math.cos(math.pi * (step - climb) / max(1, steps - climb)))
