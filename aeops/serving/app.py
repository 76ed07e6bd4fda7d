"""ASGI application of the scoring service: onnxruntime behind Starlette. docs/serving.md describes requests and responses.

POST /score, /invocations, /embed, /reconstruct, /explain    JSON {"inputs": [...], "params": {...}}, .npy or an Arrow stream
GET  /, /healthz, /readyz, /metrics, /model, /openapi.json, /docs

Errors are {"error": "one line"}: 400 for a malformed request, 408 for one that does not arrive in time, 413 for one that is too
large, 415 for an unsupported media type, 422 for invalid samples, 503 if no version is served, the queue is full, or the
predictions cannot be recorded.
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
from starlette.types import ASGIApp, Receive, Scope, Send

from aeops.bundle.detector import Detector
from aeops.errors import DataError, InfrastructureError
from aeops.predictions.journal import Journal
from aeops.serving.batch_scoring import EMBED_PATH, EXPLAIN_PATH, INVOCATIONS_PATH, RECONSTRUCT_PATH, SCORE_PATH
from aeops.serving.json_responses import build_error_response, json_response
from aeops.serving.limits import RequestLimits
from aeops.serving.metrics import MEDIA_TYPE as METRICS_TYPE
from aeops.serving.middleware import ServiceMiddleware
from aeops.serving.openapi import EXAMPLE_ADDRESS, openapi_document, openapi_page
from aeops.serving.post import ScoringEndpoint
from aeops.serving.request_bodies import JsonObject
from aeops.serving.served_version import ServedVersion
from aeops.serving.service import ScoringService

SCORING_PATHS = (SCORE_PATH, INVOCATIONS_PATH, EMBED_PATH, RECONSTRUCT_PATH, EXPLAIN_PATH)


def detector_app(
    detector: Detector, name: str, version: str, limits: RequestLimits | None = None, journal: Journal | None = None
) -> ServiceMiddleware:
    """Build an application that serves one fixed detector and follows no alias.

    Args:
        detector: loaded and verified.
        name: name of the registered model, which is the name of its recipe.
        version: registered version that the detector was loaded from.
        limits: defaults to `RequestLimits()`.
        journal: stores the predictions; None to record none.
    """
    service = ScoringService(name, limits=limits, journal=journal)
    service.rollover.current_version = ServedVersion(name, version, detector)
    return service_app(service)


def service_app(service: ScoringService) -> ServiceMiddleware:
    """Build the ASGI application of a service.

    Requests to the model skip Starlette's router: they are looked up by path, and Starlette handles everything else.
    """

    @contextlib.asynccontextmanager
    async def end_with_app(_starlette_app: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.end)

    # A POST never reaches these routes; they let Starlette answer other methods with 405.
    routes: list[Route] = []
    scoring_endpoints = {}
    for path in SCORING_PATHS:
        scoring_endpoints[path] = ScoringEndpoint(service, path)
        routes.append(Route(path, scoring_endpoints[path], methods=["POST"]))
    for path, get_handler in GET_HANDLERS.items():
        routes.append(Route(path, bind_service(get_handler, service), methods=["GET"]))
    error_handlers: Any = dict.fromkeys((HTTPException, DataError, InfrastructureError, Exception), handle_error)
    starlette_app = Starlette(routes=routes, exception_handlers=error_handlers, lifespan=end_with_app)

    async def dispatch_request(scope: Scope, receive: Receive, send: Send) -> None:
        handler: ASGIApp = starlette_app
        if scope["type"] == "http" and scope["method"] == "POST":
            handler = scoring_endpoints.get(scope["path"], starlette_app)
        await handler(scope, receive, send)

    paths = frozenset([*SCORING_PATHS, *GET_HANDLERS])
    return ServiceMiddleware(dispatch_request, service.metrics, paths, service.password, own_names_only=service.own_names_only)


# ---------------------------------------------------------------- GET


def bind_service(get_handler: Callable[[ScoringService], Response], service: ScoringService) -> Callable[[HttpRequest], Any]:
    async def get_endpoint(_http_request: HttpRequest) -> Response:
        return get_handler(service)

    return get_endpoint


def get_health(_service: ScoringService) -> Response:
    return json_response({"status": "ok"})


def get_readiness(service: ScoringService) -> Response:
    return json_response({"status": "ready", "version": service.require_ready().version})


def get_metrics(service: ScoringService) -> Response:
    return Response(service.metrics.text(), media_type=METRICS_TYPE)


def get_model(service: ScoringService) -> Response:
    """Describe the served version and the rollover; `version` is null if none is served."""
    content: JsonObject = {"name": service.name, "version": None}
    served_version = service.rollover.current_version
    if served_version is not None:
        content = describe_version(served_version)
    return json_response(content | {"serving": service.rollover.state()})


def get_openapi(service: ScoringService) -> Response:
    return json_response(_document(service))


def get_docs(service: ScoringService) -> Response:
    return HTMLResponse(openapi_page(_document(service)))


def _document(service: ScoringService) -> JsonObject:
    address, has_password = service.address or EXAMPLE_ADDRESS, service.password is not None
    return openapi_document(service.name, service.rollover.current_version, service.limits, address, has_password)


GET_HANDLERS = {
    "/": get_docs,
    "/healthz": get_health,
    "/readyz": get_readiness,
    "/metrics": get_metrics,
    "/model": get_model,
    "/openapi.json": get_openapi,
    "/docs": get_docs,
}


def describe_version(served_version: ServedVersion) -> JsonObject:
    detector = served_version.detector
    described_input = {"kind": detector.kind, "shape": detector.shape, "low": detector.low, "high": detector.high}
    for key in ("columns", "one_hot"):
        if key in detector.bundle["input"]:
            described_input[key] = detector.bundle["input"][key]
    return {
        "name": served_version.name,
        "version": served_version.version,
        "bundle_sha256": detector.sha256,
        "input": described_input,
        **({"column_facts": detector.bundle["column_facts"]} if "column_facts" in detector.bundle else {}),
        "rules": detector.spec.rules and detector.spec.rules.to_dict(),
        "threshold": detector.bundle["threshold"],
        "code": detector.bundle["code"],
    }


async def handle_error(_http_request: HttpRequest, error: Exception) -> Response:
    return build_error_response(error)
