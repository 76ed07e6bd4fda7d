"""Connections that are no use: silent, slow, endless or half-open ones are dropped, so that they cannot pile up.

uvicorn waits for the headers of a first request for ever, and takes headers of any length. The kernel drops clients that are
gone or leave their answers unread.
"""

import asyncio
import socket

from aeops.serving.fast_path import Direct
from aeops.serving.limits import Limits


class Careful(Direct):
    """Drops a connection whose request does not get on.

    A request is open from its first byte (or from connecting) to its last; while its answer is awaited the clock stands.
    """

    _timer: asyncio.TimerHandle | None = None
    _heads = 0  # that were read
    _head_bytes = 0
    _in_head = True
    _in_body = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._drop_in(self.service.limits.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        before = self._heads if self._in_head else None
        super().data_received(data)
        if self._heads == before:  # all of it was of one head, which has not ended
            if self._timer is None:  # the first bytes of a further request
                self._drop_in(self.service.limits.head_seconds)
            self._head_bytes += len(data)
            if self._head_bytes > self.service.limits.head_bytes:
                self.transport.abort()

    def on_headers_complete(self) -> None:
        self._stop_clock()
        self._in_head, self._in_body, self._head_bytes = False, True, 0
        self._heads += 1
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._stop_clock()
        self._in_head, self._in_body = True, False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._in_body:  # answered before all of it was there, as one that is too large: the rest is not awaited for ever
            self._drop_in(self.service.limits.body_seconds)

    def _drop_in(self, seconds: float) -> None:
        self._stop_clock()
        self._timer = self.loop.call_later(seconds, self._drop)

    def _drop(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.abort()

    def _stop_clock(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def keep_only_living(listener: socket.socket, limits: Limits) -> None:
    """Makes the kernel drop clients that are gone; the sockets that are accepted inherit it."""
    # Else every answer waits 40 ms for the client's acknowledgement: asyncio sets this only on sockets it makes itself.
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
