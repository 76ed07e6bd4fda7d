"""Drop connections that are silent, slow, endless or half-open, so that they cannot pile up.

uvicorn waits for the headers of a first request without a timeout, and accepts headers of any length. The kernel drops clients
that disappeared or leave their responses unread.
"""

import asyncio
import socket

from aeops.serving.fast_path import FastPathProtocol
from aeops.serving.limits import RequestLimits


class TimeoutProtocol(FastPathProtocol):
    """Drops a connection whose request does not make progress.

    A request is open from its first byte (or from connecting) to its last; the timer stops while the response is computed.
    """

    _drop_timer: asyncio.TimerHandle | None = None
    _head_count = 0  # complete ones
    _head_bytes = 0
    _in_head = True
    _in_body = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer(self.service.limits.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        was_in_head, head_count = self._in_head, self._head_count
        super().data_received(data)
        if was_in_head and self._head_count == head_count:  # all of the data belongs to one head, which is incomplete
            if self._drop_timer is None:  # the first bytes of a further request
                self._start_timer(self.service.limits.head_seconds)
            self._head_bytes += len(data)
            if self._head_bytes > self.service.limits.head_bytes:
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
            self._start_timer(self.service.limits.body_seconds)

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


def set_socket_options(listener: socket.socket, limits: RequestLimits) -> None:
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
