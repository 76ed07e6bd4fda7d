"""Drop connections that are silent, slow, endless or half-open, so that they cannot pile up; for every server of the project.

uvicorn waits for the headers of a first request and for a body without a timeout, and accepts headers of any length. The kernel
drops clients that disappeared or leave their responses unread.
"""

import asyncio
import socket
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from starlette.types import ASGIApp


@dataclass(frozen=True)
class ConnectionLimits:
    """Limits of size and time on one connection."""

    body_seconds: float = 30.0  # from the headers to the end of the body
    head_seconds: float = 10.0  # from the first byte of a request, or from connecting, to the end of its headers
    head_bytes: int = 65_536
    idle_seconds: int = 30  # between two requests on a connection
    stuck_seconds: int = 60  # that a client may leave a response unread before the kernel drops the connection
    connections: int = 1024


class HeadTimeoutProtocol(HttpToolsProtocol):
    """Drops a connection whose request does not make progress.

    A request is open from its first byte (or from connecting) to its last; the timer stops while the response is computed.
    """

    _drop_timer: asyncio.TimerHandle | None = None
    _head_count = 0  # complete ones
    _head_bytes = 0
    _in_head = True
    _in_body = False

    @property
    def connection_limits(self) -> ConnectionLimits:
        raise NotImplementedError

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer(self.connection_limits.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        was_in_head, head_count = self._in_head, self._head_count
        super().data_received(data)
        if was_in_head and self._head_count == head_count:  # all of the data belongs to one head, which is incomplete
            if self._drop_timer is None:  # the first bytes of a further request
                self._start_timer(self.connection_limits.head_seconds)
            self._head_bytes += len(data)
            if self._head_bytes > self.connection_limits.head_bytes:
                self.transport.abort()

    def on_headers_complete(self) -> None:
        self._stop_timer()
        self._in_head, self._in_body, self._head_bytes = False, True, 0
        self._head_count += 1
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._stop_timer()
        self._in_head, self._in_body = True, False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._in_body:  # answered before the whole body arrived, as one that is too large: limit the wait for the rest
            self._start_timer(self.connection_limits.body_seconds)

    def _start_timer(self, seconds: float) -> None:
        self._stop_timer()
        self._drop_timer = self.loop.call_later(seconds, self._drop_connection)

    def _drop_connection(self) -> None:
        self._drop_timer = None
        if not self.transport.is_closing():
            self.transport.abort()

    def _stop_timer(self) -> None:
        if self._drop_timer is not None:
            self._drop_timer.cancel()
            self._drop_timer = None


class LimitedProtocol(HeadTimeoutProtocol):
    """uvicorn's protocol with limits; a body that takes too long is dropped, too.

    Args:
        protocol_args: passed to uvicorn's protocol.
    """

    def __init__(self, limits: ConnectionLimits, **protocol_args: Any) -> None:
        super().__init__(**protocol_args)
        self._limits = limits

    @property
    def connection_limits(self) -> ConnectionLimits:
        return self._limits

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        # Not for a request without a body: a WebSocket's connection begins as one and lives on with another protocol.
        if any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers):
            self._start_timer(self.connection_limits.body_seconds)


def limited_config(app: "ASGIApp", limits: ConnectionLimits, **options: Any) -> uvicorn.Config:
    """Return uvicorn's settings of a server with these limits; `options` are further ones of `uvicorn.Config`."""
    return uvicorn.Config(
        app,
        http=partial(LimitedProtocol, limits),  # type: ignore[arg-type]  # makes one
        access_log=False,
        server_header=False,
        timeout_keep_alive=limits.idle_seconds,
        limit_concurrency=limits.connections,
        **options,
    )


def set_socket_options(listener: socket.socket, limits: ConnectionLimits) -> None:
    """Make the kernel drop clients that disappeared; accepted sockets inherit the options."""
    # Else every response waits 40 ms for the client's acknowledgement: asyncio sets this only on sockets that it creates itself.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", limits.idle_seconds),
        ("TCP_KEEPINTVL", 10),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", limits.stuck_seconds * 1000),
    ):
        if hasattr(socket, name):  # Linux has all of them
            listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
