"""POST requests to the model: one ASGI application for each path.

Requests that arrive whole do not pass through here: see aeops/serving/fast_path.py.
"""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from aeops.serving.batch_scoring import Request
from aeops.serving.json_responses import build_error_response, is_expected_error
from aeops.serving.limits import RequestLimits
from aeops.serving.request_bodies import FILE_TYPES, JSON, MEDIA_TYPES, NAMED_TYPES, PARAM_NAMES, reject_unknown_names
from aeops.serving.response_formats import ScoringReply

if TYPE_CHECKING:
    from aeops.serving.service import ScoringService

BOOLEAN_VALUES = {"true": True, "false": False}
HeaderMap = Mapping[bytes, bytes]


class ScoringEndpoint:
    """One path of `aeops.serving.batch_scoring`, behind `ServiceMiddleware`, which sets the request ID and the headers."""

    def __init__(self, service: "ScoringService", path: str) -> None:
        self.service, self.path = service, path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            scoring_reply = await self._score_request(scope, receive)
        except Exception as error:
            await build_error_response(error)(scope, receive, send)
            if not is_expected_error(error):
                raise
            return
        await send({"type": "http.response.start", "status": 200, "headers": reply_headers(scoring_reply)})
        await send({"type": "http.response.body", "body": scoring_reply.body})

    async def _score_request(self, scope: Scope, receive: Receive) -> ScoringReply:
        service, state = self.service, scope["state"]
        headers: HeaderMap = state["headers"]
        served_version = service.require_version()
        media_type = body_media_type(headers)
        params = query_params(scope["query_string"])
        body = await read_limited_body(headers, receive, service)
        try:
            loop = asyncio.get_running_loop()
            reply_future: asyncio.Future[ScoringReply] = loop.create_future()
            accepted_type = accepted_media_type(headers)
            request_id = state["request_id"]
            service.submit_request(
                Request(self.path, served_version, request_id, body, media_type, accepted_type, params, loop, reply_future)
            )
            return await reply_future
        finally:
            service.in_flight -= len(body)


def reply_headers(scoring_reply: ScoringReply) -> list[tuple[bytes, bytes]]:
    headers = [(b"content-length", b"%d" % len(scoring_reply.body)), (b"content-type", scoring_reply.media_type.encode())]
    for name, value in scoring_reply.headers.items():
        headers.append((name.encode(), value.encode()))
    return headers


def body_media_type(headers: HeaderMap) -> str:
    """Return the media type of the body, without parameters; raise HTTPException 415 if it is not supported."""
    media_type = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
    if media_type in MEDIA_TYPES or media_type in NAMED_TYPES or media_type in FILE_TYPES:
        return media_type
    raise HTTPException(
        415, f"expected a body of type {', '.join(MEDIA_TYPES)}, got {media_type or 'none'} (header content-type)"
    )


def accepted_media_type(headers: HeaderMap) -> str:
    """Return the first supported media type that the client accepts; JSON if it names none."""
    for entry in headers.get(b"accept", b"").decode("latin-1").lower().split(","):
        if (media_type := entry.partition(";")[0].strip()) in MEDIA_TYPES:
            return media_type
    return JSON


def content_length(headers: HeaderMap, default_size: int) -> int:
    """Return the header content-length; `default_size` if it is missing or no number."""
    value = headers.get(b"content-length", b"")
    if value.isdigit():
        return int(value)
    return default_size


def query_params(query: bytes) -> dict[str, bool]:
    params: dict[str, bool] = {}
    if not query:
        return params
    raw_params = QueryParams(query)
    reject_unknown_names(raw_params, PARAM_NAMES, "param")
    for name, value in raw_params.multi_items():
        if value not in BOOLEAN_VALUES:
            raise HTTPException(400, f"expected true or false for the param {name}, got {value!r}")
        params[name] = BOOLEAN_VALUES[value]
    return params


async def read_limited_body(headers: HeaderMap, receive: Receive, service: "ScoringService") -> bytes:
    """Read the body within the limits of size and time. The returned bytes count as in flight; the caller subtracts them.

    A body that is too large is still read to its end unless it is far too large: a client that is still sending when the
    connection is closed would not see the response.

    Raises:
        HTTPException: 400, 408, 413 or 503.
    """
    limits = service.limits
    size = content_length(headers, default_size=0)
    if size > 2 * limits.body_bytes or b"expect" in headers:
        require_size(size, limits)
    parts: list[bytes] = []
    size = counted_bytes = 0
    has_more = True
    try:
        async with asyncio.timeout(limits.body_seconds):
            while has_more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise HTTPException(400, "the client disconnected before its body was complete")
                part, has_more = message.get("body", b""), message.get("more_body", False)
                size += len(part)
                require_size(size // 2, limits)
                if size <= limits.body_bytes:
                    parts.append(part)
                    counted_bytes += len(part)
                    service.in_flight += len(part)
                if service.in_flight > limits.bytes_in_flight:
                    raise HTTPException(503, "too many large bodies at once; try again", {"retry-after": "1"})
        require_size(size, limits)
    except BaseException as error:
        service.in_flight -= counted_bytes
        if isinstance(error, TimeoutError):
            timeout_message = f"expected the whole body within {limits.body_seconds:g} s, got {size} bytes of it"
            raise HTTPException(408, timeout_message, {"connection": "close"}) from error
        raise
    if len(parts) == 1:
        return parts[0]
    return b"".join(parts)


def require_size(size: int, limits: RequestLimits) -> None:
    if size > limits.body_bytes:
        raise HTTPException(413, f"expected a body of at most {limits.body_bytes} bytes, got more: send smaller batches")
