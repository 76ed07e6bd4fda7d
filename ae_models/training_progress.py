"""Progress of a training: a bar with samples/s for a person, and one JSON line an epoch for a program."""

import json
import math
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from tqdm import tqdm

from ae_models.atomic_files import atomic_write
from ae_models.errors import DivergenceError, TrainingError
from ae_models.lightning_module import AutoencoderModule

__all__ = ["HISTORY_COLUMNS", "PROGRESS_FILE", "ProgressCallback", "history_csv", "truncate_progress"]

PROGRESS_FILE = "progress.jsonl"
# Columns of history.csv: those that are the same each time the same training runs.
HISTORY_COLUMNS = ("epoch", "step", "train_loss", "validation_error", "learning_rate")


class ProgressCallback(pl.Callback):
    """Appends a line to progress.jsonl after each epoch, and stops a training whose loss is not finite.

    It comes before the checkpoints among the callbacks: the line of an epoch is written before its checkpoint, and a
    checkpoint holds finite weights only.

    Args:
        folder: of progress.jsonl.
        show_bar: whether to draw a bar, where stderr is a terminal.
    """

    def __init__(self, folder: Path, show_bar: bool) -> None:
        self.path = folder / PROGRESS_FILE
        self.show_bar = show_bar

    def on_train_start(self, trainer: pl.Trainer, pl_module: AutoencoderModule) -> None:  # type: ignore[override]
        truncate_progress(self.path, trainer.current_epoch)
        self.started_at = self.epoch_started_at = time.monotonic()
        rows = pl_module.rows
        total, finished_samples = rows * pl_module.spec.total_epochs, rows * trainer.current_epoch
        is_hidden = None if self.show_bar else True  # None: hidden where stderr is no terminal
        self.bar = tqdm(total=total, initial=finished_samples, unit=" samples", unit_scale=True, disable=is_hidden, leave=False)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.bar.update(len(batch))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: AutoencoderModule) -> None:  # type: ignore[override]
        loss = pl_module.train_loss()
        if not math.isfinite(loss):
            raise DivergenceError(
                f"the loss is {loss} in epoch {trainer.current_epoch + 1} of {trainer.max_epochs}: lower train.learning_rate "
                f"(now {pl_module.spec.learning_rate:g}) in the recipe, then type the same command again"
            )
        self._append_line(trainer, loss, pl_module.validation_error(), pl_module.rows)

    def _append_line(self, trainer: pl.Trainer, loss: float, validation_error: float, rows: int) -> None:
        now = time.monotonic()
        line = {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            "train_loss": loss,
            "validation_error": validation_error,
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "samples_per_second": round(rows / (now - self.epoch_started_at), 1),
            "elapsed_seconds": round(now - self.started_at, 3),
        }
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        self.epoch_started_at = now

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if hasattr(self, "bar"):
            self.bar.close()


def truncate_progress(path: Path, epochs: int) -> None:
    """Cut progress.jsonl back to its first `epochs` lines; create an empty one where there is none."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
    atomic_write(path, "".join(lines[:epochs]))


def history_csv(progress_path: Path) -> str:
    """Return history.csv: the columns of progress.jsonl that hold no time.

    Raises:
        TrainingError: a line of the file is damaged.
    """
    csv_lines = [",".join(HISTORY_COLUMNS)]
    for number, line in enumerate(progress_path.read_bytes().splitlines(), 1):
        try:
            record = json.loads(line)
            csv_lines.append(",".join(str(record[column]) for column in HISTORY_COLUMNS))
        except (ValueError, KeyError, TypeError) as error:
            raise TrainingError(
                f"line {number} of {progress_path} is damaged ({error!r}): remove the folder {progress_path.parent}, "
                "then train again"
            ) from error
    return "\n".join(csv_lines) + "\n"
