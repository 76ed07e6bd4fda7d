"""The scoring service over HTTP: onnxruntime behind Starlette. What it takes and says stands in docs/serving.md.

POST /score, /invocations, /embed, /reconstruct, /explain    JSON {"inputs": [...], "params": {...}}, .npy or an Arrow stream
GET  /healthz, /readyz, /metrics, /model, /openapi.json, /docs

Errors are {"error": "one line"}: 400 for what is no request, 408 for one that does not arrive, 413 for too large a one, 415 for a
body of another kind, 422 for samples that cannot be, 503 where no version answers, too many wait, or nothing can be recorded.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from aeops.bundle.detector import Detector
from aeops.errors import DataError, InfrastructureError
from aeops.predictions.journal import Journal
from aeops.serving import openapi
from aeops.serving.batch_scoring import EMBED, EXPLAIN, INVOCATIONS, RECONSTRUCT, SCORE
from aeops.serving.json_responses import as_json, error_response
from aeops.serving.limits import Limits
from aeops.serving.metrics import MEDIA_TYPE as METRICS_TYPE
from aeops.serving.middleware import Door, Receive, Scope, Send
from aeops.serving.post import Asked
from aeops.serving.served_version import Served
from aeops.serving.service import Service

ASKED = (SCORE, INVOCATIONS, EMBED, RECONSTRUCT, EXPLAIN)


def build_app(detector: Detector, name: str, version: str, limits: Limits | None = None, journal: Journal | None = None) -> Door:
    """The service of one detector that stays: no alias is watched.

    Args:
        detector: loaded and verified.
        name: the registered model's, as a recipe is called.
        version: the registered version that the detector was loaded from.
        journal: where predictions go; None: they are not recorded.
    """
    service = Service(name, limits=limits, journal=journal)
    service.succession.current = Served(name, version, detector)
    return service_app(service)


def service_app(service: Service) -> Door:
    """The service as an ASGI application."""
    asked = {path: Asked(service, path) for path in ASKED}

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.end)

    routes = [Route(path, one, methods=["POST"]) for path, one in asked.items()]  # here for what is no POST, which is told so
    routes += [Route(path, telling(service, tell), methods=["GET"]) for path, tell in TOLD.items()]
    handlers: Any = dict.fromkeys((HTTPException, DataError, InfrastructureError, Exception), tell_error)
    others = Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)

    async def by_path(scope: Scope, receive: Receive, send: Send) -> None:
        one = asked.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        await (one or others)(scope, receive, send)

    return Door(by_path, service.metrics, frozenset([*ASKED, *TOLD]), service.password)


# ---------------------------------------------------------------- what is told


def telling(service: Service, tell: Callable[[Service], Response]) -> Callable[[HttpRequest], Any]:
    async def told(_http: HttpRequest) -> Response:
        return tell(service)

    return told


def healthz(_service: Service) -> Response:
    return as_json({"status": "ok"})


def readyz(service: Service) -> Response:
    return as_json({"status": "ready", "version": service.served().version})


def metrics(service: Service) -> Response:
    return Response(service.metrics.text(), media_type=METRICS_TYPE)


def model(service: Service) -> Response:
    """Which version answers, and what becomes of others; also where none answers."""
    served = service.succession.current
    told = description(served) if served else {"name": service.name, "version": None}
    return as_json(told | {"serving": service.succession.state()})


def openapi_json(service: Service) -> Response:
    return as_json(openapi.document(service.name, service.succession.current, service.limits))


def docs(service: Service) -> Response:
    return HTMLResponse(openapi.page(openapi.document(service.name, service.succession.current, service.limits)))


TOLD = {
    "/healthz": healthz,
    "/readyz": readyz,
    "/metrics": metrics,
    "/model": model,
    "/openapi.json": openapi_json,
    "/docs": docs,
}


def description(served: Served) -> dict[str, Any]:
    detector = served.detector
    return {
        "name": served.name,
        "version": served.version,
        "bundle_sha256": detector.sha256,
        "input": {"kind": detector.kind, "shape": detector.shape, "low": detector.low, "high": detector.high},
        "threshold": detector.bundle["threshold"],
        "code": detector.bundle["code"],
    }


async def tell_error(_http: HttpRequest, error: Exception) -> Response:
    return error_response(error)
