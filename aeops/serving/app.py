"""The scoring service over HTTP: onnxruntime behind Starlette. What it takes and says stands in docs/serving.md.

POST /score, /invocations, /embed, /reconstruct, /explain    JSON {"inputs": [...], "params": {...}}, .npy or an Arrow stream
GET  /healthz, /readyz, /metrics, /model, /openapi.json, /docs

Errors are {"error": "one line"}: 400 for what is no request, 408 for one that does not arrive, 413 for too large a one, 415 for a
body of another kind, 422 for samples that cannot be, 503 where no version answers, too many wait, or nothing can be recorded.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from aeops.bundle.detector import Detector
from aeops.errors import AeError, DataError, InfrastructureError
from aeops.predictions.journal import Journal
from aeops.recipe.reader import ServingSpec
from aeops.serving import openapi
from aeops.serving.batch_scoring import EMBED, EXPLAIN, INVOCATIONS, RECONSTRUCT, SCORE, Answering, Request
from aeops.serving.batching import Batcher
from aeops.serving.json_responses import as_json, error_response
from aeops.serving.limits import Limits
from aeops.serving.metrics import MEDIA_TYPE as METRICS_TYPE
from aeops.serving.metrics import Metrics
from aeops.serving.middleware import Door, Receive, Scope, Send
from aeops.serving.post import Asked
from aeops.serving.rollover import Sources, Succession
from aeops.serving.served_version import Served

ASKED = (SCORE, INVOCATIONS, EMBED, RECONSTRUCT, EXPLAIN)
TEND = 2.0  # seconds between two looks after the journal


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

    def put(self, request: Request) -> None:
        """Lets a request wait for its answer.

        Raises:
            HTTPException: 503, too many wait.
        """
        if not self.batcher.put(request):
            raise HTTPException(503, f"{self.limits.queue} requests wait already; try again", {"retry-after": "1"})

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
