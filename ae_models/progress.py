"""What a person and a follower see while a training goes on: a bar with samples/s, and one JSON line an epoch."""

import json
import math
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from tqdm import tqdm

from ae_models.errors import TrainingError
from ae_models.files import write_aside
from ae_models.module import Training

PROGRESS = "progress.jsonl"
HISTORY = ("epoch", "step", "train_loss", "validation_error", "learning_rate")  # what is the same for every such training


class Progress(pl.Callback):
    """Appends a line to progress.jsonl after each epoch, and stops a training whose loss is no number.

    It stands before the checkpoints among the callbacks: a line is there before the checkpoint of its epoch, and a
    checkpoint holds finite weights only.
    """

    def __init__(self, folder: Path, bar: bool) -> None:
        self.file = folder / PROGRESS
        self.bar_wanted = bar

    def on_train_start(self, trainer: pl.Trainer, pl_module: Training) -> None:  # type: ignore[override]
        keep_lines(self.file, trainer.current_epoch)
        self.started = self.epoch_started = time.monotonic()
        rows = pl_module.rows
        total, done = rows * pl_module.spec.epochs_in_all, rows * trainer.current_epoch
        hidden = None if self.bar_wanted else True  # None: hidden where stderr is no terminal
        self.bar = tqdm(total=total, initial=done, unit=" samples", unit_scale=True, disable=hidden, leave=False)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.bar.update(len(batch))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Training) -> None:  # type: ignore[override]
        loss = pl_module.train_loss()
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} in epoch {trainer.current_epoch + 1} of {trainer.max_epochs}: lower train.learning_rate "
                f"(now {pl_module.spec.learning_rate:g}) in the recipe, then type the same command again"
            )
        self.append(trainer, loss, pl_module.validation_error(), pl_module.rows)

    def append(self, trainer: pl.Trainer, loss: float, validation_error: float, rows: int) -> None:
        now = time.monotonic()
        line = {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            "train_loss": loss,
            "validation_error": validation_error,
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "samples_per_second": round(rows / (now - self.epoch_started), 1),
            "elapsed_seconds": round(now - self.started, 3),
        }
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        self.epoch_started = now

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if hasattr(self, "bar"):
            self.bar.close()


def keep_lines(file: Path, epochs: int) -> None:
    """Cuts the file back to its first `epochs` lines; makes an empty one where there is none."""
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.is_file() else []
    write_aside(file, "".join(lines[:epochs]))


def history_csv(file: Path) -> str:
    """The columns of progress.jsonl that do not tell the time, as CSV."""
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    rows = [",".join(str(line[name]) for name in HISTORY) for line in lines]
    return "\n".join([",".join(HISTORY), *rows]) + "\n"
