"""What stands before every route: who may ask, by which name, with which method; and what browsers are told with each answer."""

import base64
import binascii
import hashlib
import hmac
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aeops.machine.passwords import USER

LOOPBACK = ("127.0.0.1", "localhost", "::1")  # by which this machine's own browsers name it
TRY = "/try/"  # the only place that takes a POST
HEALTH = "/healthz"  # tells nothing, so that whoever starts the page needs no password to see that it answers
HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "SAMEORIGIN",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
}


class Guard:
    """Wraps the application.

    Args:
        password: what the user `ae` has to give; None: nobody is asked, and only this machine's own names are answered to, so
            that a page elsewhere cannot reach this one by giving its own name our address (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, password: str | None) -> None:
        self.app = app
        self.digest = None if password is None else hashlib.sha256(f"{USER}:{password}".encode()).digest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self.refusal(scope)
        await (refusal or self.app)(scope, receive, sending)

    def refusal(self, scope: Scope) -> PlainTextResponse | None:
        """The answer to a request that goes no further, else None."""
        headers, method, path = Headers(scope=scope), scope["method"], scope["path"]
        if self.digest is None and name_of(headers.get("host", "")) not in LOOPBACK:
            return tell(403, "this page answers to 127.0.0.1 and localhost only")
        if (
            self.digest is not None
            and path != HEALTH
            and not hmac.compare_digest(self.digest, given_digest(headers.get("authorization", "")))
        ):
            return tell(
                401, f"user {USER} and the password of --password-file are needed", {"www-authenticate": 'Basic realm="ae"'}
            )
        if method not in ("GET", "HEAD") and not (method == "POST" and path.startswith(TRY)):
            return tell(405, "this page is for reading: GET, and POST for the try-it box", {"allow": "GET, HEAD"})
        if method == "POST" and is_foreign(headers):
            return tell(403, "the try-it box takes samples from this page's own address only")
        return None


def tell(status: int, what: str, headers: dict[str, str] | None = None) -> PlainTextResponse:
    return PlainTextResponse(what + "\n", status, headers)


def name_of(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def given_digest(header: str) -> bytes:
    """Of user and password in an Authorization header; of something else where it holds none."""
    scheme, _, told = header.partition(" ")
    try:
        pair = base64.b64decode(told, validate=True) if scheme.lower() == "basic" else b""
    except binascii.Error:
        pair = b""
    return hashlib.sha256(pair).digest()


def is_foreign(headers: Headers) -> bool:
    """Whether a browser says that another page sends this."""
    origin = headers.get("origin")
    elsewhere = origin is not None and urlsplit(origin).netloc != headers.get("host")
    return elsewhere or headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
