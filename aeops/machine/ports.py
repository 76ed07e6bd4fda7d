"""Ports on this machine: whether one is free, and who has it."""

import socket
from collections.abc import Iterable

from aeops.errors import InfrastructureError


def require_all_free(wanted: Iterable[tuple[str, int, str]]) -> None:
    """Refuses ports that something listens on already, all of them at once.

    Args:
        wanted: (host, port, what to type for another one).

    Raises:
        InfrastructureError: a line for each, with the process that has it, where the system tells.
    """
    taken = [
        f"port {port} of {host} is taken by {holder(port)}: stop that, or give another one with {option}"
        for host, port, option in wanted
        if not is_free(host, port)
    ]
    if taken:
        raise InfrastructureError("\n".join(taken))


def is_free(host: str, port: int) -> bool:
    """Whether a server can listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def holder(port: int) -> str:
    """The process that listens at `port`, in words."""
    import psutil

    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
                process = psutil.Process(connection.pid)
                return f"process {process.pid} ({' '.join(process.cmdline())[:80] or process.name()})"
    except (psutil.AccessDenied, psutil.NoSuchProcess):
        return "a process that this user may not see"
    return "another user's process"
