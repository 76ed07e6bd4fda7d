"""How samples reach a step: they lie on the device as one tensor and a loader hands out indices, or, where they do not fit,
a loader reads them from their file. Both in the same order, so that memory decides nothing but the speed.

No per-sample Python, no collate, no worker process, and one order of samples for a seed and an epoch, whatever was
drawn before: a training that resumes at an epoch sees what it would have seen.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ae_models.rows import Rows

EPOCHS_APART = 1_000_003  # a prime far above any number of epochs, so that seeds of neighbouring trainings do not meet


class IndexBatches(Sampler[Tensor]):
    """The indices of each batch of an epoch, shuffled by seed and epoch. Lightning calls `set_epoch`."""

    def __init__(self, rows: int, batch: int, seed: int) -> None:
        self.rows, self.batch, self.seed = rows, batch, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.rows // self.batch)

    def __iter__(self) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(self.seed * EPOCHS_APART + self.epoch)
        yield from torch.split(torch.randperm(self.rows, generator=generator), self.batch)


class Indices(Dataset[Tensor]):
    """Gives back the indices it is asked for: the samples are on the device already."""

    def __getitem__(self, indices: Tensor) -> Tensor:
        return indices


class ReadSamples(Dataset[Tensor]):
    """Reads the samples at the indices it is asked for."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def __getitem__(self, indices: Tensor) -> Tensor:
        return torch.from_numpy(self.rows.take(indices.numpy()))


def loader(samples: Dataset[Tensor], rows: int, batch: int, seed: int) -> DataLoader[Tensor]:
    return DataLoader(samples, sampler=IndexBatches(rows, batch, seed), batch_size=None)


def seed_draws(device: torch.device, seed: int) -> None:
    """Seeds what modules draw from on the CPU and on `device`.

    `torch.manual_seed` also queues the seed, with a formatted stack, for every kind of device that never woke up: 2 ms
    each time, and a list that grows with every step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
