"""How much memory is left to this process, by every limit that Linux may set. Standard library and torch's own word of a GPU."""

import resource
from pathlib import Path

import torch

SHARE = 0.5  # of what is left that samples may take; activations, gradients and the optimiser need the rest
UNLIMITED = 2**62


def fits(nbytes: int, device: torch.device) -> bool:
    """Whether so many bytes of samples can lie on the device for a whole training."""
    left = min(host_bytes_left(), torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else UNLIMITED)
    return nbytes <= SHARE * left


def host_bytes_left() -> int:
    """Bytes that this process can still take: of the machine's, of its control group's and of its own limit (`ulimit -v`)."""
    return min(machine_bytes_left(), control_group_bytes_left(), address_bytes_left())


def machine_bytes_left() -> int:
    return fields_of(Path("/proc/meminfo")).get("MemAvailable", UNLIMITED)


def address_bytes_left() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return UNLIMITED if soft == resource.RLIM_INFINITY else max(0, soft - fields_of(Path("/proc/self/status")).get("VmSize", 0))


def control_group_bytes_left(group: Path = Path("/sys/fs/cgroup")) -> int:
    """By control group version 2, as containers see their own; no limit where there is none."""
    try:
        limit, used = ((group / name).read_text(encoding="ascii").strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return UNLIMITED
    return UNLIMITED if limit == "max" else max(0, int(limit) - int(used))


def fields_of(file: Path) -> dict[str, int]:
    """The lines `Name:   123 kB` of a file of /proc, in bytes; none where there is no /proc."""
    if not file.is_file():
        return {}
    parts = (line.split() for line in file.read_text(encoding="utf-8").splitlines())
    return {line[0].rstrip(":"): int(line[1]) * 1024 for line in parts if len(line) == 3 and line[2] == "kB"}
