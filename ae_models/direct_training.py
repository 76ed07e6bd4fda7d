"""Training of small autoencoders in memory: a plain loop without checkpoints, progress or Lightning, for tables of seconds.

`ae_models.training` is the one that can be killed and resumed. The order of samples, the schedule and the optimiser are the same.
"""

import math

import torch
from torch import Tensor

from ae_models.autoencoder import Autoencoder
from ae_models.data_loading import EPOCH_SEED_STRIDE, IndexBatchSampler, seed_generators
from ae_models.errors import DivergenceError
from ae_models.spec import TrainSpec
from ae_models.stacked_members import StackedMembers, can_stack

__all__ = ["train_in_memory"]

_WARM_UP_SHARE = 0.05  # of the steps, in which the learning rate climbs to its peak
_ADAM_BETAS = (0.9, 0.98)


def train_in_memory(autoencoder: Autoencoder, spec: TrainSpec, inputs: Tensor) -> int:
    """Train an autoencoder, or all members of an ensemble, on samples as they are read by the networks.

    Args:
        autoencoder: with fresh weights, on the CPU; trained in place.
        spec: its epochs, batch, learning rate, seed and members count.
        inputs: float32 (n, *input_shape).

    Returns:
        The number of steps.

    Raises:
        DivergenceError: a loss that is not finite.
    """
    members = autoencoder.members
    stacked = StackedMembers(members) if can_stack(members) else None
    parameters = list(stacked.parameters.values()) if stacked else list(autoencoder.parameters())
    optimizer = torch.optim.Adam(parameters, lr=spec.learning_rate, betas=_ADAM_BETAS, fused=True)
    sampler = IndexBatchSampler(len(inputs), spec.batch, spec.seed, spec.members)
    steps = spec.total_epochs * len(sampler)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _learning_rate_share(step, steps))
    autoencoder.train()
    step, loss_sum = 0, torch.zeros(())
    for epoch in range(spec.total_epochs):
        sampler.set_epoch(epoch)
        for indices in sampler:
            seed_generators(inputs.device, spec.seed * EPOCH_SEED_STRIDE + step)
            batches = [inputs[part] for part in indices.chunk(spec.members)]
            pairs = [member.training_pair(x) for member, x in zip(members, batches, strict=True)]
            if stacked:
                loss = stacked.losses(*zip(*pairs, strict=True)).sum()
            else:
                loss = torch.stack([member.loss_of(*pair) for member, pair in zip(members, pairs, strict=True)]).sum()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            loss_sum += loss.detach()
            step += 1
    if not torch.isfinite(loss_sum):
        raise DivergenceError(f"the loss is {float(loss_sum)} after {steps} steps: train with a smaller learning_rate")
    autoencoder.eval()
    return steps


def _learning_rate_share(step: int, steps: int) -> float:
    """Return the share of the peak learning rate at a step: a linear climb, then half a cosine down to zero."""
    warm_up_steps = max(1, round(_WARM_UP_SHARE * steps))
    if step < warm_up_steps:
        return (step + 1) / warm_up_steps
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up_steps) / max(1, steps - warm_up_steps)))
