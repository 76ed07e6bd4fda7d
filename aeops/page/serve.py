"""Listening: the address is taken before anything slow is done, and told when the page answers."""

import contextlib
import errno
import signal
import socket
from pathlib import Path

from aeops.errors import InfrastructureError, UsageError
from aeops.machine.ports import holder
from aeops.project import Project

PORT = 8080


def serve(project: Project, host: str, port: int, password_file: Path | None) -> None:
    """Serves the page until SIGINT or SIGTERM.

    Raises:
        UsageError: an address that this machine does not have, or another one than loopback without a password.
        InfrastructureError: the port is taken; says by whom.
    """
    from aeops.page.request_guard import password_of

    password = password_of(host, password_file)
    with listen(host, port) as listener:
        import uvicorn

        from aeops.machine.quiet_environment import quiet_environment
        from aeops.page.app import build_app

        quiet_environment()
        app = build_app(project, password)
        print(f"the page of {project.root} is at {address_of(listener)}; stop it with Ctrl-C", flush=True)
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, limit_concurrency=64, timeout_graceful_shutdown=3
        )
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # both ways to end it go the same way
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])


def listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=128)
    except OverflowError as error:
        raise UsageError(f"port {port} given; 0 to 65535 is allowed") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise InfrastructureError(
                f"port {port} is taken by {holder(port)}: stop that, or give another one with --port {min(port + 1, 65535)}"
            ) from error
        if error.errno == errno.EACCES:
            raise InfrastructureError(f"port {port} may not be used by you: give another one with --port {PORT}") from error
        raise UsageError(f"cannot listen at {host} ({error.strerror}); an address of this machine is allowed") from error
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def address_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
