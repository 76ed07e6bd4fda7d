"""The order of samples in a training, its random seeds, and batches for evaluation.

There is one order of samples for a seed and an epoch, whatever random numbers were drawn before, and whether the samples lie on
the device or in a file: a training that resumes at an epoch sees the same samples.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ae_models.sample_sets import SampleSet

__all__ = [
    "EPOCH_SEED_STRIDE",
    "EVALUATION_SEED",
    "epoch_orders",
    "evaluation_batch_size",
    "iterate_batches",
    "seed_generators",
]

EPOCH_SEED_STRIDE = 1_000_003  # a prime far above any number of epochs, so that seeds of neighbouring trainings never collide
EVALUATION_SEED = 2_718_281_828  # for samples that are served corrupted: the same random numbers each time
# Samples a batch where no gradient is needed, for some thousand numbers a sample; fewer of larger samples.
_EVALUATION_BATCH = 1024
_TOKEN_WEIGHT = 256  # numbers that a token id counts for: a decoder makes as many as the vocabulary has of each


def epoch_orders(rows: int, seed: int, members: int, epoch: int) -> Tensor:
    """Return the order in which each member of an ensemble sees the samples in an epoch, (members, rows) int64, on the CPU.

    The members' seeds are seed, seed + 1, ..., and each has the order of a single model with its seed.

    Args:
        rows: number of samples.
        seed: of the training.
        members: of the ensemble; 1: a single model.
        epoch: from 0.
    """
    orders = torch.empty(members, rows, dtype=torch.int64)
    for member, order in enumerate(orders):
        generator = torch.Generator().manual_seed((seed + member) * EPOCH_SEED_STRIDE + epoch)
        torch.randperm(rows, generator=generator, out=order)
    return orders


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
