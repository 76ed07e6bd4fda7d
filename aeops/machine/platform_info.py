"""Facts about this machine that can change trained bits: Python, torch, CPU and GPU."""

import os
import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

VECTOR_INSTRUCTIONS = ("amx_bf16", "avx512f", "avx2", "avx")  # the widest first


def platform_facts() -> dict[str, str]:
    """Return everything that may change a bit of the result: Python, torch, processor, threads, GPU and its driver."""
    return {
        "platform.python": platform.python_version(),
        "platform.torch": version("torch"),
        "platform.numpy": version("numpy"),
        "platform.onnxruntime": version("onnxruntime"),
        "platform.system": f"{platform.system()} {platform.machine()}",
        "platform.cpu": _cpu_model(),
        "platform.threads": str(_thread_count()),
        "platform.gpu": _gpu_model(),
    }


def _thread_count() -> int | None:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _cpu_model() -> str:
    """Return the processor's name and its widest vector instructions, which decide the last bits of a sum."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return platform.processor() or "unknown"
    fields = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        key, separator, value = line.partition(":")
        if separator:
            fields[key.strip()] = value.strip()
    flags = fields.get("flags", "").split()
    instructions = next((name for name in VECTOR_INSTRUCTIONS if name in flags), "none")
    return f"{fields.get('model name', platform.machine())} ({instructions})"


def _gpu_model() -> str:
    """Return name and driver of the first GPU, or `none`."""
    if shutil.which("nvidia-smi") is None:
        return "none"
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    query = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    if query.returncode != 0 or not query.stdout:
        return "none"
    return query.stdout.splitlines()[0].strip()
