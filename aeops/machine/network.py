"""Addresses and ports of this machine: which ones others can reach, which are free and which process holds one."""

import errno
import ipaddress
import socket
from collections.abc import Iterable
from typing import NamedTuple

from aeops.errors import InfrastructureError, UsageError

HOST = "127.0.0.1"
ALL_ADDRESSES = ("0.0.0.0", "::")  # of this machine


class RequiredPort(NamedTuple):
    """A port that a server is about to listen at, and the option by which it gets another one."""

    host: str
    port: int
    option: str


def is_loopback(host: str) -> bool:
    """Return True where only this machine can reach what listens at `host`.

    >>> is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def http_address(host: str, port: int) -> str:
    """Return the URL of a server without a final slash.

    >>> http_address("::1", 80)
    'http://[::1]:80'
    """
    if ":" in host:
        host = f"[{host}]"
    return f"http://{host}:{port}"


def open_listener(host: str, port: int, *, backlog: int, default_port: int) -> socket.socket:
    """Return a listening socket, so that the address is taken before anything slow is done.

    Args:
        port: 0 for any that is free.
        backlog: connections that may wait.
        default_port: named in the message where `port` needs privileges.

    Raises:
        UsageError: this machine has no such address, or there is no such port.
        InfrastructureError: the port is taken or may not be used; names the process that holds it.
    """
    try:
        return socket.create_server((host, port), family=_address_family(host), backlog=backlog)
    except OverflowError as error:
        raise UsageError(f"expected a port from 0 to 65535, got --port {port}") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise InfrastructureError(
                f"port {port} is taken by {port_holder(port)}: stop that, or give another one with --port {min(port + 1, 65535)}"
            ) from error
        if error.errno == errno.EACCES:
            raise InfrastructureError(
                f"port {port} may not be used by you: give another one with --port {default_port}"
            ) from error
        raise UsageError(f"expected an address of this machine, got --host {host} ({error.strerror})") from error


def require_ports_free(ports: Iterable[RequiredPort]) -> None:
    """Refuse ports that something listens at already, all of them at once.

    Raises:
        InfrastructureError: has a line for each, with the process that holds it, where the system shows that.
    """
    errors = []
    for host, port, option in ports:
        if not is_port_free(host, port):
            errors.append(f"port {port} of {host} is taken by {port_holder(port)}: stop that, or give another one with {option}")
    if errors:
        raise InfrastructureError("\n".join(errors))


def is_port_free(host: str, port: int) -> bool:
    """Return True where a server can listen."""
    with socket.socket(_address_family(host)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError:
            return False
    return True


def find_free_port() -> int:
    """Return a port of the loopback address that nothing listens at now."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


def port_holder(port: int) -> str:
    """Describe the process that listens at `port`, for a message."""
    import psutil

    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
                process = psutil.Process(connection.pid)
                return f"process {process.pid} ({' '.join(process.cmdline())[:80] or process.name()})"
    except (psutil.AccessDenied, psutil.NoSuchProcess):
        return "a process that this user may not see"
    return "another user's process"


def _address_family(host: str) -> socket.AddressFamily:
    if ":" in host:
        return socket.AF_INET6
    return socket.AF_INET
