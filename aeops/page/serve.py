"""The server of the page: it takes its address before anything slow happens, and prints it once the page is ready."""

import contextlib
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from aeops.machine.network import http_address, open_listener
from aeops.machine.passwords import server_password
from aeops.project import Project

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

PORT = 8080


def serve_page(project: Project, host: str, port: int, password_file: Path | None) -> None:
    """Serve the page until SIGINT or SIGTERM.

    Args:
        port: 0 for any that is free.
        password_file: its first line is the password of the user `ae`; None on loopback only.

    Raises:
        UsageError: this machine does not have the address, or a host other than loopback has no password.
        InfrastructureError: the port is taken; the message names the process.
    """
    password = server_password(host, password_file)
    with open_page_listener(host, port) as listener:
        import uvicorn

        from aeops.machine.library_settings import configure_libraries
        from aeops.page.app import build_page_app

        configure_libraries()
        app = build_page_app(project, password)
        print(f"the page of {project.root} is at {listener_address(listener)}; stop it with Ctrl-C", flush=True)
        config = page_config(app)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # SIGTERM ends the server as Ctrl-C does
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])


def page_config(app: "ASGIApp") -> "uvicorn.Config":
    """Return the settings of the page's server, with its limits and timeouts."""
    from aeops.machine.http_limits import ConnectionLimits, limited_config

    return limited_config(app, ConnectionLimits(), log_level="warning", timeout_graceful_shutdown=3)


def open_page_listener(host: str, port: int) -> socket.socket:
    """Return the listening socket; raises as `open_listener` does."""
    from aeops.machine.http_limits import ConnectionLimits, set_socket_options

    listener = open_listener(host, port, backlog=512, default_port=PORT)
    set_socket_options(listener, ConnectionLimits())
    return listener


def listener_address(listener: socket.socket) -> str:
    """Return the URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return http_address(host, port)
