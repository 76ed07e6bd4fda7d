"""The page over all recipes: FastAPI and templates, rendered on the server, for reading only.

GET  /                     a card for every recipe
GET  /r/RECIPE             everything about one
GET  /compare              two versions side by side: those that `ae compare` has written, or what to type
GET  /r/RECIPE/report      documents that other programs wrote, each in a sandbox: report, monitoring, drift, scoring
GET  /data-docs/...        Great Expectations' pages
POST /try/RECIPE           takes a sample, returns its score as a fragment of HTML; errors are one line of text
GET  /healthz              200 while the page is up
"""

import base64
import hashlib
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import anyio.to_thread
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse
from jinja2 import Environment
from markupsafe import escape
from starlette.exceptions import HTTPException

from ae_models.mappings import select_keys
from ae_models.names import names_in
from aeops.bundle.explanations import PARTS_UNIT, short_part_name
from aeops.drawing.svg import theme_css
from aeops.drawing.words import format_share
from aeops.errors import AeError, InfrastructureError, UsageError, as_ae_error
from aeops.machine.passwords import USER
from aeops.page import pictures, stack_status, state_files, view
from aeops.page.background_query import BackgroundQuery
from aeops.page.registry_client import RegistryClient, find_recipe_names
from aeops.page.request_guard import RequestGuard, text_response
from aeops.page.try_it import LARGEST_UPLOAD, TryResult, Upload, try_sample
from aeops.project import Project
from aeops.report.html_template import strict_html_environment

POLL_SECONDS = 5.0  # between two questions to the registry, the services and Prefect
LEDGER_POLL_SECONDS = 30.0
MAX_UPLOADS = 16  # samples of the try-it box at once, those that are being sent included
SCORING_THREADS = 4  # a slow scoring service must not hold the threads that show the pages
THREAD_WAIT = 1.0  # seconds that a sample waits for one of these threads
NAME_LENGTH = 200  # characters of a file's name that a prediction keeps
ROW_DIGITS = 9
VERSION_NUMBER = re.compile(r"[0-9]{1,9}")

# The browser's rules for a document that other programs wrote: its own styles and images, no forms, no navigation.
STATIC_POLICY = (
    "sandbox allow-popups; default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; frame-ancestors 'self'"
)
# The report has a slider and figures to enlarge: its own script, which the policy names by its hash, and no other one may run.
REPORT_SCRIPT = resources.files("aeops.report").joinpath("templates/report.js").read_text(encoding="utf-8").rstrip("\n")
REPORT_SCRIPT_HASH = base64.b64encode(hashlib.sha256(REPORT_SCRIPT.encode()).digest()).decode()
REPORT_POLICY = STATIC_POLICY.replace("sandbox ", "sandbox allow-scripts ") + f"; script-src 'sha256-{REPORT_SCRIPT_HASH}'"
# Evidently's report draws itself: it may run its own scripts, in an origin of its own, from which nothing here can be reached.
SCRIPTED_POLICY = (
    "sandbox allow-scripts allow-popups; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval' data: blob:; "
    "style-src 'unsafe-inline' data:; img-src data: blob:; font-src data:; worker-src blob:; frame-ancestors 'self'"
)


class BackgroundQueries:
    """Everything that the page asks in the background."""

    def __init__(self, project: Project, password: str | None) -> None:
        self.auth_header: str | None = None
        if password is not None:  # the whole stack has one password
            self.auth_header = stack_status.basic_auth_header(f"{USER}:{password}")
        self._client = RegistryClient(project)
        self._registry = BackgroundQuery(self._client.snapshot, POLL_SECONDS, "registry")
        self._ledgers = BackgroundQuery(self._client.ledger_problems, LEDGER_POLL_SECONDS, "ledgers")
        self._services = BackgroundQuery(lambda: stack_status.check_services(project, self.auth_header), POLL_SECONDS, "services")
        self._plans = BackgroundQuery(lambda: stack_status.read_plans(project), POLL_SECONDS, "prefect")

    def start(self) -> None:
        for query in self._all_queries():
            query.start()

    def close(self) -> None:
        for query in self._all_queries():
            query.close()
        self._client.close()

    def latest_state(self) -> view.StackState:
        """Return the last results without waiting."""
        return view.StackState(
            self._registry.latest_result(),
            self._ledgers.latest_result(),
            self._services.latest_result(),
            self._plans.latest_result(),
        )

    def _all_queries(self) -> tuple[BackgroundQuery[Any], ...]:
        return self._services, self._plans, self._registry, self._ledgers


def build_page_app(project: Project, password: str | None = None) -> FastAPI:
    """Return the page's application.

    Args:
        password: see `RequestGuard`.
    """
    background_queries, templates = BackgroundQueries(project, password), template_environment()

    @asynccontextmanager
    async def query_lifespan(_: FastAPI) -> AsyncIterator[None]:
        background_queries.start()
        yield
        await run_in_threadpool(background_queries.close)

    app = FastAPI(title="page", docs_url=None, redoc_url=None, openapi_url=None, lifespan=query_lifespan)
    add_pages(app, project, background_queries, templates)
    add_documents(app, project)
    add_try_it(app, project, background_queries, templates)
    app.add_api_route("/healthz", lambda: {"status": "ok"})
    app.add_exception_handler(HTTPException, http_error_response)
    app.add_middleware(RequestGuard, password=password)
    return app


