"""Answer requests to the model that arrive whole, in one read of their socket, without an asyncio task.

Nearly all requests with few samples do. uvicorn would start a task for each and pass its body and its response through ASGI
messages, which costs as much as reading, scoring and recording a sample. All other requests take uvicorn's path through
`aeops.serving.middleware.ServiceMiddleware` and get the same responses.
"""

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from aeops.serving.batch_scoring import Request
from aeops.serving.json_responses import build_error_response, is_expected_error
from aeops.serving.middleware import ServiceMiddleware, choose_request_id
from aeops.serving.post import accepted_media_type, body_media_type, content_length, reply_headers
from aeops.serving.response_formats import ScoringReply

if TYPE_CHECKING:
    from aeops.serving.service import ScoringService

MAX_DIRECT_BYTES = 64 * 2**10  # of a body: larger ones do not arrive in one read

log = logging.getLogger("aeops.serving")


class DirectCycle:
    """Cycle of a request that arrived whole, from its last byte to its response.

    It replaces the cycle of uvicorn's protocol, and the future of `Request`.

    Args:
        request_id: value of x-request-id.
        size: of the body, bytes; counts as in flight until the response is written.
    """

    message_event = asyncio.Event()  # uvicorn's cycles wait for it; nothing does here
    disconnected = False
    response_complete = False
    keep_alive = True

    def __init__(self, protocol: "FastPathProtocol", path: str, request_id: bytes, size: int) -> None:
        self.protocol, self.path, self.request_id, self.size = protocol, path, request_id, size
        self.start_time = time.perf_counter()
        protocol.service.in_flight += size

    def cancelled(self) -> bool:
        return False

    def set_result(self, scoring_reply: ScoringReply) -> None:
        self._write_response(200, reply_headers(scoring_reply), scoring_reply.body)

    def set_exception(self, error: Exception) -> None:
        if not is_expected_error(error):
            log.error("internal error in the request %s", self.request_id.decode(), exc_info=error)
        response = build_error_response(error)
        self._write_response(response.status_code, response.raw_headers, bytes(response.body))

    def _write_response(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
        """Write the response in one piece; all headers are the service's own, so none needs to be validated."""
        if self.response_complete:  # a request is answered and counted once, whatever failed after its answer
            return
        protocol = self.protocol
        self.response_complete = True
        protocol.service.in_flight -= self.size
        protocol.service.metrics.record_request(self.path, status, time.perf_counter() - self.start_time)
        if self.disconnected:
            return
        header_lines = [b"%b: %b\r\n" % header for header in (*protocol.server_state.default_headers, *headers)]
        header_lines.append(b"x-request-id: %b\r\n" % self.request_id)
        if not self.keep_alive:  # the server is stopping
            header_lines.append(b"connection: close\r\n")
        protocol.transport.write(b"".join((STATUS_LINE[status], *header_lines, b"\r\n", body)))
        if not self.keep_alive:
            protocol.transport.close()
        protocol.on_response_complete()


class FastPathProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a fast path: a request to the model is held back while the bytes of one read are parsed.

    Args:
        scoring_paths: paths to the model, as they appear in the first line of a request.
        middleware: handles the requests that take uvicorn's path; checks the password of the others.
        protocol_args: passed to uvicorn's protocol.
    """

    def __init__(
        self, service: "ScoringService", scoring_paths: dict[bytes, str], middleware: ServiceMiddleware, **protocol_args: Any
    ) -> None:
        super().__init__(**protocol_args)
        self.service, self.scoring_paths, self.middleware = service, scoring_paths, middleware
        self._held_parts: list[bytes] | None = None  # of the body that is held back
        self._held_headers: dict[bytes, bytes] = {}

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._held_parts is not None:  # the request is incomplete: pass it to uvicorn
            body_parts, self._held_parts = self._held_parts, None
            if not self.transport.is_closing():
                super().on_headers_complete()
                for part in body_parts:
                    super().on_body(part)

    def on_headers_complete(self) -> None:
        if self._can_answer_directly():
            self._held_parts = []
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._held_parts is not None:
            self._held_parts.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._held_parts is None:
            super().on_message_complete()
            return
        body_parts, self._held_parts = self._held_parts, None
        if len(body_parts) == 1:
            self._answer_directly(body_parts[0])
        else:
            self._answer_directly(b"".join(body_parts))

    def _can_answer_directly(self) -> bool:
        """Return True if the request is an ordinary one to the model that uvicorn need not handle."""
        path = self.scoring_paths.get(self.url)
        if path is None or self.parser.get_method() != b"POST" or self.expect_100_continue or self.parser.should_upgrade():
            return False
        if self.parser.get_http_version() != "1.1" or not self.parser.should_keep_alive():
            return False
        if self.pipeline or not (self.cycle is None or self.cycle.response_complete) or self.flow.write_paused:
            return False
        limits, headers = self.service.limits, dict(self.headers)
        size = content_length(headers, default_size=MAX_DIRECT_BYTES + 1)
        if size > min(MAX_DIRECT_BYTES, limits.body_bytes) or self.service.in_flight + size > limits.bytes_in_flight:
            return False
        self._held_headers = headers
        if len(self.connections) >= limits.connections or not self.middleware.is_plain_request(headers):
            return False
        return self.middleware.is_authorized(path, headers)

    def _answer_directly(self, body: bytes) -> None:
        path, headers, service = self.scoring_paths[self.url], self._held_headers, self.service
        request_id = choose_request_id(headers.get(b"x-request-id", b""))
        direct_cycle = DirectCycle(self, path, request_id, len(body))
        self.cycle = direct_cycle  # type: ignore[assignment]  # it has all that uvicorn uses
        try:
            served_version, media_type = service.require_version(), body_media_type(headers)
            accepted_type = accepted_media_type(headers)
            service.submit_request(
                Request(path, served_version, request_id.decode(), body, media_type, accepted_type, {}, self.loop, direct_cycle)
            )
        except Exception as error:  # noqa: BLE001  # sent to the client, and logged if it is unexpected
            direct_cycle.set_exception(error)
