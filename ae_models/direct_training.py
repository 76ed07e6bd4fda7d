"""Training of small autoencoders in memory: a plain loop without checkpoints, progress or Lightning, for tables of seconds.

`ae_models.training` is the one that can be killed and resumed. The order of samples, the schedule and the optimiser are the same.
"""

import math

import torch
from torch import Tensor

from ae_models.autoencoder import Autoencoder
from ae_models.data_loading import EPOCH_SEED_STRIDE, epoch_orders, seed_generators
from ae_models.errors import DivergenceError
from ae_models.optimisation import learning_rate_at, make_optimizer
from ae_models.spec import TrainSpec
from ae_models.stacked_members import StackedMembers, can_stack

__all__ = ["train_in_memory"]


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
    optimizer = make_optimizer(parameters, inputs.device)
    steps = spec.total_epochs * math.ceil(len(inputs) / spec.batch)
    autoencoder.train()
    step, loss_sum = 0, torch.zeros(())
    for epoch in range(spec.total_epochs):
        orders = epoch_orders(len(inputs), spec.seed, spec.members, epoch)
        for indices in torch.split(orders, spec.batch, dim=1):
            seed_generators(inputs.device, spec.seed * EPOCH_SEED_STRIDE + step)
            pairs = [member.training_pair(inputs[part]) for member, part in zip(members, indices, strict=True)]
            if stacked:
                loss = stacked.losses(*zip(*pairs, strict=True)).sum()
            else:
                loss = torch.stack([member.loss_of(*pair) for member, pair in zip(members, pairs, strict=True)]).sum()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.param_groups[0]["lr"].fill_(learning_rate_at(spec.learning_rate, step, steps))
            optimizer.step()
            loss_sum += loss.detach()
            step += 1
    if not torch.isfinite(loss_sum):
        raise DivergenceError(f"the loss is {float(loss_sum)} after {steps} steps: train with a smaller learning_rate")
    autoencoder.eval()
    return steps
