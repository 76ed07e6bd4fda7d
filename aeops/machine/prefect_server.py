"""`python -m aeops.machine.prefect_server --host H --port P` is Prefect's server behind the project's checks of each request.

`prefect server start` answers every Host, by default also pages of any origin, and responds 500 to some credentials. All else is
Prefect's own: PREFECT_SERVER_API_AUTH_STRING and its other settings are read from the environment.
"""

import argparse
import base64
import binascii
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn

from aeops.machine.http_limits import ConnectionLimits, limited_config
from aeops.machine.network import HOST
from aeops.machine.prefect_database import create_if_new
from aeops.machine.sqlite_sync import sync_every_commit
from aeops.machine.web_guard import Refusal, WebGuard, send_text

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


class CredentialsGuard:
    """ASGI middleware that refuses credentials which Prefect would compare with the right ones and fail at: it expects ASCII."""

    def __init__(self, app: "ASGIApp") -> None:
        self.app = app

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] == "http" and not is_readable(dict(scope["headers"]).get(b"authorization", b"")):
            await send_text(send, Refusal(401, "expected HTTP basic authentication in ASCII, got something else"))
        else:
            await self.app(scope, receive, send)


def is_readable(authorization: bytes) -> bool:
    """Return False for a header that is not ASCII, or one of HTTP basic authentication whose user and password are not."""
    _, _, encoded_credentials = authorization.partition(b" ")
    try:
        return authorization.isascii() and base64.b64decode(encoded_credentials).isascii()
    except binascii.Error:  # Prefect refuses it
        return True


def create_guarded_app(*, own_names_only: bool) -> "ASGIApp":
    """Return Prefect's application, with the services that PREFECT__SERVER_EPHEMERAL and its settings ask for."""
    from prefect.server.api.server import create_app as create_prefect_app

    sync_every_commit()
    return WebGuard(CredentialsGuard(create_prefect_app(final=True)), own_names_only=own_names_only)


@contextmanager
def database_created() -> Iterator[None]:
    """Create a fresh database first, where the server would apply migrations, which it then leaves out: that is far quicker."""
    from prefect.settings import PREFECT_SERVER_DATABASE_MIGRATE_ON_START, temporary_settings

    if PREFECT_SERVER_DATABASE_MIGRATE_ON_START.value() and create_if_new():
        with temporary_settings({PREFECT_SERVER_DATABASE_MIGRATE_ON_START: False}):
            yield
    else:
        yield


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m aeops.machine.prefect_server", description="Prefect's server, guarded.")
    parser.add_argument("--host", default=HOST, help=f"address to listen at (default: {HOST})")
    parser.add_argument("--port", type=int, required=True, help="port to listen at")
    parser.add_argument("--any-name", action="store_true", help="answer to other names than 127.0.0.1 and localhost, too")
    parser.add_argument("--log-level", default="warning", help="of uvicorn (default: warning)")
    arguments = parser.parse_args()
    with database_created():
        app = create_guarded_app(own_names_only=not arguments.any_name)
        config = limited_config(
            app, ConnectionLimits(), host=arguments.host, port=arguments.port, lifespan="on", log_level=arguments.log_level
        )
        uvicorn.Server(config).run()


if __name__ == "__main__":
    main()
