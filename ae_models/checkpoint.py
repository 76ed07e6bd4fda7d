"""Checkpoints that a kill cannot spoil: saved aside, verified by loading, renamed; in a folder that knows whose they are."""

import hashlib
import json
import logging
import os
import pickle  # for the name of its error alone
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from ae_models.files import write_aside

logger = logging.getLogger(__name__)

LAST, KEY = "last.ckpt", "key.json"
SECONDS_APART = 2.0  # at most this much training is lost; when a checkpoint is taken changes no result


class Checkpoints(pl.Callback):
    """Keeps the state after some recent epoch in `folder`; the last epoch's is always kept."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / LAST
        self.saved_at = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        last = trainer.current_epoch + 1 == trainer.max_epochs
        if last or time.monotonic() - self.saved_at >= SECONDS_APART:
            save(trainer, self.file)
            self.saved_at = time.monotonic()


def save(trainer: pl.Trainer, file: Path) -> None:
    aside = file.with_name(f".{file.name}.aside")
    trainer.save_checkpoint(aside)
    torch.load(aside, map_location="cpu", weights_only=True)
    os.replace(aside, file)


def open_folder(folder: Path, key: Mapping[str, Any]) -> Path | None:
    """The checkpoint in `folder` to resume from, or None to start over: then the folder holds this key and no checkpoint.

    Args:
        folder: made where it is missing.
        key: all that decides the weights. A checkpoint under another key, or one that does not load, is dropped and said so.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = key_sha256(key)
    if (reason := why_not(folder, wanted)) is None:
        return folder / LAST
    if (folder / LAST).exists():
        logger.warning("the training starts over: the checkpoint %s %s", folder / LAST, reason)
        (folder / LAST).unlink()
    write_aside(folder / KEY, json.dumps({"format": 1, "sha256": wanted}, indent=2) + "\n")
    return None


def why_not(folder: Path, wanted: str) -> str | None:
    """Why the checkpoint in `folder` cannot be resumed from, or None where it can."""
    if not (folder / LAST).is_file():
        return "is missing"
    if found_key(folder) != wanted:
        return "is of another specification, other data or another machine setting"
    try:
        torch.load(folder / LAST, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        return f"cannot be read ({type(error).__name__})"
    return None


def found_key(folder: Path) -> str | None:
    try:
        found: str | None = json.loads((folder / KEY).read_text(encoding="utf-8")).get("sha256")
    except (OSError, ValueError, AttributeError):
        return None
    return found


def key_sha256(key: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()


def forget(folder: Path) -> None:
    """Drops the checkpoint of a training whose bundle is in place, so that the same command trains again."""
    for name in (LAST, KEY):
        (folder / name).unlink(missing_ok=True)
