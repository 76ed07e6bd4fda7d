"""Which requests a server answers: those of programs and of its own pages, never those of another web page.

Any page on the web can make the browser on this machine send requests to 127.0.0.1. Two headers, which a page cannot set, tell
them apart. `Origin` names the page that sends the request; `Host` names the server that the browser believes to talk to, which
is another one where a page has pointed its own name at this machine (DNS rebinding). Every server of the project checks both:
MLflow's and Prefect's own rules accept pages of other ports of this machine, or of any origin.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from aeops.machine.network import is_loopback

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

SAFE_METHODS = ("GET", "HEAD")
SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"cross-origin-resource-policy", b"same-origin"),
)

HeaderMap = Mapping[bytes, bytes]  # names in lower case, as in an ASGI scope


class Refusal(NamedTuple):
    """Response to a request that is not answered: its status and one line for a person."""

    status: int
    message: str


def check_request(scope: "Scope", headers: HeaderMap, *, own_names_only: bool) -> Refusal | None:
    """Return the response to a request that this server must not answer; None if it may.

    Args:
        scope: of an HTTP or WebSocket request.
        headers: of the request.
        own_names_only: answer to the names of the loopback address alone. False for a server with a password, which others
            reach by names that it does not know.
    """
    if own_names_only and not is_loopback_name(headers.get(b"host", b"")):
        return Refusal(403, "expected a request to 127.0.0.1 or localhost (header Host), got another name")
    if is_from_other_origin(scope.get("method", "GET"), headers):
        return Refusal(403, "expected a request of this server's own pages or of a program, got one of another web page")
    if "\0" in scope["path"] or b"%00" in scope.get("query_string", b""):
        return Refusal(400, "expected an address without a NUL character, got one with it")
    return None


def is_loopback_name(host: bytes) -> bool:
    """Return True if a Host header, with or without a port, names the loopback address.

    >>> is_loopback_name(b"localhost:5000"), is_loopback_name(b"example.org")
    (True, False)
    """
    try:
        return is_loopback(urlsplit(f"//{host.decode('latin-1')}").hostname or "")
    except ValueError:
        return False


def is_from_other_origin(method: str, headers: HeaderMap) -> bool:
    """Return True if a browser says that a page of another origin sends this request.

    A plain link to one of the server's pages is allowed: it has no Origin, and a GET changes nothing.
    """
    origin = headers.get(b"origin")
    if origin is not None and not _is_same_host(origin, headers.get(b"host", b"")):
        return True
    return method not in SAFE_METHODS and headers.get(b"sec-fetch-site", b"none") not in (b"same-origin", b"none")


def _is_same_host(origin: bytes, host: bytes) -> bool:
    try:
        return bool(host) and urlsplit(origin.decode("latin-1")).netloc.lower() == host.decode("latin-1").lower()
    except ValueError:
        return False


class WebGuard:
    """ASGI middleware around another program's server: refuses as `check_request` does and adds `SECURITY_HEADERS`."""

    def __init__(self, app: "ASGIApp", *, own_names_only: bool) -> None:
        self.app, self.own_names_only = app, own_names_only

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        refusal = check_request(scope, dict(scope["headers"]), own_names_only=self.own_names_only)
        if refusal is None:
            await self.app(scope, receive, _with_security_headers(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": refusal.message})
        else:
            await send_text(send, refusal)


def _with_security_headers(send: "Send") -> "Send":
    async def send_message(message: "Message") -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            names = {name.lower() for name, _ in headers}
            message["headers"] = headers + [header for header in SECURITY_HEADERS if header[0] not in names]
        await send(message)

    return send_message


async def send_text(send: "Send", refusal: Refusal) -> None:
    """Send a refusal as one line of plain text."""
    body = f"{refusal.message}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body)), *SECURITY_HEADERS]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
