"""The page over all recipes: FastAPI and templates on the server's side, reading only.

GET  /                     every recipe in a card
GET  /r/RECIPE             all about one
GET  /r/RECIPE/report      documents that others wrote, each in a sandbox: report, monitoring, drift, scoring
GET  /data-docs/...        Great Expectations' pages
POST /try/RECIPE           a sample in, its score as a piece of page out; errors are one line of text
GET  /healthz              200 while it answers
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.exceptions import HTTPException

from aeops.drawing.svg import theme_css
from aeops.drawing.words import share
from aeops.errors import InfrastructureError, UsageError, as_ae_error
from aeops.machine.passwords import USER
from aeops.page import pictures, stack_status, state_files, try_it, view
from aeops.page.background_query import Kept
from aeops.page.registry_client import Registry, names
from aeops.page.request_guard import Guard, tell
from aeops.page.try_it import LARGEST_UPLOAD
from aeops.project import Project

SOON, SELDOM = 5.0, 30.0  # seconds between two questions to the neighbours, and to verify ledgers
LONGEST_NAME = 200  # characters of a file's name that a prediction keeps

# What a browser lets a document do that this page did not write itself: its own styles and pictures, no forms, no other place.
DOCUMENT = (
    "sandbox allow-popups; default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; frame-ancestors 'self'"
)
# Evidently's report draws itself: it may run its own scripts, in an origin of its own, from which nothing here can be reached.
DRAWING = (
    "sandbox allow-scripts allow-popups; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval' data: blob:; "
    "style-src 'unsafe-inline' data:; img-src data: blob:; font-src data:; worker-src blob:; frame-ancestors 'self'"
)


def documents(project: Project, name: str) -> dict[str, tuple[Path, str]]:
    """The pages that others wrote about a recipe, by the last word of their address, with what a browser lets them do."""
    monitoring = project.home / "monitoring" / name
    return {
        "report": (project.reports(name) / "report.html", DOCUMENT),
        "monitoring": (monitoring / "page.html", DRAWING),
        "drift": (monitoring / "drift.html", DRAWING),
        "scoring": (project.home / "scoring" / name / "latest.html", DOCUMENT),
    }


class Watch:
    """Everything that is asked in the background."""

    def __init__(self, project: Project, password: str | None) -> None:
        self.access = None if password is None else stack_status.basic(f"{USER}:{password}")  # one password for all of the stack
        self.registry = Registry(project)
        self.held = Kept(self.registry.snapshot, SOON, "registry")
        self.faults = Kept(self.registry.faults, SELDOM, "ledgers")
        self.services = Kept(lambda: stack_status.services(project, self.access), SOON, "services")
        self.plans = Kept(lambda: stack_status.plans(project, self.access), SOON, "prefect")

    def start(self) -> None:
        for kept in (self.services, self.plans, self.held, self.faults):
            kept.start()

    def close(self) -> None:
        for kept in (self.services, self.plans, self.held, self.faults):
            kept.close()
        self.registry.close()

    def seen(self) -> view.Seen:
        return view.Seen(self.held.now(), self.faults.now(), self.services.now(), self.plans.now())


def build_app(project: Project, password: str | None = None) -> FastAPI:
    """The page.

    Args:
        password: see `Guard`.
    """
    watch, templates = Watch(project, password), environment()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        watch.start()
        yield
        await run_in_threadpool(watch.close)

    app = FastAPI(title="page", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    add_pages(app, project, watch, templates)
    add_documents(app, project)
    add_try(app, project, watch, templates)
    app.add_api_route("/healthz", lambda: {"status": "ok"})
    app.add_exception_handler(HTTPException, tell_http_error)
    app.add_middleware(Guard, password=password)
    return app


def add_pages(app: FastAPI, project: Project, watch: Watch, templates: Environment) -> None:
    def page(template: str, about: Callable[[], dict[str, Any]]) -> HTMLResponse:
        return HTMLResponse(templates.get_template(template).render(about()))

    def overview() -> HTMLResponse:
        return page("overview.html.j2", lambda: view.overview(project, names(project), watch.seen()))

    def recipe(recipe: str) -> HTMLResponse:
        require_known(project, recipe)
        return page("recipe.html.j2", lambda: view.recipe_page(project, recipe, watch.seen()))

    app.add_api_route("/", overview, methods=["GET", "HEAD"])
    app.add_api_route("/r/{recipe}", recipe, methods=["GET", "HEAD"])
    for name, kind in (("page.css", "text/css"), ("page.js", "text/javascript"), ("icon.svg", "image/svg+xml")):
        app.add_api_route(f"/{name}", asset(name, kind))


def asset(name: str, kind: str) -> Callable[[], Response]:
    """A file of this package, read once; the style stands on the report's, so that both look alike."""
    folder = resources.files("aeops.page").joinpath("templates")
    text = folder.joinpath(name).read_text(encoding="utf-8")
    if name == "page.css":
        report = resources.files("aeops.report").joinpath("templates/report.css").read_text(encoding="utf-8")
        text = "\n".join([theme_css(), report, text])
    return lambda: Response(text, media_type=kind, headers={"cache-control": "no-cache"})


