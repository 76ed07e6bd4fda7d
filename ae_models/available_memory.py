"""Available memory of this machine and its GPU, under every limit that Linux may set."""

import resource
from pathlib import Path

import torch

__all__ = ["address_space_bytes", "control_group_bytes", "fits_in_memory", "machine_bytes"]

_SAMPLE_SHARE = 0.5  # of the available memory, for samples; activations, gradients and the optimiser need the rest
_UNLIMITED = 2**62


def fits_in_memory(byte_count: int, device: torch.device) -> bool:
    """Return whether so many bytes of samples can lie on the device for a whole training."""
    available_bytes = min(machine_bytes(), control_group_bytes(), address_space_bytes())
    if device.type == "cuda":
        available_bytes = min(available_bytes, torch.cuda.mem_get_info(device)[0])
    return byte_count <= _SAMPLE_SHARE * available_bytes


def machine_bytes() -> int:
    """Return the bytes that the machine has available."""
    return _read_sizes(Path("/proc/meminfo")).get("MemAvailable", _UNLIMITED)


def address_space_bytes() -> int:
    """Return the bytes that this process may still map under its own limit (`ulimit -v`)."""
    soft_limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft_limit == resource.RLIM_INFINITY:
        return _UNLIMITED
    return max(0, soft_limit - _read_sizes(Path("/proc/self/status")).get("VmSize", 0))


def control_group_bytes(group: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the bytes that the control group (version 2) may still take, as containers see their own."""
    try:
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        usage = (group / "memory.current").read_text(encoding="ascii").strip()
    except OSError:
        return _UNLIMITED
    if limit == "max":
        return _UNLIMITED
    return max(0, int(limit) - int(usage))


def _read_sizes(path: Path) -> dict[str, int]:
    """Return the lines `Name:   123 kB` of a file of /proc, in bytes; none where there is no /proc."""
    sizes: dict[str, int] = {}
    if not path.is_file():
        return sizes
    for line in path.read_text(encoding="utf-8").splitlines():
        columns = line.split()
        if len(columns) == 3 and columns[2] == "kB":
            sizes[columns[0].rstrip(":")] = int(columns[1]) * 1024
    return sizes
