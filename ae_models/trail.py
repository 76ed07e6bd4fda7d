"""The trail of a training: what the weights were on the way, as hashes, so that two trainings can be told apart by the step."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import nn

from ae_models.canonical import tensors_sha256
from ae_models.files import write_aside
from ae_models.module import Training

TRAIL = "trail.csv"
HEADER = "step,sha256\n"


class Trail(pl.Callback):
    """Appends `step,sha256` of the weights to trail.csv after steps 1, 2, 4, 8, ... and after the last step of each epoch.

    It stands before the checkpoints among the callbacks: a checkpoint never lies beyond the trail. A line is one write, so a
    kill leaves it whole or not there, and what lies beyond the checkpoint that a training resumes from is written again.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / TRAIL

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        keep_steps(self.file, trainer.global_step)

    def on_train_batch_end(  # type: ignore[override]
        self, trainer: pl.Trainer, pl_module: Training, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if is_power_of_two(step) or batch_idx + 1 == pl_module.steps_an_epoch:
            with self.file.open("a", encoding="utf-8") as stream:
                stream.write(f"{step},{weights_sha256(pl_module.autoencoder)}\n")


def is_power_of_two(step: int) -> bool:
    return step > 0 and step & (step - 1) == 0


def weights_sha256(module: nn.Module) -> str:
    """The hash of a module's weights: that of its bundle's weights.safetensors, tensor by tensor."""
    return tensors_sha256({name: value.detach().cpu().numpy() for name, value in module.state_dict().items()})


def keep_steps(file: Path, steps: int) -> None:
    """Cuts the trail back to its lines up to step `steps`; begins one where there is none."""
    text = file.read_text(encoding="utf-8") if file.is_file() else HEADER
    whole = text[: text.rfind("\n") + 1].splitlines(keepends=True)[1:]
    kept = [line for line in whole if int(line.partition(",")[0]) <= steps]
    write_aside(file, HEADER + "".join(kept))
