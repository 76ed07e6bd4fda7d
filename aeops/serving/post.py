"""POST: what is asked of the model, an ASGI application a path. Requests that come whole are answered without it: see
aeops/serving/fast_path.py.
"""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException

from aeops.serving.batch_scoring import Request
from aeops.serving.json_responses import error_response, is_foreseen
from aeops.serving.limits import Limits
from aeops.serving.middleware import Receive, Scope, Send
from aeops.serving.request_bodies import AS_JSON, JSON, MEDIA_TYPES, PARAMS, refuse_others
from aeops.serving.response_formats import Reply

if TYPE_CHECKING:
    from aeops.serving.service import Service

BOOLEANS = {"true": True, "false": False}
Headers = Mapping[bytes, bytes]


class Asked:
    """One path of `aeops.serving.batch_scoring`, behind a `Door`, which names requests and reads their headers."""

    def __init__(self, service: "Service", path: str) -> None:
        self.service, self.path = service, path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            reply = await self._reply(scope, receive)
        except Exception as error:
            await error_response(error)(scope, receive, send)
            if not is_foreseen(error):
                raise
            return
        await send({"type": "http.response.start", "status": 200, "headers": headers_of(reply)})
        await send({"type": "http.response.body", "body": reply.body})

    async def _reply(self, scope: Scope, receive: Receive) -> Reply:
        service, state = self.service, scope["state"]
        headers: Headers = state["headers"]
        served = service.served()
        media_type = body_type(headers)
        params = query_params(scope["query_string"])
        body = await limited_body(headers, receive, service)
        try:
            loop = asyncio.get_running_loop()
            answer: asyncio.Future[Reply] = loop.create_future()
            accepted = accepted_type(headers)
            request = Request(self.path, served, state["name"], body, media_type, accepted, params, loop, answer)
            service.put(request)
            return await answer
        finally:
            service.in_flight -= len(body)


def headers_of(reply: Reply) -> list[tuple[bytes, bytes]]:
    told = [(name.encode(), value.encode()) for name, value in reply.headers.items()]
    return [(b"content-length", b"%d" % len(reply.body)), (b"content-type", reply.media_type.encode()), *told]


def body_type(headers: Headers) -> str:
    given = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
    if given in AS_JSON or given in MEDIA_TYPES:
        return given
    raise HTTPException(415, f"a body of type {given} given; {', '.join(MEDIA_TYPES)} are allowed")


def accepted_type(headers: Headers) -> str:
    """The first form that the client accepts and that there is; JSON where it names none."""
    for entry in headers.get(b"accept", b"").decode("latin-1").lower().split(","):
        if (name := entry.partition(";")[0].strip()) in MEDIA_TYPES:
            return name
    return JSON


def query_params(query: bytes) -> dict[str, bool]:
    if not query:
        return {}
    given = QueryParams(query)
    refuse_others(given, PARAMS, "param")
    for name, value in given.multi_items():
        if value not in BOOLEANS:
            raise HTTPException(400, f"the param {name} is {value!r}; true or false is allowed")
    return {name: BOOLEANS[value] for name, value in given.items()}


async def limited_body(headers: Headers, receive: Receive, service: "Service") -> bytes:
    """The body, kept no further than is allowed and awaited no longer; what is kept counts as in flight.

    Too large a body is read to its end all the same, as long as that is near: a client that still sends when the connection is
    closed would not see the answer.
    """
    limits = service.limits
    promised = headers.get(b"content-length", b"")
    size = int(promised) if promised.isdigit() else 0
    if size > 2 * limits.body_bytes or b"expect" in headers:
        require_size(size, limits)
    parts: list[bytes] = []
    size = held = 0
    more = True
    try:
        async with asyncio.timeout(limits.body_seconds):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise HTTPException(400, "the client went away before its body was there")
                part, more = message.get("body", b""), message.get("more_body", False)
                size += len(part)
                require_size(size // 2, limits)
                if size <= limits.body_bytes:
                    parts.append(part)
                    held += len(part)
                    service.in_flight += len(part)
                if service.in_flight > limits.bytes_in_flight:
                    raise HTTPException(503, "too many large bodies at once; try again", {"retry-after": "1"})
        require_size(size, limits)
    except BaseException as error:
        service.in_flight -= held
        if isinstance(error, TimeoutError):
            told = f"the body did not arrive within {limits.body_seconds:g} s; {size} bytes of it did"
            raise HTTPException(408, told, {"connection": "close"}) from error
        raise
    return parts[0] if len(parts) == 1 else b"".join(parts)


def require_size(size: int, limits: Limits) -> None:
    if size > limits.body_bytes:
        raise HTTPException(413, f"a body of more than {limits.body_bytes} bytes given; send smaller batches")
