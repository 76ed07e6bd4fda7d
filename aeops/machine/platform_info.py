"""Facts about this machine that can change trained bits: Python, torch, CPU and GPU."""

import os
import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path


def platform_facts() -> dict[str, str]:
    """What may change a bit of the result: Python, torch, processor, threads, GPU and its driver."""
    return {
        "platform.python": platform.python_version(),
        "platform.torch": version("torch"),
        "platform.numpy": version("numpy"),
        "platform.onnxruntime": version("onnxruntime"),
        "platform.system": f"{platform.system()} {platform.machine()}",
        "platform.cpu": cpu_model(),
        "platform.threads": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "platform.gpu": gpu(),
    }


def cpu_model() -> str:
    """The processor's name and its widest vector instructions, which decide the last bits of a sum."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor() or "unknown"
    lines = dict(line.split(":", 1) for line in info.read_text(encoding="utf-8").splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in lines.items()}
    flags = fields.get("flags", "").split()
    widest = next((flag for flag in ("amx_bf16", "avx512f", "avx2", "avx") if flag in flags), "none")
    return f"{fields.get('model name', platform.machine())} ({widest})"


def gpu() -> str:
    """Name and driver of the first GPU, or `none`."""
    if shutil.which("nvidia-smi") is None:
        return "none"
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.splitlines()[0].strip() if done.returncode == 0 and done.stdout else "none"
