"""The optimiser of a training and its learning rate, which climbs in a line and then falls with half a cosine."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

__all__ = ["learning_rate_at", "make_optimizer"]

_WARM_UP_SHARE = 0.05  # share of the steps in which the learning rate climbs to its peak
_ADAM_BETAS = (0.9, 0.98)  # in trainings of some thousand steps a memory of 50 steps beat the usual 1,000


def learning_rate_at(peak: float, step: int, steps: int) -> float:
    """Return the learning rate of a step.

    Args:
        peak: the highest learning rate.
        step: from 0.
        steps: of the whole training.
    """
    warm_up_steps = max(1, round(_WARM_UP_SHARE * steps))
    if step < warm_up_steps:
        return peak * ((step + 1) / warm_up_steps)
    return peak * (0.5 * (1 + math.cos(math.pi * (step - warm_up_steps) / max(1, steps - warm_up_steps))))


def make_optimizer(parameters: Iterable[Tensor], device: torch.device) -> torch.optim.Adam:
    """Return the optimiser of parameters that lie on `device` already.

    Its learning rate is a tensor on the device, `param_groups[0]["lr"]`, to be filled before each step: a step that is captured
    as a CUDA graph reads it there. On a CPU it has double precision, which gives the bits of a Python float; the kernel for GPUs
    reads single precision alone.
    """
    on_gpu = device.type == "cuda"
    learning_rate = torch.zeros((), dtype=torch.float32 if on_gpu else torch.float64, device=device)
    return torch.optim.Adam(parameters, lr=learning_rate, betas=_ADAM_BETAS, fused=True, capturable=on_gpu)
