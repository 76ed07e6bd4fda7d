"""The middleware before every route: which requests are refused, and the headers that every response gets."""

import base64
import binascii
import hashlib
import hmac

from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aeops.machine.passwords import USER
from aeops.machine.web_guard import SAFE_METHODS, HeaderMap, check_request

TRY_PREFIX = "/try/"  # the only path that takes a POST
HEALTH_PATH = "/healthz"  # reveals nothing, so that the program that starts the page needs no password to check it
SECURITY_HEADERS = {
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


class RequestGuard:
    """ASGI middleware that checks each request and adds `SECURITY_HEADERS` to each response.

    Args:
        password: of the user `ae`. None: no password is asked for, and only requests to this machine's own names are
            answered, so that a page elsewhere cannot reach this one by pointing its own name at our address (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, password: str | None) -> None:
        self.app = app
        self.digest: bytes | None = None
        if password is not None:
            self.digest = hashlib.sha256(f"{USER}:{password}".encode()).digest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self.find_refusal(scope)
        await (refusal or self.app)(scope, receive, send_with_headers)

    def find_refusal(self, scope: Scope) -> PlainTextResponse | None:
        """Return the response to a request that is refused, else None."""
        headers, method, path = dict(scope["headers"]), scope["method"], scope["path"]
        refusal = check_request(scope, headers, own_names_only=self.digest is None)
        if refusal is not None:
            return text_response(*refusal)
        if path != HEALTH_PATH and not self.is_authorized(headers):
            auth_challenge = {"www-authenticate": 'Basic realm="ae"'}
            return text_response(401, f"user {USER} and the password of --password-file are needed", auth_challenge)
        if method not in SAFE_METHODS and not (method == "POST" and path.startswith(TRY_PREFIX)):
            allow_header = {"allow": "GET, HEAD"}
            return text_response(405, "this page is for reading: GET, and POST for the try-it box", allow_header)
        if headers.get(b"content-encoding", b"identity") != b"identity":
            return text_response(415, "expected a sample as it is, got one that is compressed (header content-encoding)")
        return None

    def is_authorized(self, headers: HeaderMap) -> bool:
        """Return True if the request has the password or needs none."""
        if self.digest is None:
            return True
        return hmac.compare_digest(self.digest, credentials_digest(headers.get(b"authorization", b"")))


def text_response(status: int, message: str, headers: dict[str, str] | None = None) -> PlainTextResponse:
    """Return a response with one line of plain text."""
    return PlainTextResponse(message + "\n", status, headers)


def credentials_digest(header: bytes) -> bytes:
    """Return the SHA-256 of `user:password` in an Authorization header, of the empty string where it holds none."""
    auth_scheme, _, encoded_credentials = header.partition(b" ")
    credentials = b""
    if auth_scheme.lower() == b"basic":
        try:
            credentials = base64.b64decode(encoded_credentials, validate=True)
        except binascii.Error:
            credentials = b""
    return hashlib.sha256(credentials).digest()
