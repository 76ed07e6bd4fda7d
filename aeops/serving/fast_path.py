"""Requests to the model that come whole, in one read of their socket, are answered without a task.

Nearly all requests of few samples do. uvicorn would start a task for each and hand its body and its answer through the messages
of ASGI, which costs as much as reading, scoring and recording a sample. All other requests go uvicorn's way, to
`aeops.serving.middleware.Door`, and are told the same.
"""

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from aeops.serving.batch_scoring import Request
from aeops.serving.json_responses import error_response, is_foreseen
from aeops.serving.middleware import Door, request_name
from aeops.serving.post import accepted_type, body_type, headers_of
from aeops.serving.response_formats import Reply

if TYPE_CHECKING:
    from aeops.serving.service import Service

LARGEST = 64 * 2**10  # bytes of a body: larger ones do not come in one read

log = logging.getLogger("aeops.serving")


class Exchange:
    """A request that came whole, from its last byte to its answer.

    It stands where uvicorn's protocol has its cycle, and where `Request` has the future that is told its outcome.

    Args:
        name: of the request.
        size: of its body, bytes, which count as in flight until it is answered.
    """

    message_event = asyncio.Event()  # uvicorn's cycles wait for it; nobody does here
    disconnected = False
    response_complete = False
    keep_alive = True

    def __init__(self, protocol: "Direct", path: str, name: bytes, size: int) -> None:
        self.protocol, self.path, self.name, self.size = protocol, path, name, size
        self.begun = time.perf_counter()
        protocol.service.in_flight += size

    def cancelled(self) -> bool:
        return False

    def set_result(self, reply: Reply) -> None:
        self._tell(200, headers_of(reply), reply.body)

    def set_exception(self, error: Exception) -> None:
        if not is_foreseen(error):
            log.error("a fault of the service's own, in the request %s", self.name.decode(), exc_info=error)
        response = error_response(error)
        self._tell(response.status_code, response.raw_headers, bytes(response.body))

    def _tell(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
        """Writes the answer in one piece; its headers are the service's own, so none has to be looked at again."""
        protocol = self.protocol
        self.response_complete = True
        protocol.service.in_flight -= self.size
        protocol.service.metrics.request(self.path, status, time.perf_counter() - self.begun)
        if self.disconnected:
            return
        lines = [b"%b: %b\r\n" % header for header in (*protocol.server_state.default_headers, *headers)]
        last = b"x-request-id: %b\r\n%b\r\n" % (self.name, b"" if self.keep_alive else b"connection: close\r\n")
        protocol.transport.write(b"".join((STATUS_LINE[status], *lines, last, body)))
        if not self.keep_alive:  # the server is being stopped
            protocol.transport.close()
        protocol.on_response_complete()


class Direct(HttpToolsProtocol):
    """uvicorn's protocol, which keeps a request to the model back until it is there, for as long as the bytes at hand last.

    Args:
        asked: the paths to the model, as they stand in a request's first line.
        door: whom requests pass that go uvicorn's way.
        given: what uvicorn gives its protocols.
    """

    def __init__(self, service: "Service", asked: dict[bytes, str], door: Door, **given: Any) -> None:
        super().__init__(**given)
        self.service, self.asked, self.door = service, asked, door
        self._kept: list[bytes] | None = None  # the parts of the body that is kept back
        self._given: dict[bytes, bytes] = {}  # its headers

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._kept is not None:  # the rest is still on its way
            kept, self._kept = self._kept, None
            if not self.transport.is_closing():
                super().on_headers_complete()
                for part in kept:
                    super().on_body(part)

    def on_headers_complete(self) -> None:
        if self._may_be_direct():
            self._kept = []
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._kept is not None:
            self._kept.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._kept is not None:
            kept, self._kept = self._kept, None
            self._exchange(kept[0] if len(kept) == 1 else b"".join(kept))
        else:
            super().on_message_complete()

    def _may_be_direct(self) -> bool:
        """Whether nothing is special about a request but that it has to be answered."""
        path = self.asked.get(self.url)
        if path is None or self.parser.get_method() != b"POST" or self.expect_100_continue or self.parser.should_upgrade():
            return False
        if self.parser.get_http_version() != "1.1" or not self.parser.should_keep_alive():
            return False
        if self.pipeline or not (self.cycle is None or self.cycle.response_complete) or self.flow.write_paused:
            return False
        limits, given = self.service.limits, dict(self.headers)
        promised = given.get(b"content-length", b"")
        size = int(promised) if promised.isdigit() else LARGEST + 1
        if size > min(LARGEST, limits.body_bytes) or self.service.in_flight + size > limits.bytes_in_flight:
            return False
        self._given = given
        return len(self.connections) < limits.connections and self.door.lets_in(path, given)

    def _exchange(self, body: bytes) -> None:
        path, given, service = self.asked[self.url], self._given, self.service
        name = request_name(given.get(b"x-request-id", b""))
        exchange = Exchange(self, path, name, len(body))
        self.cycle = exchange  # type: ignore[assignment]  # of which uvicorn needs no more than this has
        try:
            served, media_type, accepted = service.served(), body_type(given), accepted_type(given)
            service.put(Request(path, served, name.decode(), body, media_type, accepted, {}, self.loop, exchange))
        except Exception as error:  # noqa: BLE001  # told to the one who asked, and logged where nobody foresaw it
            exchange.set_exception(error)
