"""Listening: the address is taken before anything slow is done, and told when the page answers."""

import contextlib
import signal
import socket
from pathlib import Path

from aeops.machine.network import http_address, open_listener
from aeops.machine.passwords import server_password
from aeops.project import Project

PORT = 8080


def serve(project: Project, host: str, port: int, password_file: Path | None) -> None:
    """Serves the page until SIGINT or SIGTERM.

    Raises:
        UsageError: an address that this machine does not have, or another one than loopback without a password.
        InfrastructureError: the port is taken; says by whom.
    """
    password = server_password(host, password_file)
    with listen(host, port) as listener:
        import uvicorn

        from aeops.machine.library_settings import configure_libraries
        from aeops.page.app import build_app

        configure_libraries()
        app = build_app(project, password)
        print(f"the page of {project.root} is at {address_of(listener)}; stop it with Ctrl-C", flush=True)
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, limit_concurrency=64, timeout_graceful_shutdown=3
        )
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # both ways to end it go the same way
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])


def listen(host: str, port: int) -> socket.socket:
    """Return the listening socket; raises as `open_listener` does."""
    listener = open_listener(host, port, backlog=128, default_port=PORT)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def address_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return http_address(host, port)
