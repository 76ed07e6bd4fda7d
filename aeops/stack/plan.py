"""Which services the stack has, where each listens and by what command it is started."""

import json
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

from aeops.files import write_json
from aeops.machine.ports import is_free
from aeops.machine.stack_settings import EVERYWHERE, HOST, Settings
from aeops.project import Project
from aeops.registry import ledger

MLFLOW, PREFECT, WORKER, PAGE, SCORE = "mlflow", "prefect", "worker", "page", "score-"
POOL = "ae"  # the work pool of prefect.yaml
MOST_PORTS = 200  # scoring services that are looked for a port


@dataclass(frozen=True)
class Service:
    """One process to be kept running.

    Attributes:
        address: where people find it; None of a service without one.
        health: what answers 200 while it is well; None of a service that is well while it lives.
        environment: what is set for it beside the supervisor's own environment.
        option: of `ae up`, by which it gets another port.
        waits: whether it is started only when the deployments are made.
    """

    name: str
    command: list[str]
    port: int | None = None
    address: str | None = None
    health: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    api_url: str | None = None
    option: str = ""
    waits: bool = False


def services(project: Project, settings: Settings, recipes: list[str], *, avoid_taken: bool) -> Iterator[Service]:
    """Every service that shall run; a scoring service for each of `recipes`.

    Args:
        avoid_taken: whether a recipe's first port is one that nothing listens at; False where a person is told of those.

    MLflow's or Prefect's server is left out where MLFLOW_TRACKING_URI or PREFECT_API_URL names one elsewhere.
    """
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        yield mlflow_service(project, settings)
    if not elsewhere():
        yield prefect_service(settings)
    yield worker_service(project, settings)
    ports = score_ports(project, settings, recipes, avoid_taken)
    for recipe in recipes:
        yield score_service(settings, recipe, ports[recipe])
    yield page_service(settings)


def elsewhere() -> str | None:
    """The API of a Prefect server that is not the stack's own."""
    return os.environ.get("PREFECT_API_URL")


def api_of(settings: Settings) -> str:
    return elsewhere() or settings.prefect_api


def mlflow_service(project: Project, settings: Settings) -> Service:
    """Always on loopback: its pages have no password and let anybody delete."""
    address = f"http://{HOST}:{settings.mlflow_port}"
    command = mlflow_command(project, settings.mlflow_port)
    return Service(MLFLOW, command, settings.mlflow_port, address, f"{address}/health", option="--mlflow-port")


def mlflow_command(project: Project, port: int) -> list[str]:
    database, artifacts = project.mlflow / "mlflow.db", project.mlflow / "artifacts"
    where = ["--backend-store-uri", f"sqlite:///{database}", "--default-artifact-root", artifacts.as_uri()]
    return [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1", *where]


def prefect_command() -> list[str]:
    return [sys.executable, "-m", "prefect", "server", "start"]


def prefect_settings(host: str, port: int) -> dict[str, str]:
    """The port by its setting, not by --port: the page asks the API where the setting says."""
    return {"PREFECT_SERVER_API_HOST": host, "PREFECT_SERVER_API_PORT": str(port)}


def prefect_service(settings: Settings) -> Service:
    address = settings.url(settings.prefect_port)
    environment = prefect_settings(settings.host, settings.prefect_port) | {
        "PREFECT_UI_URL": address,  # of the links in notifications
        "PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "false",  # done once, before anything opens it
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",  # runs older than 90 days: it shall run for years
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        # By default a server that is started again has forgotten who holds a deployment's one place, and ends those runs.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    }
    if settings.host in EVERYWHERE:
        environment["PREFECT_SERVER_UI_API_URL"] = "/api"  # whatever name the browser came by
    if settings.auth:
        environment["PREFECT_SERVER_API_AUTH_STRING"] = settings.auth
    api, port = settings.prefect_api, settings.prefect_port
    return Service(PREFECT, prefect_command(), port, address, f"{api}/health", environment, api, option="--prefect-port")


def prefect_access(settings: Settings) -> dict[str, str]:
    """What a process needs to reach Prefect's API."""
    return {"PREFECT_API_URL": api_of(settings)} | ({"PREFECT_API_AUTH_STRING": settings.auth} if settings.auth else {})


def worker_service(project: Project, settings: Settings) -> Service:
    """The worker of the process pool; it works in the checkout, and so do the flow runs that it starts."""
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process", "--name", worker_name()]
    environment = (
        prefect_access(settings)
        | checkout_first(project)
        | {
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO",  # its log is a file
        }
    )
    return Service(WORKER, command, environment=environment, waits=True)


def worker_name() -> str:
    return f"ae on {socket.gethostname()}"


def checkout_first(project: Project) -> dict[str, str]:
    """Flow runs shall import this checkout's code, also where another one is installed."""
    return {"PYTHONPATH": os.pathsep.join([str(project.root), *filter(None, [os.environ.get("PYTHONPATH")])])}


def guarded(settings: Settings) -> list[str]:
    """The options by which a service of our own listens elsewhere than on loopback."""
    if settings.password_file is None:
        return []
    return ["--host", settings.host, "--password-file", settings.password_file]


def score_service(settings: Settings, recipe: str, port: int) -> Service:
    command = [sys.executable, "-m", "aeops.cli.main", "serve", recipe, "--port", str(port), *guarded(settings)]
    address = settings.url(port)
    return Service(f"{SCORE}{recipe}", command, port, address, f"{address}/healthz", option="--score-port")


def page_service(settings: Settings) -> Service:
    command = [sys.executable, "-m", "aeops.page", "--port", str(settings.page_port), *guarded(settings)]
    address = settings.url(settings.page_port)
    return Service(PAGE, command, settings.page_port, address, f"{address}/healthz", option="--page-port")


# ---------------------------------------------------------------- champions and their ports


def crowned(project: Project) -> list[str]:
    """The recipes that have a champion, by their ledgers."""
    return [recipe for recipe in ledger.recipes_with_ledger(project) if ledger.champion(ledger.look(project, recipe).lines)]


def score_ports(project: Project, settings: Settings, recipes: list[str], avoid_taken: bool) -> dict[str, int]:
    """A port for each recipe from `--score-port` on, the same one at every start: `.ae/stack/ports.json` remembers."""
    file = project.home / "stack" / "ports.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    ports: dict[str, int] = known.get("ports", {}) if known.get("from") == settings.score_port else {}
    fresh = [recipe for recipe in recipes if recipe not in ports]
    for recipe in fresh:
        offered = (port for port in range(settings.score_port, settings.score_port + MOST_PORTS) if port not in ports.values())
        ports[recipe] = next(port for port in offered if not avoid_taken or is_free(settings.host, port))
    if fresh:
        write_json(file, {"from": settings.score_port, "ports": ports})
    return ports
