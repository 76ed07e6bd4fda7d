"""Ports on this machine: whether one is free, and who has it."""

import socket

from aeops.errors import InfrastructureError


def require_free(host: str, port: int, option: str) -> None:
    """Refuses a port that something listens on already.

    Args:
        option: what to type for another port, such as `--port 8101`.

    Raises:
        InfrastructureError: names the process that has the port, where the system tells.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InfrastructureError(
                f"port {port} of {host} is taken by {holder(port)}: stop that, or give another one with {option}"
            ) from error


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