def add_pages(app: FastAPI, project: Project, background_queries: BackgroundQueries, templates: Environment) -> None:
    def show_overview() -> HTMLResponse:
        context = view.overview_context(project, find_recipe_names(project), background_queries.latest_state())
        return HTMLResponse(templates.get_template("overview.html.j2").render(context))

    def show_recipe(recipe: str) -> HTMLResponse:
        require_recipe(project, recipe)
        context = view.recipe_context(project, recipe, background_queries.latest_state())
        return HTMLResponse(templates.get_template("recipe.html.j2").render(context))

    def show_comparisons(request: Request) -> HTMLResponse:
        query = select_keys(request.query_params, names_in(("recipe", "first", "second"), request.query_params))
        if "recipe" in query:
            require_recipe(project, query["recipe"])
        if not all(VERSION_NUMBER.fullmatch(query.get(name, "1")) for name in ("first", "second")):
            raise HTTPException(404, "expected the numbers of two versions: /compare?recipe=digits&first=1&second=2")
        context = view.compare_context(project, find_recipe_names(project), background_queries.latest_state(), query)
        return HTMLResponse(templates.get_template("compare.html.j2").render(context))

    app.add_api_route("/", show_overview, methods=["GET", "HEAD"])
    app.add_api_route("/compare", show_comparisons, methods=["GET", "HEAD"])
    app.add_api_route("/r/{recipe}", show_recipe, methods=["GET", "HEAD"])
    for name, media_type in (("page.css", "text/css"), ("page.js", "text/javascript"), ("icon.svg", "image/svg+xml")):
        app.add_api_route(f"/{name}", asset_handler(name, media_type))


def asset_handler(name: str, media_type: str) -> Callable[[], Response]:
    """Return the handler of a file of this package; page.css starts with the report's style, so that both look alike."""
    text = resources.files("aeops.page").joinpath("templates", name).read_text(encoding="utf-8")
    if name == "page.css":
        report_css = resources.files("aeops.report").joinpath("templates/report.css").read_text(encoding="utf-8")
        text = "\n".join([theme_css(), report_css, text])
    return lambda: Response(text, media_type=media_type, headers={"cache-control": "no-cache"})


def require_recipe(project: Project, recipe: str) -> None:
    """Raise HTTPException 404 where the project has no such recipe."""
    if recipe not in find_recipe_names(project):
        raise HTTPException(404, f"no recipe {recipe!r} here; / lists them")


# ---------------------------------------------------------------- documents of other programs


@dataclass(frozen=True)
class ForeignDocument:
    """An HTML file that another program wrote, and the content security policy to serve it with."""

    file: Path
    policy: str


def recipe_documents(project: Project, name: str) -> dict[str, ForeignDocument]:
    """Return the documents about a recipe by the last part of their address."""
    monitoring_folder = project.home / "monitoring" / name
    return {
        "report": ForeignDocument(project.reports(name) / "report.html", REPORT_POLICY),
        "monitoring": ForeignDocument(monitoring_folder / "page.html", SCRIPTED_POLICY),
        "drift": ForeignDocument(monitoring_folder / "drift.html", SCRIPTED_POLICY),
        "scoring": ForeignDocument(project.home / "scoring" / name / "latest.html", STATIC_POLICY),
    }


def add_documents(app: FastAPI, project: Project) -> None:
    def show_document(recipe: str, document_name: str) -> Response:
        require_recipe(project, recipe)
        documents = recipe_documents(project, recipe)
        if document_name not in documents:
            raise HTTPException(404, f"{recipe} has no page {document_name!r}, expected one of {', '.join(documents)}")
        response = document_response(documents[document_name])
        if document_name == "monitoring" and (closing := view.read_closed_alarms(project, recipe)):
            response.body = add_note(bytes(response.body), f"The alarms on this page are closed: {closing}.")
            response.headers["content-length"] = str(len(response.body))
        return response

    def show_comparison(recipe: str, first: str, second: str) -> Response:
        require_recipe(project, recipe)
        if not (VERSION_NUMBER.fullmatch(first) and VERSION_NUMBER.fullmatch(second)):
            raise HTTPException(404, f"no comparison of {recipe} {first} and {second}; /compare lists those there are")
        return document_response(ForeignDocument(project.home / "compare" / recipe / f"{first}-{second}.html", STATIC_POLICY))

    def show_data_docs(path: str) -> Response:
        root = project.data_docs.resolve()
        file = (root / path).resolve()
        if file.suffix != ".html" or not file.is_relative_to(root) or is_hidden(file.relative_to(root)):
            raise HTTPException(404, "no such page of the Data Docs")
        return document_response(ForeignDocument(file, STATIC_POLICY))

    app.add_api_route("/r/{recipe}/{document_name}", show_document)
    app.add_api_route("/r/{recipe}/compare/{first}/{second}", show_comparison)
    app.add_api_route("/data-docs/{path:path}", show_data_docs)


