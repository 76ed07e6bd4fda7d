"""Log of weight hashes during a training, so that the step at which two trainings diverge can be found."""

from collections import deque
from functools import partial
from pathlib import Path

import pytorch_lightning as pl

from ae_models.atomic_files import atomic_write
from ae_models.checksums import tensors_sha256
from ae_models.host_copies import HostCopy
from ae_models.lightning_module import AutoencoderModule
from ae_models.training_result import WEIGHT_HASH_FILE, tensor_arrays

__all__ = ["WEIGHT_HASH_HEADER", "WeightHashCallback", "truncate_weight_hashes"]

WEIGHT_HASH_HEADER = "step,sha256\n"


class WeightHashCallback(pl.Callback):
    """Appends `step,sha256` of the weights to trail.csv after steps 1, 2, 4, 8, ... and after the last step of each epoch.

    It comes before the checkpoints among the callbacks, so that no checkpoint is ahead of the log. A line is one write, so a
    kill leaves it whole or not there; lines beyond the checkpoint that a training resumes from are written again. Of several
    workers, which have the same weights, the first one writes. A GPU does not wait for a line: it is written once the weights
    have come to the host, or before a checkpoint.

    Args:
        folder: of the log.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / WEIGHT_HASH_FILE
        self.unwritten: deque[tuple[int, HostCopy]] = deque()

    def on_train_start(self, trainer: pl.Trainer, pl_module: AutoencoderModule) -> None:  # type: ignore[override]
        if not pl_module.worker.is_first:
            return
        truncate_weight_hashes(self.path, trainer.current_epoch * pl_module.steps_per_epoch)
        pl_module.step_observers.append(partial(self._observe, pl_module))

    def _observe(self, pl_module: AutoencoderModule, step: int) -> None:
        if _is_power_of_two(step) or step % pl_module.steps_per_epoch == 0:
            self.unwritten.append((step, HostCopy(pl_module.autoencoder.state_dict())))
        self.write(wait=False)

    def write(self, *, wait: bool) -> None:
        """Write the lines whose weights have come to the host.

        Args:
            wait: whether to wait for those that have not.
        """
        while self.unwritten and (wait or self.unwritten[0][1].is_ready):
            step, weights = self.unwritten.popleft()
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(f"{step},{tensors_sha256(tensor_arrays(weights.wait()))}\n")


def truncate_weight_hashes(path: Path, steps: int) -> None:
    """Cut the log back to its whole lines up to step `steps`; create an empty one where there is none."""
    text = path.read_text(encoding="utf-8") if path.is_file() else WEIGHT_HASH_HEADER
    whole_lines = text[: text.rfind("\n") + 1].splitlines(keepends=True)[1:]
    retained_lines = [line for line in whole_lines if int(line.partition(",")[0]) <= steps]
    atomic_write(path, WEIGHT_HASH_HEADER + "".join(retained_lines))


def _is_power_of_two(step: int) -> bool:
    return step > 0 and step & (step - 1) == 0
