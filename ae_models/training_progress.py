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

__all__ = ["BATCH_FILE", "PROGRESS_FILE", "ProgressCallback", "history_columns", "history_csv", "truncate_progress"]

PROGRESS_FILE = "progress.jsonl"
BATCH_FILE = "batch.json"  # where the training is within an epoch, written again and again
_BATCH_SECONDS = 1.0  # between two of them
_COLUMNS = ("epoch", "step", "train_loss", "validation_error", "learning_rate")


class ProgressCallback(pl.Callback):
    """Appends a line to progress.jsonl after each epoch, and says in batch.json where it is within one.

    It stops a training whose loss is not finite. Of several workers, the first one alone writes.

    It comes before the checkpoints among the callbacks: the line of an epoch is written before its checkpoint, and a
    checkpoint holds finite weights only.

    Args:
        folder: of progress.jsonl and batch.json.
        show_bar: whether to draw a bar, where stderr is a terminal.
    """

    def __init__(self, folder: Path, show_bar: bool) -> None:
        self.path, self.batch_path = folder / PROGRESS_FILE, folder / BATCH_FILE
        self.show_bar = show_bar

    def on_train_start(self, trainer: pl.Trainer, pl_module: AutoencoderModule) -> None:  # type: ignore[override]
        if not pl_module.worker.is_first:
            return
        truncate_progress(self.path, trainer.current_epoch)
        self.started_at = self.epoch_started_at = self.batch_said_at = time.monotonic()
        self.samples_done = 0  # since the start of this process
        samples = pl_module.samples_per_epoch
        total, finished_samples = samples * pl_module.spec.total_epochs, samples * trainer.current_epoch
        is_hidden = None if self.show_bar else True  # None: hidden where stderr is no terminal
        self.bar = tqdm(total=total, initial=finished_samples, unit=" samples", unit_scale=True, disable=is_hidden, leave=False)

    def on_train_batch_end(  # type: ignore[override]
        self, trainer: pl.Trainer, pl_module: AutoencoderModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not pl_module.worker.is_first:
            return
        samples = pl_module.batch_size(batch_idx) * pl_module.spec.members
        self.bar.update(samples)
        self.samples_done += samples
        now = time.monotonic()
        if now - self.batch_said_at >= _BATCH_SECONDS:
            self.batch_said_at = now
            atomic_write(self.batch_path, json.dumps(self._describe_batch(trainer, batch_idx, now)))

    def _describe_batch(self, trainer: pl.Trainer, batch_index: int, now: float) -> dict[str, float]:
        """Return the place of a batch, counted from 1, and the speed since this process started to train."""
        return {
            "epoch": trainer.current_epoch + 1,
            "epochs": trainer.max_epochs or 0,
            "batch": batch_index + 1,
            "batches": int(trainer.num_training_batches),
            "samples_per_second": round(self.samples_done / (now - self.started_at), 1),
            "written_at": time.time(),
        }

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: AutoencoderModule) -> None:  # type: ignore[override]
        losses = pl_module.train_losses()
        if problem := _describe_divergence(losses):
            raise DivergenceError(
                f"{problem} in epoch {trainer.current_epoch + 1} of {trainer.max_epochs}: lower train.learning_rate "
                f"(now {pl_module.spec.learning_rate:g}) in the recipe, then type the same command again"
            )
        if not pl_module.worker.is_first:
            return  # the others wait for its validation at the next exchange
        self._append_line(trainer, losses, pl_module.validation_errors(), pl_module.samples_per_epoch)

    def _append_line(self, trainer: pl.Trainer, losses: list[float], validation_errors: list[float], samples: int) -> None:
        now = time.monotonic()
        line = {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            "train_loss": losses[0],
            "validation_error": validation_errors[0],
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "samples_per_second": round(samples / (now - self.epoch_started_at), 1),
            "elapsed_seconds": round(now - self.started_at, 3),
        }
        for member in range(2, len(losses) + 1):
            loss_column, error_column = _member_columns(member)
            line[loss_column], line[error_column] = losses[member - 1], validation_errors[member - 1]
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        self.epoch_started_at = now

    def teardown(self, trainer: pl.Trainer, pl_module: AutoencoderModule, stage: str) -> None:  # type: ignore[override]
        if not pl_module.worker.is_first:
            return
        if hasattr(self, "bar"):
            self.bar.close()
        self.batch_path.unlink(missing_ok=True)  # it says where a training is, and this one is nowhere any more


def truncate_progress(path: Path, epochs: int) -> None:
    """Cut progress.jsonl back to its first `epochs` lines; create an empty one where there is none."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
    atomic_write(path, "".join(lines[:epochs]))


def _describe_divergence(losses: list[float]) -> str | None:
    """Return which loss, one a member, is not finite, or None."""
    for member, loss in enumerate(losses, 1):
        if not math.isfinite(loss):
            return f"the loss is {loss}" if len(losses) == 1 else f"the loss of member {member} of {len(losses)} is {loss}"
    return None


def history_columns(members: int) -> list[str]:
    """Return the columns of history.csv: those of progress.jsonl that are the same each time the same training runs.

    An ensemble's further members have columns of their own: `train_loss_2`, `validation_error_2`, ...
    """
    columns = list(_COLUMNS)
    for member in range(2, members + 1):
        columns += _member_columns(member)
    return columns


def _member_columns(member: int) -> tuple[str, str]:
    return f"train_loss_{member}", f"validation_error_{member}"


def history_csv(progress_path: Path, members: int) -> str:
    """Return history.csv, with the columns of `history_columns`.

    Args:
        progress_path: of progress.jsonl.
        members: of the ensemble; 1: a single model.

    Raises:
        TrainingError: a line of the file is damaged.
    """
    columns = history_columns(members)
    csv_lines = [",".join(columns)]
    for number, line in enumerate(progress_path.read_bytes().splitlines(), 1):
        try:
            record = json.loads(line)
            csv_lines.append(",".join(str(record[column]) for column in columns))
        except (ValueError, KeyError, TypeError) as error:
            raise TrainingError(
                f"line {number} of {progress_path} is damaged ({error!r}): remove the folder {progress_path.parent}, "
                "then train again"
            ) from error
    return "\n".join(csv_lines) + "\n"