def add_note(document: bytes, note: str) -> bytes:
    """Return an HTML document with a note as the first thing on it; the file was written before there was something to note."""
    start, body_tag, rest = document.partition(b"<body>")
    if not body_tag:
        return document
    aside = f'<aside aria-label="Since then" style="margin:1rem;font-weight:bold">{escape(note)}</aside>'
    return start + body_tag + aside.encode() + rest


def is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def document_response(document: ForeignDocument) -> Response:
    """Return the document's content; raise HTTPException 404 where it was not written yet, or there can be no such file."""
    try:
        content = document.file.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise HTTPException(404, f"{document.file.name} is not there yet") from error
    except OSError as error:  # such as a name that is too long, or a file of another user
        raise HTTPException(404, f"{document.file.name[:NAME_LENGTH]} cannot be read ({error.strerror})") from error
    headers = {"content-security-policy": document.policy}
    return Response(content, media_type="text/html; charset=utf-8", headers=headers)


# ---------------------------------------------------------------- the try-it box


class QueueFullError(Exception):
    """Too many samples wait, or one has waited too long."""


class UploadQueue:
    """Samples of the try-it box: how many there may be at once, from the first byte to the answer, and in how many threads."""

    def __init__(self) -> None:
        self.count = 0
        self._limiter = anyio.CapacityLimiter(SCORING_THREADS)

    @contextmanager
    def reserve(self) -> Iterator[None]:
        """Take a place while the block runs; raise QueueFullError where none is left."""
        if self.count >= MAX_UPLOADS:
            raise QueueFullError
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1

    async def run(self, function: Callable[[], TryResult]) -> TryResult:
        """Return the function's result, computed in one of the threads; raise QueueFullError where none is free in time."""
        try:
            with anyio.fail_after(THREAD_WAIT):
                await self._limiter.acquire()
        except TimeoutError as error:
            raise QueueFullError from error
        try:
            return await anyio.to_thread.run_sync(function)
        finally:
            self._limiter.release()


def add_try_it(app: FastAPI, project: Project, background_queries: BackgroundQueries, templates: Environment) -> None:
    upload_queue = UploadQueue()

    async def score_upload(recipe: str, request: Request) -> Response:
        if recipe not in await run_in_threadpool(find_recipe_names, project):
            return text_response(404, f"no recipe {recipe!r} here")
        try:
            with upload_queue.reserve():
                return await answer_upload(recipe, request)
        except QueueFullError:
            return text_response(503, "too many samples at once; try again", {"retry-after": "1"})

    async def answer_upload(recipe: str, request: Request) -> Response:
        content = await read_body(request)
        if content is None:
            return text_response(413, f"expected at most {LARGEST_UPLOAD // 2**20} MiB, got more")
        try:
            upload = parse_upload(request, content)
            result = await upload_queue.run(lambda: score_recipe_sample(project, recipe, background_queries, upload))
        except Exception as error:
            ae_error = as_ae_error(error)
            if ae_error is None:
                raise
            return sample_error_response(ae_error)
        template = templates.get_template("try_result.html.j2")
        return HTMLResponse(template.render(result=result, parts_unit=PARTS_UNIT))

    app.add_api_route("/try/{recipe}", score_upload, methods=["POST"])


def score_recipe_sample(project: Project, recipe: str, background_queries: BackgroundQueries, upload: Upload) -> TryResult:
    service = background_queries.latest_state().service(f"{stack_status.SCORING_PREFIX}{recipe}")
    return try_sample(project, state_files.cached_recipe(project, recipe), service, background_queries.auth_header, upload)


def parse_upload(request: Request, content: bytes) -> Upload:
    """Return the upload with the options of its query and headers; raise UsageError for a row that is no number."""
    options = request.query_params
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    name = unquote(request.headers.get("x-file-name", "")) or "pasted text"
    row = options.get("row", "0")
    if not row.isascii() or not row.isdigit() or len(row) > ROW_DIGITS:
        raise UsageError(f"row: expected a whole number from 0, got {row!r}")
    return Upload(content, media_type, name[:NAME_LENGTH], int(row), options.get("invert", "auto"))


async def read_body(request: Request) -> bytes | None:
    """Return the body, None where it is larger than `LARGEST_UPLOAD`; reads no further than that."""
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > LARGEST_UPLOAD:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def sample_error_response(error: AeError) -> Response:
    """Return the error's message in one line: 503 where something does not answer, else 422."""
    status = 422
    if isinstance(error, InfrastructureError):
        status = 503
    return text_response(status, state_files.one_line(error))


async def http_error_response(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return text_response(error.status_code, str(error.detail))


# ---------------------------------------------------------------- templates


def template_environment() -> Environment:
    """Return the Jinja environment of the page, with its filters."""
    environment = strict_html_environment("aeops.page")
    environment.filters |= {
        "share": format_share,
        "odds": view.odds_text,
        "relative_time": view.relative_time,
        "parse_timestamp": view.parse_timestamp,
        "is_number": state_files.is_number,
        "sample_image": pictures.sample_image,
        "part_name": short_part_name,
    }
    return environment
