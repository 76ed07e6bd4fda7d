"""Environment of a training: what decides the order of sums, and what a person sees of it."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ae_models.errors import SpecError, TrainingError
from ae_models.spec import TrainSpec

__all__ = ["deterministic_threads", "quiet_lightning", "require_accelerator", "require_threads"]

_THREADS_VARIABLE = "OMP_NUM_THREADS"


def require_threads(threads: int) -> None:
    """Refuse an environment in which oneDNN would wait for ever for threads that OpenMP does not start.

    Raises:
        TrainingError: OMP_THREAD_LIMIT is less than `threads`.
    """
    limit = os.environ.get("OMP_THREAD_LIMIT", "").strip()
    if limit.isdecimal() and int(limit) < threads:
        raise TrainingError(
            f"OMP_THREAD_LIMIT={limit} is set and train.threads is {threads}: a training here would never end. "
            "Type unset OMP_THREAD_LIMIT; another number of threads would train other bits"
        )


def require_accelerator(spec: TrainSpec, workers: int) -> None:
    """Refuse a training on GPUs that this machine has not.

    Args:
        spec: of the training.
        workers: on this machine, each with a GPU of its own where the training is on GPUs.

    Raises:
        SpecError: `spec.accelerator` is gpu, and torch sees none; or there are fewer than workers.
    """
    accelerator = spec.accelerator
    gpus = torch.cuda.device_count()
    has_mps = torch.backends.mps.is_available()
    if accelerator == "gpu" and not gpus and not has_mps:
        raise SpecError(["train.accelerator: expected auto or cpu on this machine, where torch sees no GPU, got gpu"])
    if workers > 1 and accelerator != "cpu" and (has_mps or 0 < gpus < workers):
        usable = max(1, gpus)
        raise SpecError(
            [
                f"train.devices: expected at most {usable} on this machine, which has {usable} GPU"
                f"{'s' if usable > 1 else ''}, got {spec.devices}; or train.accelerator: cpu, where each worker has cores"
            ]
        )


@contextmanager
def deterministic_threads(threads: int) -> Iterator[None]:
    """Fix the number of threads, which decides the order of sums, and restore torch's settings afterwards.

    Lightning sets `use_deterministic_algorithms` itself. Where several workers share a training it also sets the number of
    threads, to a share of the machine's cores, unless OMP_NUM_THREADS is there.
    """
    threads_before, variable_before = torch.get_num_threads(), os.environ.get(_THREADS_VARIABLE)
    deterministic_before = torch.are_deterministic_algorithms_enabled()
    settings: Any = torch.utils.deterministic
    fill_before = settings.fill_uninitialized_memory
    torch.set_num_threads(threads)
    os.environ[_THREADS_VARIABLE] = str(threads)
    settings.fill_uninitialized_memory = False  # true writes every new tensor twice; nothing here reads one unwritten
    try:
        yield
    finally:
        torch.set_num_threads(threads_before)
        if variable_before is None:
            del os.environ[_THREADS_VARIABLE]
        else:
            os.environ[_THREADS_VARIABLE] = variable_before
        torch.use_deterministic_algorithms(deterministic_before)
        settings.fill_uninitialized_memory = fill_before


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Hide Lightning's advice (worker processes, loggers, tips); errors still show."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
