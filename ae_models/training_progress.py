"""Progress of a training: a bar with samples/s for a person, and one JSON line an epoch for a program."""

import json
import math
import time
from collections import deque
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from tqdm import tqdm

from ae_models.atomic_files import atomic_write
from ae_models.errors import DivergenceError, TrainingError
from ae_models.host_copies import HostCopy
from ae_models.lightning_module import AutoencoderModule
from ae_models.optimisation import learning_rate_at

__all__ = ["BATCH_FILE", "PROGRESS_FILE", "ProgressCallback", "history_columns", "history_csv", "truncate_progress"]

PROGRESS_FILE = "progress.jsonl"
BATCH_FILE = "batch.json"  # where the training is within an epoch, written again and again
_BATCH_SECONDS = 1.0  # between two of them
_COLUMNS = ("epoch", "step", "train_loss", "validation_error", "learning_rate")


class ProgressCallback(pl.Callback):
    """Appends a line to progress.jsonl after each epoch, and says in batch.json where it is within one.

    It stops a training whose loss is not finite. Of several workers, the first one alone writes. A GPU does not wait for a
    line: it is written once its figures have come to the host, or before a checkpoint.

    It comes before the checkpoints among the callbacks: the line of an epoch is written before its checkpoint, and a
    checkpoint holds finite weights only.

    Args:
        folder: of progress.jsonl and batch.json.
        show_bar: whether to draw a bar, where stderr is a terminal.
    """

    def __init__(self, folder: Path, show_bar: bool) -> None:
        self.path, self.batch_path = folder / PROGRESS_FILE, folder / BATCH_FILE
        self.show_bar = show_bar
        self.unwritten: deque[tuple[dict[str, Any], HostCopy]] = deque()

    def on_train_start(self, trainer: pl.Trainer, pl_module: AutoencoderModule) -> None:  # type: ignore[override]
        self.spec = pl_module.spec
        if not pl_module.worker.is_first:
            return
        truncate_progress(self.path, trainer.current_epoch)
        self.started_at = self.epoch_started_at = self.batch_said_at = time.monotonic()
        self.samples_done = 0  # since the start of this process
        samples = pl_module.samples_per_epoch
        total, finished_samples = samples * pl_module.spec.total_epochs, samples * trainer.current_epoch
        is_hidden = None if self.show_bar else True  # None: hidden where stderr is no terminal
        self.bar = tqdm(total=total, initial=finished_samples, unit=" samples", unit_scale=True, disable=is_hidden, leave=False)
        pl_module.step_observers.append(partial(self._observe, trainer, pl_module))

    def _observe(self, trainer: pl.Trainer, pl_module: AutoencoderModule, step: int) -> None:
        steps_of_epoch = step - trainer.current_epoch * pl_module.steps_per_epoch
        samples = pl_module.samples_in(steps_of_epoch - 1)
        self.bar.update(samples)
        self.samples_done += samples
        now = time.monotonic()
        if now - self.batch_said_at >= _BATCH_SECONDS:
            self.batch_said_at = now
            place = self._describe_batch(trainer, steps_of_epoch, pl_module.steps_per_epoch, now)
            atomic_write(self.batch_path, json.dumps(place))

    def _describe_batch(self, trainer: pl.Trainer, batch: int, batches: int, now: float) -> dict[str, float]:
        """Return the place of a batch, counted from 1, and the speed since this process started to train."""
        return {
            "epoch": trainer.current_epoch + 1,
            "epochs": trainer.max_epochs or 0,
            "batch": batch,
            "batches": batches,
            "samples_per_second": round(self.samples_done / (now - self.started_at), 1),
            "written_at": time.time(),
        }

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: AutoencoderModule) -> None:  # type: ignore[override]
        figures = {"losses": pl_module.train_loss_sums().double() / pl_module.steps_per_epoch}
        line: dict[str, Any] = {"epoch": trainer.current_epoch + 1, "step": pl_module.steps_done}
        if pl_module.worker.is_first:  # the others wait for its validation at the next exchange
            figures["errors"] = pl_module.validation_errors()
            now = time.monotonic()
            line["learning_rate"] = learning_rate_at(pl_module.spec.learning_rate, pl_module.steps_done, pl_module.total_steps)
            line["samples_per_second"] = round(pl_module.samples_per_epoch / (now - self.epoch_started_at), 1)
            line["elapsed_seconds"] = round(now - self.started_at, 3)
            self.epoch_started_at = now
        self.unwritten.append((line, HostCopy(figures)))
        self.write(wait=False)

    def on_train_end(self, trainer: pl.Trainer, pl_module: AutoencoderModule) -> None:  # type: ignore[override]
        self.write(wait=True)

    def write(self, *, wait: bool) -> None:
        """Write the lines of epochs whose figures have come to the host.

        Args:
            wait: whether to wait for those that have not.

        Raises:
            DivergenceError: a loss is not finite.
        """
        while self.unwritten and (wait or self.unwritten[0][1].is_ready):
            line, copy = self.unwritten.popleft()
            figures = copy.wait()
            self._require_finite(figures["losses"].tolist(), line["epoch"])
            if "errors" in figures:
                self._append_line(line, figures["losses"].tolist(), figures["errors"].tolist())

    def _require_finite(self, losses: list[float], epoch: int) -> None:
        if problem := _describe_divergence(losses):
            raise DivergenceError(
                f"{problem} in epoch {epoch} of {self.spec.total_epochs}: lower train.learning_rate "
                f"(now {self.spec.learning_rate:g}) in the recipe, then type the same command again"
            )

    def _append_line(self, line: dict[str, Any], losses: list[float], validation_errors: list[float]) -> None:
        line |= {"train_loss": losses[0], "validation_error": validation_errors[0]}
        for member in range(2, len(losses) + 1):
            loss_column, error_column = _member_columns(member)
            line[loss_column], line[error_column] = losses[member - 1], validation_errors[member - 1]
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")

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
