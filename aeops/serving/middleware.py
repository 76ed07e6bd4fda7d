"""Middleware of every request and response: request ID, origin, password and request metrics."""

import base64
import hmac
import itertools
import re
import secrets
import time

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aeops.machine.passwords import USER
from aeops.machine.web_guard import Refusal, check_request, is_loopback_name
from aeops.serving.metrics import Metrics

REQUEST_ID_PATTERN = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")  # of a client's own x-request-id
PUBLIC_PATHS = ("/healthz",)  # need no password
OTHER_PATHS = "other"  # label in /metrics
# Our own IDs: a random prefix for each process, then a counter. A random ID for each would yield to another thread every time.
_ID_PREFIX, _ID_COUNTER = secrets.token_hex(6).encode(), itertools.count()


class ServiceMiddleware:
    """Wraps the service. Responses carry `x-request-id`; the state of a request has `request_id` and `headers`, a dict.

    Args:
        paths: counted by name in /metrics.
        password: of the user `ae`; None to require none.
        own_names_only: see `web_guard.check_request`.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, paths: frozenset[str], password: str | None, *, own_names_only: bool
    ) -> None:
        self.app, self.metrics, self.paths, self.own_names_only = app, metrics, paths, own_names_only
        self._authorization: bytes | None = None
        if password is not None:
            self._authorization = encode_authorization(password)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start_time = time.perf_counter()
        headers = dict(scope["headers"])
        request_id = choose_request_id(headers.get(b"x-request-id", b""))
        scope.setdefault("state", {}).update(request_id=request_id.decode(), headers=headers)
        status = 500  # if the application fails without a response

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id)]
            await send(message)

        try:
            refusal = self.choose_refusal(scope, headers)
            if refusal is None:
                await self.app(scope, receive, send_with_id)
            else:
                await send_refusal(send_with_id, refusal)
        finally:
            path = scope["path"]
            if path not in self.paths:
                path = OTHER_PATHS
            self.metrics.record_request(path, status, time.perf_counter() - start_time)

    def choose_refusal(self, scope: Scope, headers: dict[bytes, bytes]) -> Refusal | None:
        """Return the response to a request that is refused before its body is read; None if it is not."""
        refusal = check_request(scope, headers, own_names_only=self.own_names_only)
        if refusal is None and not self.is_authorized(scope["path"], headers):
            message = f"expected the password of user {USER} by HTTP basic authentication, got none or a wrong one"
            refusal = Refusal(401, message)
        if refusal is None and headers.get(b"content-encoding", b"identity") != b"identity":
            refusal = Refusal(415, "expected a body as it is, got a compressed one (header content-encoding)")
        return refusal

    def is_plain_request(self, headers: dict[bytes, bytes]) -> bool:
        """Return True if no header of the request can be a reason for `choose_refusal`, but for the password."""
        if b"origin" in headers or b"sec-fetch-site" in headers or b"content-encoding" in headers:
            return False
        return not self.own_names_only or is_loopback_name(headers.get(b"host", b""))

    def is_authorized(self, path: str, headers: dict[bytes, bytes]) -> bool:
        """Return True if the request has the password or needs none."""
        if self._authorization is None or path in PUBLIC_PATHS:
            return True
        return hmac.compare_digest(headers.get(b"authorization", b""), self._authorization)


def encode_authorization(password: str) -> bytes:
    """Return the header `authorization` of HTTP basic authentication for a password."""
    return b"Basic " + base64.b64encode(f"{USER}:{password}".encode())


def choose_request_id(client_id: bytes) -> bytes:
    """Return the client's request ID if it is valid, else a new one."""
    if client_id and REQUEST_ID_PATTERN.fullmatch(client_id):
        return client_id
    return b"%b-%x" % (_ID_PREFIX, next(_ID_COUNTER))


async def send_refusal(send: Send, refusal: Refusal) -> None:
    body = orjson.dumps({"error": refusal.message})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if refusal.status == 401:
        headers.append((b"www-authenticate", b'Basic realm="ae", charset="UTF-8"'))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
