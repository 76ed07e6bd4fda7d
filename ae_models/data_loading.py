"""Data loading for training, in the same order whether the samples lie on the device or in a file.

Samples that fit lie on the device as one tensor, and the loader returns indices; otherwise it reads samples from their file.

No per-sample Python, no collate, no worker process, and one order of samples for a seed and an epoch, whatever random numbers
were drawn before: a training that resumes at an epoch sees the same samples.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ae_models.batch_share import share_of_worker
from ae_models.sample_sets import SampleSet

__all__ = [
    "EPOCH_SEED_STRIDE",
    "EVALUATION_SEED",
    "IndexBatchSampler",
    "MappedSamples",
    "ResidentIndices",
    "evaluation_batch_size",
    "iterate_batches",
    "make_loader",
    "seed_generators",
]

EPOCH_SEED_STRIDE = 1_000_003  # a prime far above any number of epochs, so that seeds of neighbouring trainings never collide
EVALUATION_SEED = 2_718_281_828  # for samples that are served corrupted: the same random numbers each time
# Samples a batch where no gradient is needed, for some thousand numbers a sample; fewer of larger samples.
_EVALUATION_BATCH = 1024
_TOKEN_WEIGHT = 256  # numbers that a token id counts for: a decoder makes as many as the vocabulary has of each


class IndexBatchSampler(Sampler[Tensor]):
    """Yields the indices of each batch of an epoch, shuffled by seed and epoch. Lightning calls `set_epoch`.

    Of an ensemble, a batch holds one of each member after the other, as many indices of each. Their seeds are seed, seed + 1,
    ..., and each has the order of a single model with its seed.

    Args:
        rows: number of samples.
        batch: samples a batch of a member; the last one may be smaller.
        seed: of the training.
        members: of the ensemble; 1: a single model.
        worker: number from 0 of the worker whose share of each batch is yielded (see `ae_models.batch_share`).
        workers: that share each batch; 1: it is yielded whole.
    """

    def __init__(self, rows: int, batch: int, seed: int, members: int, worker: int = 0, workers: int = 1) -> None:
        self.rows, self.batch, self.seed, self.members = rows, batch, seed, members
        self.worker, self.workers = worker, workers
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.rows // self.batch)

    def __iter__(self) -> Iterator[Tensor]:
        orders = []
        for seed in range(self.seed, self.seed + self.members):
            generator = torch.Generator().manual_seed(seed * EPOCH_SEED_STRIDE + self.epoch)
            orders.append(torch.split(torch.randperm(self.rows, generator=generator), self.batch))
        for batches in zip(*orders, strict=True):
            yield torch.cat([self._own_part(batch) for batch in batches])

    def _own_part(self, batch: Tensor) -> Tensor:
        if self.workers == 1:
            return batch
        return batch[share_of_worker(len(batch), self.worker, self.workers).computed]


class ResidentIndices(Dataset[Tensor]):
    """Returns the indices themselves: the samples are on the device already."""

    def __getitem__(self, indices: Tensor) -> Tensor:
        return indices


class MappedSamples(Dataset[Tensor]):
    """Reads the samples at the requested indices."""

    def __init__(self, samples: SampleSet) -> None:
        self.samples = samples

    def __getitem__(self, indices: Tensor) -> Tensor:
        return torch.from_numpy(self.samples.take(indices.numpy()))


def make_loader(dataset: Dataset[Tensor], sampler: IndexBatchSampler) -> DataLoader[Tensor]:
    """Return a loader of the whole batches whose indices the sampler yields."""
    return DataLoader(dataset, sampler=sampler, batch_size=None)


def seed_generators(device: torch.device, seed: int) -> None:
    """Seed torch's global generators on the CPU and on `device`.

    `torch.manual_seed` also queues the seed, with a formatted stack, for every kind of device that was never used: 2 ms each
    time, and a list that grows with every step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def iterate_batches(samples: SampleSet) -> Iterator[Tensor]:
    """Yield all samples in order, in batches for evaluation."""
    for block in samples.blocks():
        raw = torch.from_numpy(np.array(block))
        yield from torch.split(raw, evaluation_batch_size(raw))


def evaluation_batch_size(samples: Tensor) -> int:
    """Return the samples a batch in evaluation, so that the activations of large ones fit as well."""
    weight = _TOKEN_WEIGHT if samples.dtype == torch.int64 else 1
    sample_size = max(1, weight * samples[0].numel())
    return max(1, min(_EVALUATION_BATCH, _EVALUATION_BATCH * 1024 // sample_size))
