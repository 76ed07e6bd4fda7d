"""The scoring service over HTTP: onnxruntime behind Starlette. What it takes and says stands in docs/serving.md.

POST /score, /invocations, /embed, /reconstruct, /explain    JSON {"inputs": [...], "params": {...}}, .npy or an Arrow stream
GET  /healthz, /readyz, /metrics, /model, /openapi.json, /docs

Errors are {"error": "one line"}: 400 for what is no request, 408 for one that does not arrive, 413 for too large a one, 415 for a
body of another kind, 422 for samples that cannot be, 503 where no version answers, too many wait, or nothing can be recorded.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from aeops.errors import AeError, DataError, InfrastructureError
from aeops.recipe import ServingSpec
from aeops.serving import openapi
from aeops.serving.answering import EMBED, EXPLAIN, INVOCATIONS, RECONSTRUCT, SCORE, Answering, Request
from aeops.serving.batching import Batcher
from aeops.serving.bodies import AS_JSON, JSON, MEDIA_TYPES, PARAMS, refuse_others
from aeops.serving.detector import Detector
from aeops.serving.doors import Door
from aeops.serving.journal import Journal
from aeops.serving.limits import Limits
from aeops.serving.metrics import MEDIA_TYPE as METRICS_TYPE
from aeops.serving.metrics import Metrics
from aeops.serving.served import Served
from aeops.serving.succession import Sources, Succession

ASKED = (SCORE, INVOCATIONS, EMBED, RECONSTRUCT, EXPLAIN)
BOOLEANS = {"true": True, "false": False}
TEND = 2.0  # seconds between two looks after the journal

log = logging.getLogger("aeops.serving")


class Service:
    """All parts of one recipe's service.

    Attributes:
        failure: why it could not begin; None where it could.
    """

    def __init__(
        self,
        name: str,
        *,
        journal: Journal | None = None,
        limits: Limits | None = None,
        sources: Sources | None = None,
        rules: ServingSpec | None = None,
        password: str | None = None,
    ) -> None:
        self.name, self.limits, self.journal, self.password = name, limits or Limits(), journal, password
        self.metrics = Metrics(depth=self._depth, journal_bytes=lambda: journal.written if journal else 0)
        self.succession = Succession(name, sources, rules or ServingSpec(), self.metrics)
        answering = Answering(self.limits, self.metrics, journal, self.succession.answered)
        self.batcher: Batcher[Request] = Batcher(answering.work, self.limits.queue)
        self.failure: AeError | None = None
        self.in_flight = 0  # bytes of bodies that are being read or wait
        self._ending = threading.Event()
        self._keepers: list[threading.Thread] = []

    def _depth(self) -> int:
        return self.batcher.depth()

    def begin(self, which: str, on_ready: Callable[[Served], None], on_failure: Callable[[], None]) -> None:
        """Loads the version, or what the alias is on, and looks after it, in threads."""

        def look_after() -> None:
            try:
                self.succession.begin(which)
            except AeError as error:
                self.failure = error
                on_failure()
                return
            assert self.succession.current is not None
            on_ready(self.succession.current)
            self.succession.run()

        self._keepers = [threading.Thread(target=work, daemon=True) for work in (look_after, self._tend)]
        for keeper in self._keepers:
            keeper.start()

    def _tend(self) -> None:
        """Looks after the journal, in a thread that lives as long as the service."""
        while self.journal is not None and not self._ending.wait(TEND):
            self.journal.tend()

    def end(self) -> None:
        """Answers what waits, then stops everything."""
        self.batcher.end()
        self._ending.set()
        self.succession.end()
        if self.journal is not None:
            self.journal.close()

    def served(self) -> Served:
        """The version that answers.

        Raises:
            HTTPException: 503, there is none.
        """
        if (served := self.succession.current) is not None:
            return served
        last = self.succession.last
        if last is None:
            raise HTTPException(503, f"{self.name} is being loaded; ask /readyz", {"retry-after": "2"})
        made = f"make one with `ae run {self.name}`, or put one back with `ae rollback {self.name} --why TEXT`"
        raise HTTPException(503, f"{self.name} has no champion: {made}")


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
    asked = [Route(path, asking(service, path), methods=["POST"]) for path in ASKED]
    told = [Route(path, telling(service, tell), methods=["GET"]) for path, tell in TOLD.items()]

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.end)

    handlers: Any = {HTTPException: tell_http_error, AeError: tell_ae_error, Exception: tell_fault}
    app = Starlette(routes=[*asked, *told], exception_handlers=handlers, lifespan=lifespan)
    return Door(app, service.metrics, frozenset([*ASKED, *TOLD]), service.password)


# ---------------------------------------------------------------- what is asked


def asking(service: Service, path: str) -> Callable[[HttpRequest], Any]:
    async def ask(http: HttpRequest) -> Response:
        served = service.served()
        media_type = body_type(http)
        params = query_params(http)
        body = await limited_body(http, service)
        try:
            loop = asyncio.get_running_loop()
            answer = loop.create_future()
            name, accepted = http.state.name, accepted_type(http)
            request = Request(path, served, name, body, media_type, accepted, params, loop, answer)
            if not service.batcher.put(request):
                raise HTTPException(503, f"{service.limits.queue} requests wait already; try again", {"retry-after": "1"})
            reply = await answer
        finally:
            service.in_flight -= len(body)
        return Response(reply.body, 200, reply.headers, reply.media_type)

    return ask


def body_type(http: HttpRequest) -> str:
    given = http.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given in AS_JSON or given in MEDIA_TYPES:
        return given
    raise HTTPException(415, f"a body of type {given} given; {', '.join(MEDIA_TYPES)} are allowed")


def accepted_type(http: HttpRequest) -> str:
    """The first form that the client accepts and that there is; JSON where it names none."""
    for entry in http.headers.get("accept", "").lower().split(","):
        if (name := entry.partition(";")[0].strip()) in MEDIA_TYPES:
            return name
    return JSON


def query_params(http: HttpRequest) -> dict[str, bool]:
    if not http.scope["query_string"]:
        return {}
    given = http.query_params
    refuse_others(given, PARAMS, "param")
    for name, value in given.multi_items():
        if value not in BOOLEANS:
            raise HTTPException(400, f"the param {name} is {value!r}; true or false is allowed")
    return {name: BOOLEANS[value] for name, value in given.items()}


async def limited_body(http: HttpRequest, service: Service) -> bytes:
    """The body, kept no further than is allowed and awaited no longer; what is kept counts as in flight.

    Too large a body is read to its end all the same, as long as that is near: a client that still sends when the connection is
    closed would not see the answer.
    """
    limits = service.limits
    promised = http.headers.get("content-length", "")
    size = int(promised) if promised.isdecimal() else 0
    if size > 2 * limits.body_bytes or "expect" in http.headers:
        require_size(size, limits)
    parts: list[bytes] = []
    size = held = 0
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for part in http.stream():
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
        if isinstance(error, ClientDisconnect):
            raise HTTPException(400, "the client went away before its body was there") from error
        raise
    return parts[0] if len(parts) == 1 else b"".join(parts)


def require_size(size: int, limits: Limits) -> None:
    if size > limits.body_bytes:
        raise HTTPException(413, f"a body of more than {limits.body_bytes} bytes given; send smaller batches")


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


def as_json(content: dict[str, Any], status: int = 200, headers: Any = None) -> Response:
    return Response(orjson.dumps(content), status, headers, JSON)


async def tell_http_error(_http: HttpRequest, error: HTTPException) -> Response:
    return as_json({"error": str(error.detail)}, error.status_code, error.headers)


async def tell_ae_error(_http: HttpRequest, error: AeError) -> Response:
    """422 for samples that cannot be; 503 where the disk or the like is in the way."""
    told = " ".join(str(error).split())
    if isinstance(error, DataError):
        return as_json({"error": told}, 422)
    assert isinstance(error, InfrastructureError), "no other error has its cause in a request"
    log.error("%s", told)
    return as_json({"error": told}, 503, {"retry-after": "5"})


async def tell_fault(_http: HttpRequest, _error: Exception) -> Response:
    return as_json({"error": "a fault of the service's own, which its log tells"}, 500)
