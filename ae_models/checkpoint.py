"""Checkpoints that a kill cannot spoil: saved beside their place, verified by loading, renamed; each bound to its training."""

import json
import logging
import pickle  # for the name of its error alone
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from ae_models.atomic_files import atomic_path, atomic_write, json_text, make_folder, sync_file
from ae_models.checksums import json_sha256
from ae_models.lightning_module import AutoencoderModule
from ae_models.training_progress import PROGRESS_FILE, ProgressCallback
from ae_models.training_result import WEIGHT_HASH_FILE
from ae_models.weight_hash_log import WeightHashCallback

__all__ = [
    "CHECKPOINT_FILE",
    "CHECKPOINT_KEY_FILE",
    "MIN_SECONDS_BETWEEN",
    "CheckpointCallback",
    "LocalCheckpointIO",
    "find_checkpoint",
    "remove_checkpoint",
]

_logger = logging.getLogger(__name__)

CHECKPOINT_FILE, CHECKPOINT_KEY_FILE = "last.ckpt", "key.json"
MIN_SECONDS_BETWEEN = 2.0  # at most this much training is lost; the moment of a checkpoint changes no result


class CheckpointCallback(pl.Callback):
    """Saves the state after some recent epoch in `folder`; the last epoch's is always saved.

    The training's logs, which lie beside it, are written to their ends and synced first: no checkpoint that a power failure
    leaves is ahead of them. Of several workers, the first one decides and writes.

    Args:
        folder: of the checkpoint.
        logs: those that may have lines to write.
    """

    def __init__(self, folder: Path, logs: Sequence[ProgressCallback | WeightHashCallback]) -> None:
        self.path, self.logs = folder / CHECKPOINT_FILE, logs
        self.saved_at = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: AutoencoderModule) -> None:  # type: ignore[override]
        is_last = trainer.current_epoch + 1 == trainer.max_epochs
        is_due = is_last or time.monotonic() - self.saved_at >= MIN_SECONDS_BETWEEN
        worker = pl_module.worker
        if not worker.agree(is_due):  # by the first one's clock: they save together, or wait for each other for ever
            return
        if worker.is_first:
            self._save(trainer)
        else:
            trainer.save_checkpoint(self.path)  # writes nothing
        self.saved_at = time.monotonic()

    def _save(self, trainer: pl.Trainer) -> None:
        for log in self.logs:
            log.write(wait=True)
        for name in (PROGRESS_FILE, WEIGHT_HASH_FILE):
            sync_file(self.path.with_name(name))
        with atomic_path(self.path) as tmp_path:
            trainer.save_checkpoint(tmp_path)
            _load_checkpoint(tmp_path)


class LocalCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint with torch alone.

    Lightning asks first whether the path is that of an object store, and imports every client of one that is installed: half a
    second of each process that trains.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        torch.save(checkpoint, path)


def find_checkpoint(folder: Path, key: Mapping[str, Any]) -> Path | None:
    """Return the checkpoint to resume from, or None to start over: the folder then holds this key and no checkpoint.

    Args:
        folder: created where it is missing.
        key: everything that decides the weights, JSON-ready. A checkpoint under another key, or one that does not load, is
            removed with a warning.
    """
    make_folder(folder)
    checkpoint = folder / CHECKPOINT_FILE
    key_sha256 = json_sha256(key)
    problem = _checkpoint_problem(folder, key_sha256)
    if problem is None:
        return checkpoint
    if checkpoint.exists():
        _logger.warning("the training starts over: the checkpoint %s %s", checkpoint, problem)
        checkpoint.unlink()
    atomic_write(folder / CHECKPOINT_KEY_FILE, json_text({"format": 1, "sha256": key_sha256}))
    return None


def remove_checkpoint(folder: Path) -> None:
    """Remove the checkpoint of a training whose result is in place, so that the same command trains again."""
    for name in (CHECKPOINT_FILE, CHECKPOINT_KEY_FILE):
        (folder / name).unlink(missing_ok=True)


def _checkpoint_problem(folder: Path, key_sha256: str) -> str | None:
    """Return the reason not to resume from the checkpoint in `folder`, or None."""
    if not (folder / CHECKPOINT_FILE).is_file():
        return "is missing"
    if _stored_key(folder) != key_sha256:
        return "is of another specification, other data or another machine setting"
    try:
        _load_checkpoint(folder / CHECKPOINT_FILE)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        return f"cannot be read ({type(error).__name__})"
    return None


def _load_checkpoint(path: Path) -> None:
    torch.load(path, map_location="cpu", weights_only=True)


def _stored_key(folder: Path) -> str | None:
    try:
        document = json.loads((folder / CHECKPOINT_KEY_FILE).read_text(encoding="utf-8"))
        key_sha256: str | None = document.get("sha256")
    except (OSError, ValueError, AttributeError):
        return None
    return key_sha256
