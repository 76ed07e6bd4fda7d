"""What a Ray worker does: it runs a command as a process of its machine, and returns what became of it.

Plain values go in and out. The worker needs the same environment as the process that drives it, and the same paths.
"""

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import ray

from aeops.errors import AeError
from aeops.machine.child_process import run_module
from aeops.machine.entry_point import describe_error

_SET_BY_RAY = "OMP_NUM_THREADS"  # to the cores of a task; here a command chooses its own threads


def run_command(request: Mapping[str, Any], variables: Mapping[str, str]) -> dict[str, Any]:
    """Run a command until it ends; it is killed with this process.

    Args:
        request: arguments, root, home and log of a `StageCommand`; `worker` (group and number) for one of several that share a
            training.
        variables: of the driving process, for the command.

    Returns:
        `output`, or the `error` that the command has reported, as `aeops.machine.entry_point.describe_error` writes it.
    """
    os.environ.pop(_SET_BY_RAY, None)
    os.environ.update(variables)
    arguments = list(request["arguments"])
    if worker := request["worker"]:
        arguments += ["--group", worker["group"], "--worker", str(worker["number"]), "--interface", own_interface()]
    try:
        output = run_module(arguments, root=Path(request["root"]), home=Path(request["home"]), log=Path(request["log"]))
    except AeError as error:
        return {"error": describe_error(error)}
    return {"output": output}


def own_interface() -> str:
    """Return the name of the network device by which the other machines of the cluster reach this one."""
    address = ray.util.get_node_ip_address()
    for name, addresses in psutil.net_if_addrs().items():
        if any(one.address == address for one in addresses):
            return name
    return next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")  # 127.0.0.2 and the like


def read_marker(file: str) -> str:
    """Return the content of a file of the project's state folder, as this machine sees it; empty where it does not."""
    try:
        return Path(file).read_text(encoding="utf-8")
    except OSError:
        return ""
