"""The processes of the stack's services, found by their environment.

A service and all that it starts carry AE_SERVICE=<state folder>:<name> in their environment. So its processes are found also
where a parent died or a record is missing, and no other process is ever taken for one.
"""

import os
import signal
from collections.abc import Iterable
from contextlib import suppress

import psutil

from aeops.project import Project

SERVICE_VARIABLE = "AE_SERVICE"
SUPERVISOR_NAME = "supervisor"  # of both supervisors; they have no record
_STOP_TIMEOUT = 15.0  # seconds a process may take to end before it is killed


def service_id(project: Project, name: str) -> str:
    """Return the value of AE_SERVICE in the processes of a service."""
    return f"{project.home}:{name}"


def stack_processes(project: Project) -> dict[str, list[psutil.Process]]:
    """Return every living process of the stack by the name of its service, the supervisors among them."""
    processes: dict[str, list[psutil.Process]] = {}
    prefix = service_id(project, "")
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            value = process.environ().get(SERVICE_VARIABLE, "")
            if value.startswith(prefix) and process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
                processes.setdefault(value.removeprefix(prefix), []).append(process)
    return processes


def stop_processes(processes: Iterable[psutil.Process], timeout: float = _STOP_TIMEOUT) -> None:
    """Send SIGTERM, and SIGKILL to those that have not ended after `timeout` seconds.

    psutil checks the start of a process before it signals, so that no other process with the same pid is hit.
    """
    processes = list(processes)
    _send_signal(processes, signal.SIGTERM)
    _, remaining = psutil.wait_procs(processes, timeout=timeout)
    _send_signal(remaining, signal.SIGKILL)
    psutil.wait_procs(remaining, timeout=timeout)


def _send_signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