def require_known(project: Project, recipe: str) -> None:
    if recipe not in names(project):
        raise HTTPException(404, f"no recipe {recipe!r} here; / lists them")


# ---------------------------------------------------------------- documents of others


def add_documents(app: FastAPI, project: Project) -> None:
    def document(recipe: str, which: str) -> Response:
        require_known(project, recipe)
        if which not in (known := documents(project, recipe)):
            raise HTTPException(404, f"no page {which!r} of {recipe}; {', '.join(known)} may be there")
        file, policy = known[which]
        return html_file(file, policy)

    def data_docs(path: str) -> Response:
        root = project.data_docs.resolve()
        file = (root / path).resolve()
        inside = file.is_relative_to(root) and not any(word.startswith(".") for word in file.relative_to(root).parts)
        if not inside or file.suffix != ".html":
            raise HTTPException(404, "no such page of the Data Docs")
        return html_file(file, DOCUMENT)

    app.add_api_route("/r/{recipe}/{which}", document)
    app.add_api_route("/data-docs/{path:path}", data_docs)


def html_file(file: Path, policy: str) -> Response:
    try:
        content = file.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise HTTPException(404, f"{file.name} is not there yet") from error
    return Response(content, media_type="text/html; charset=utf-8", headers={"content-security-policy": policy})


# ---------------------------------------------------------------- the try-it box


def add_try(app: FastAPI, project: Project, watch: Watch, templates: Environment) -> None:
    async def try_it(recipe: str, request: Request) -> Response:
        if recipe not in await run_in_threadpool(names, project):
            return tell(404, f"no recipe {recipe!r} here")
        content = await limited_body(request)
        if content is None:
            return tell(413, f"more than {LARGEST_UPLOAD // 2**20} MiB given; that is the most")
        try:
            given = read_given(request, content)
            found = await run_in_threadpool(attempt, project, recipe, watch, given)
        except Exception as error:
            known = as_ae_error(error)
            if known is None:
                raise
            return tell(503 if isinstance(known, InfrastructureError) else 422, " ".join(str(known).split()))
        return HTMLResponse(templates.get_template("tried.html.j2").render(tried=found))

    app.add_api_route("/try/{recipe}", try_it, methods=["POST"])


def attempt(project: Project, recipe: str, watch: Watch, given: try_it.Given) -> try_it.Tried:
    service = watch.seen().service(f"{stack_status.SCORING}{recipe}")
    return try_it.try_sample(project, state_files.recipe(project, recipe), service, watch.access, given)


def read_given(request: Request, content: bytes) -> try_it.Given:
    asked, kind = request.query_params, request.headers.get("content-type", "").partition(";")[0].strip().lower()
    name = unquote(request.headers.get("x-file-name", "")) or "what was pasted"
    row = asked.get("row", "0")
    if not row.isascii() or not row.isdigit() or len(row) > 9:
        raise UsageError(f"row {row!r} given; a whole number from 0 is allowed")
    return try_it.Given(content, kind, name[:LONGEST_NAME], int(row), asked.get("invert", "auto"))


async def limited_body(request: Request) -> bytes | None:
    """The body, read no further than is allowed; None where it is larger."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > LARGEST_UPLOAD:
            return None
        parts.append(part)
    return b"".join(parts)


async def tell_http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return tell(error.status_code, str(error.detail))


# ---------------------------------------------------------------- templates


def environment() -> Environment:
    """Jinja2 that escapes everything and stops at a name that is not there."""
    made = Environment(
        loader=PackageLoader("aeops.page"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters |= {
        "share": share,
        "ago": view.ago,
        "moment": view.moment,
        "is_number": state_files.is_number,
        "picture": pictures.of_sample,
    }
    return made
