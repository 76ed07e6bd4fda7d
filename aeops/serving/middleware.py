"""What every request passes on its way in and every answer on its way out: its name, the password, the clock."""

import base64
import hmac
import itertools
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson

from aeops.serving.metrics import Metrics

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

SANE = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")  # a client's x-request-id that is taken over
USER = "ae"
OPEN = ("/healthz",)  # without the password
OTHER = "other"
# Names of ours: drawn once a process, then counted. Drawing each would hand the interpreter to another thread each time.
OURS, COUNTED = secrets.token_hex(6).encode(), itertools.count()


class Door:
    """Wraps the service. Answers carry `x-request-id`; requests find it in their state as `name`, and their `headers` as a dict.

    Args:
        paths: those that /metrics counts by their names.
        password: of the user `ae`; None: nobody is asked.
    """

    def __init__(self, app: App, metrics: Metrics, paths: frozenset[str], password: str | None) -> None:
        self.app, self.metrics, self.paths = app, metrics, paths
        self._allowed = None if password is None else basic(password)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = time.perf_counter()
        given = dict(scope["headers"])
        name = request_name(given.get(b"x-request-id", b""))
        scope.setdefault("state", {}).update(name=name.decode(), headers=given)
        status = 500  # of an application that dies without an answer

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", name)]
            await send(message)

        try:
            await (self.app if self.lets_in(scope["path"], given) else refuse)(scope, receive, send_named)
        finally:
            path = scope["path"] if scope["path"] in self.paths else OTHER
            self.metrics.request(path, status, time.perf_counter() - begun)

    def lets_in(self, path: str, headers: dict[bytes, bytes]) -> bool:
        """Whether a request has the password, or needs none."""
        if self._allowed is None or path in OPEN:
            return True
        return hmac.compare_digest(headers.get(b"authorization", b""), self._allowed)


def basic(password: str) -> bytes:
    """What HTTP's basic authentication sends for it."""
    return b"Basic " + base64.b64encode(f"{USER}:{password}".encode())


def request_name(given: bytes) -> bytes:
    """The client's name for its request where it is a sane one, else one of ours."""
    return given if given and SANE.fullmatch(given) else b"%b-%x" % (OURS, next(COUNTED))


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    body = orjson.dumps({"error": f"this service asks for a password: user {USER}, HTTP basic authentication"})
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"www-authenticate", b'Basic realm="ae", charset="UTF-8"'),
    ]
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": body})
