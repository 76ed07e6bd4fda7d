"""One of the workers that share the batches of a training: its number, how Lightning reaches the others, what they agree on.

Each worker is a process that calls `ae_models.training.train_weights` with the same arguments, and each ends with the same
weights. The first one decides when to save and alone writes files. Who starts the processes is not known here:
`ae_models.local_workers` does so on one machine.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._distributed_c10d import GradBucket

from ae_models.batch_share import BatchShare, add_workers, share_of_worker
from ae_models.checksums import tensors_sha256
from ae_models.errors import TrainingError
from ae_models.training_result import weight_arrays

__all__ = ["ALONE", "DDP_SETTINGS", "TrainingWorker", "average_in_order"]


# For Lightning's strategy `ddp`, or one derived from it.
DDP_SETTINGS: dict[str, Any] = {
    "broadcast_buffers": False,  # they are the same in every worker, and the samples are among them
    "init_sync": False,  # every worker makes the same weights: `TrainingWorker.require_alike` looks
}


def average_in_order(state: object, bucket: GradBucket) -> torch.futures.Future[Tensor]:
    """Average gradients over the workers, each number in the order of the workers: a hook of DDP.

    DDP groups gradients anew after its first step. Added in an order that depends on the groups, those of a training that resumes
    would end in other last bits than those of one that was never stopped. Lightning registers such hooks on a GPU alone.
    """
    averaged: torch.futures.Future[Tensor] = torch.futures.Future()
    averaged.set_result(add_workers(bucket.buffer()) / torch.distributed.get_world_size())
    return averaged


@dataclass(frozen=True)
class TrainingWorker:
    """Which of the workers of a training this process is.

    Attributes:
        number: from 0; the first one decides and writes.
        count: of the workers. With 2 or more, torch's default process group joins them already.
        local_count: of those on this machine that hold the samples in the same memory.
        devices, strategy, plugins: for Lightning's trainer.
    """

    number: int = 0
    count: int = 1
    local_count: int = 1
    devices: int | str = 1
    strategy: Any = "auto"
    plugins: tuple[Any, ...] = ()

    @property
    def is_first(self) -> bool:
        return self.number == 0

    def share(self, total: int) -> BatchShare | None:
        """Return this worker's share of a batch of `total` samples; None where it is alone and has all of it."""
        if self.count == 1:
            return None
        return share_of_worker(total, self.number, self.count)

    def agree(self, decision: bool) -> bool:
        """Return the first worker's decision, once every worker has asked."""
        if self.count == 1:
            return decision
        decisions = [decision]
        torch.distributed.broadcast_object_list(decisions, src=0)
        return decisions[0]

    def agree_on_file(self, find: Callable[[], Path | None], path: Path) -> Path | None:
        """Return `path` in every worker where `find`, called in the first one alone, returns a path; else None."""
        is_there = self.agree(self.is_first and find() is not None)
        return path if is_there else None

    def require_alike(self, module: nn.Module) -> None:
        """Refuse workers that would not train the same weights: each has to begin with the same ones, on the same kind of CPU.

        Args:
            module: with the weights before the training.

        Raises:
            TrainingError: in every worker, with what differs.
        """
        if self.count == 1:
            return
        own = {
            "torch": torch.__version__,
            "kind of CPU": torch.backends.cpu.get_cpu_capability(),
            "first weights": tensors_sha256(weight_arrays(module))[:16],
        }
        of_workers: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(of_workers, own)
        for name in own:
            values = [worker[name] for worker in of_workers]
            if len(set(values)) > 1:
                raise TrainingError(
                    f"expected the same {name} in all {self.count} workers of a training, got {', '.join(values)}: their weights "
                    "would not be the same on each run; start all of them on machines of one kind, with the same environment"
                )


ALONE = TrainingWorker()
