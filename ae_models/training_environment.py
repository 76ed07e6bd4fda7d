"""Environment of a training: what decides the order of sums, and what a person sees of it."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ae_models.errors import SpecError, TrainingError

__all__ = ["deterministic_threads", "quiet_lightning", "require_accelerator", "require_threads"]


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


def require_accelerator(accelerator: str) -> None:
    """Refuse a training on a GPU where there is none.

    Raises:
        SpecError: `accelerator` is gpu, and torch sees no GPU.
    """
    if accelerator == "gpu" and not torch.cuda.is_available() and not torch.backends.mps.is_available():
        raise SpecError(["train.accelerator: expected auto or cpu on this machine, where torch sees no GPU, got gpu"])


@contextmanager
def deterministic_threads(threads: int) -> Iterator[None]:
    """Fix the number of threads, which decides the order of sums, and restore torch's settings afterwards.

    Lightning sets `use_deterministic_algorithms` itself.
    """
    threads_before = torch.get_num_threads()
    deterministic_before = torch.are_deterministic_algorithms_enabled()
    settings: Any = torch.utils.deterministic
    fill_before = settings.fill_uninitialized_memory
    torch.set_num_threads(threads)
    settings.fill_uninitialized_memory = False  # true writes every new tensor twice; nothing here reads one unwritten
    try:
        yield
    finally:
        torch.set_num_threads(threads_before)
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
