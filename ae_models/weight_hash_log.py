"""Log of weight hashes during a training, so that the step at which two trainings diverge can be found."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import nn

from ae_models.atomic_files import atomic_write
from ae_models.checksums import tensors_sha256
from ae_models.lightning_module import AutoencoderModule
from ae_models.training_result import WEIGHT_HASH_FILE, weight_arrays

__all__ = ["WEIGHT_HASH_HEADER", "WeightHashCallback", "truncate_weight_hashes"]

WEIGHT_HASH_HEADER = "step,sha256\n"


class WeightHashCallback(pl.Callback):
    """Appends `step,sha256` of the weights to trail.csv after steps 1, 2, 4, 8, ... and after the last step of each epoch.

    It comes before the checkpoints among the callbacks, so that no checkpoint is ahead of the log. A line is one write, so a
    kill leaves it whole or not there; lines beyond the checkpoint that a training resumes from are written again. Of several
    workers, which have the same weights, the first one writes.

    Args:
        folder: of the log.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / WEIGHT_HASH_FILE

    def on_train_start(self, trainer: pl.Trainer, pl_module: AutoencoderModule) -> None:  # type: ignore[override]
        if not pl_module.worker.is_first:
            return
        truncate_weight_hashes(self.path, trainer.global_step)

    def on_train_batch_end(  # type: ignore[override]
        self, trainer: pl.Trainer, pl_module: AutoencoderModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if pl_module.worker.is_first and (_is_power_of_two(step) or batch_idx + 1 == pl_module.steps_per_epoch):
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(f"{step},{_weights_sha256(pl_module.autoencoder)}\n")


def truncate_weight_hashes(path: Path, steps: int) -> None:
    """Cut the log back to its whole lines up to step `steps`; create an empty one where there is none."""
    text = path.read_text(encoding="utf-8") if path.is_file() else WEIGHT_HASH_HEADER
    whole_lines = text[: text.rfind("\n") + 1].splitlines(keepends=True)[1:]
    retained_lines = [line for line in whole_lines if int(line.partition(",")[0]) <= steps]
    atomic_write(path, WEIGHT_HASH_HEADER + "".join(retained_lines))


def _is_power_of_two(step: int) -> bool:
    return step > 0 and step & (step - 1) == 0


def _weights_sha256(module: nn.Module) -> str:
    """Return the hash of a module's weights: that of its bundle's weights.safetensors, tensor by tensor."""
    return tensors_sha256(weight_arrays(module))
