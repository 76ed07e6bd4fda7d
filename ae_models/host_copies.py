"""Copies of tensors to the host's memory that the device does not wait for."""

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["HostCopy"]


class HostCopy:
    """Tensors by name as they are now, on their way to the host's memory.

    A GPU goes on with what is queued behind the copy; asking for a value at once would stop it until all is done. Of tensors on
    the CPU nothing is copied: read them before they change.

    Args:
        tensors: by name, all on one device.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors: dict[str, Tensor] = {}
        self._event: torch.cuda.Event | None = None
        for name, tensor in tensors.items():
            source = tensor.detach()
            if source.device.type != "cuda":
                self._tensors[name] = source
                continue
            copied = torch.empty(source.shape, dtype=source.dtype, pin_memory=True)
            copied.copy_(source, non_blocking=True)
            self._tensors[name] = copied
            if self._event is None:
                self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        if self._event is not None:
            self._event.record()

    @property
    def is_ready(self) -> bool:
        """Whether `wait` returns at once."""
        return self._event is None or bool(self._event.query())  # type: ignore[no-untyped-call]

    def wait(self) -> dict[str, Tensor]:
        """Return the tensors on the CPU, once they have arrived."""
        if self._event is not None:
            self._event.synchronize()
        return self._tensors
