"""Addresses and ports of this machine: which ones others can reach, which are free and which process holds one."""

import errno
import ipaddress
import os
import socket
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple, cast

from ae_models.names import names_not_in
from aeops.errors import InfrastructureError, UsageError

if TYPE_CHECKING:
    from http.client import HTTPResponse
    from urllib.request import OpenerDirector, Request

HOST = "127.0.0.1"
ALL_ADDRESSES = ("0.0.0.0", "::")  # of this machine
NO_PROXY_VARIABLES = ("no_proxy", "NO_PROXY")  # programs differ in which one they read
_PROXY_VARIABLES = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
_LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")


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


# ---------------------------------------------------------------- proxies


def open_url(request: "Request | str", timeout: float) -> "HTTPResponse":
    """Send a request as `urllib.request.urlopen` does; one to a server of this machine never goes through a proxy.

    Args:
        request: the request, or the address of a GET.
        timeout: seconds.
    """
    from urllib.request import Request, urlopen

    if isinstance(request, str):
        request = Request(request)
    if is_own_address(request.host):
        return cast("HTTPResponse", _direct_opener().open(request, timeout=timeout))
    return cast("HTTPResponse", urlopen(request, timeout=timeout))


@cache
def _direct_opener() -> "OpenerDirector":
    from urllib.request import ProxyHandler, build_opener

    return build_opener(ProxyHandler({}))


def is_own_address(host: str) -> bool:
    """Return True where a host, with or without a port, is an address of this machine or `localhost`.

    >>> is_own_address("127.0.0.1:4200"), is_own_address("[::1]:80"), is_own_address("example.org")
    (True, True, False)
    """
    from urllib.parse import urlsplit

    name = urlsplit(f"//{host}").hostname or ""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost"
    if address.is_loopback:
        return True
    with socket.socket(_address_family(name)) as probe:
        try:
            probe.bind((name, 0))
        except OSError:
            return False
    return True


def proxy_exclusions(*hosts: str) -> dict[str, str]:
    """Return the variables that exclude the loopback address, and further hosts, from the proxies that a process uses."""
    excluded = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    names = list(filter(None, map(str.strip, excluded.split(","))))
    if "*" not in names:  # which excludes every host, and urllib knows it only where it stands alone
        names += names_not_in(dict.fromkeys((*_LOOPBACK_HOSTS, *hosts)), names)
    return dict.fromkeys(NO_PROXY_VARIABLES, ",".join(names))


def unusable_proxies() -> dict[str, str]:
    """Return an empty value for each variable with a SOCKS proxy that httpx cannot use, by which Prefect reaches its server.

    httpx, without its extra package socksio, raises ImportError for such a proxy even where no request goes through it.
    """
    if find_spec("socksio") is not None:
        return {}
    emptied = {}
    for name in _PROXY_VARIABLES:
        if os.environ.get(name, "").lower().startswith("socks"):
            emptied[name] = ""
    return emptied


# ---------------------------------------------------------------- ports


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
