"""The services of the stack: the address and the command of each."""

import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from aeops.errors import InfrastructureError
from aeops.files import write_json
from aeops.machine.lock import file_lock
from aeops.machine.network import HOST, is_port_free
from aeops.machine.prefect_access import external_prefect_api, login_file, prefect_access, stack_credentials
from aeops.machine.stack_settings import Settings
from aeops.machine.stored_json import read_json_if_whole
from aeops.project import Project
from aeops.registry import ledger

MLFLOW, PREFECT, WORKER_SERVICE, PAGE_SERVICE, SCORE = "mlflow", "prefect", "worker", "page", "score-"
WORK_POOL = "ae"  # the work pool of prefect.yaml
_MAX_SCORE_PORTS = 200


@dataclass(frozen=True)
class ServiceDefinition:
    """One process to be kept running.

    Attributes:
        address: its URL; None of a service without one.
        health: the address that responds with 200 while it is healthy; None of a service that is healthy while it lives.
        environment: is added to the supervisor's own environment.
        api_url: of Prefect's server alone.
        option: of `ae up`, by which it gets another port.
        needs_deployments: start it only after the deployments are made.
    """

    name: str
    command: list[str]
    port: int | None = None
    address: str | None = None
    health: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    api_url: str | None = None
    option: str = ""
    needs_deployments: bool = False


def define_services(
    project: Project, settings: Settings, recipes: list[str], *, skip_used_ports: bool
) -> Iterator[ServiceDefinition]:
    """Yield every service of the stack; a scoring service for each of `recipes`.

    MLflow's or Prefect's server is left out where MLFLOW_TRACKING_URI or PREFECT_API_URL names an external one.

    Args:
        skip_used_ports: choose the first port of a recipe among those that nothing listens at; False to report the used ones.
    """
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        yield mlflow_service(settings)
    if not external_prefect_api():
        yield prefect_service(project, settings)
    yield worker_service(project, settings)
    ports = score_ports(project, settings, recipes, skip_used_ports=skip_used_ports)
    for recipe in recipes:
        yield score_service(settings, recipe, ports[recipe])
    yield page_service(settings)


def mlflow_service(settings: Settings) -> ServiceDefinition:
    """Define MLflow's server, always on loopback: its pages have no password and let anybody delete."""
    address = f"http://{HOST}:{settings.mlflow_port}"
    command = [sys.executable, "-m", "aeops.registry.mlflow_server", "--port", str(settings.mlflow_port)]
    return ServiceDefinition(MLFLOW, command, settings.mlflow_port, address, f"{address}/health", option="--mlflow-port")


def prefect_command(settings: Settings) -> list[str]:
    options = ["--host", settings.host, "--port", str(settings.prefect_port)]
    if settings.password_file is not None:  # whose users may reach it by any name, such as that of a proxy
        options.append("--any-name")
    return [sys.executable, "-m", "aeops.machine.prefect_server", *options]


def prefect_settings(host: str, port: int) -> dict[str, str]:
    """Return the variables of Prefect's address: its page reads the port from the setting, not from --port."""
    return {"PREFECT_SERVER_API_HOST": host, "PREFECT_SERVER_API_PORT": str(port)}


def prefect_service(project: Project, settings: Settings) -> ServiceDefinition:
    """Define Prefect's server.

    Raises:
        AeError: there is no secret for it, or none that only its owner can read.
    """
    address = settings.url(settings.prefect_port)
    credentials = stack_credentials(project, settings)
    if credentials is None:
        raise InfrastructureError(f"{login_file(project)} is missing: type `ae up`, which makes it")
    environment = prefect_settings(settings.host, settings.prefect_port) | {
        "PREFECT_UI_URL": address,  # of the links in notifications
        "PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "false",  # done once, before a process opens it
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,orphans",  # flow runs: aeops/stack/retention.py
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        # By default a restarted server does not know which run holds a deployment's concurrency slot, and ends those runs.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        # Its page asks the API under the name that the browser uses, and no page of another origin may.
        "PREFECT_SERVER_UI_API_URL": "/api",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": address,
        "PREFECT_SERVER_API_AUTH_STRING": credentials,
    }
    api, port = settings.prefect_api, settings.prefect_port
    return ServiceDefinition(
        PREFECT, prefect_command(settings), port, address, f"{api}/health", environment, api, option="--prefect-port"
    )


def worker_service(project: Project, settings: Settings) -> ServiceDefinition:
    """Define the worker of the process pool; it runs in the checkout, and so do the flow runs that it starts."""
    command = [
        sys.executable,
        "-m",
        "prefect",
        "worker",
        "start",
        "--pool",
        WORK_POOL,
        "--type",
        "process",
        "--name",
        worker_name(),
    ]
    environment = (
        prefect_access(project, settings).environment()
        | python_path(project)
        | {
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO",  # its log is a file
        }
    )
    return ServiceDefinition(WORKER_SERVICE, command, environment=environment, needs_deployments=True)


def worker_name() -> str:
    return f"ae on {socket.gethostname()}"


def python_path(project: Project) -> dict[str, str]:
    """Return the variable by which flow runs import this checkout's code, also where another one is installed."""
    return {"PYTHONPATH": os.pathsep.join([str(project.root), *filter(None, [os.environ.get("PYTHONPATH")])])}


def _listen_options(settings: Settings) -> list[str]:
    """Return the options by which a service of this package listens at another address than loopback."""
    if settings.password_file is None:
        return []
    return ["--host", settings.host, "--password-file", settings.password_file]


def score_service(settings: Settings, recipe: str, port: int) -> ServiceDefinition:
    command = [sys.executable, "-m", "aeops.cli.main", "serve", recipe, "--port", str(port), *_listen_options(settings)]
    address = settings.url(port)
    return ServiceDefinition(f"{SCORE}{recipe}", command, port, address, f"{address}/healthz", option="--score-port")


def page_service(settings: Settings) -> ServiceDefinition:
    command = [sys.executable, "-m", "aeops.page", "--port", str(settings.page_port), *_listen_options(settings)]
    address = settings.url(settings.page_port)
    return ServiceDefinition(PAGE_SERVICE, command, settings.page_port, address, f"{address}/healthz", option="--page-port")


# ---------------------------------------------------------------- champions and their ports


def recipes_with_champion(project: Project) -> list[str]:
    """Return the recipes that have a champion, by their ledgers."""
    recipes = []
    for recipe in ledger.recipes_with_ledger(project):
        if ledger.champion_at(ledger.read_content(project, recipe).entries):
            recipes.append(recipe)
    return recipes


def score_ports(project: Project, settings: Settings, recipes: list[str], *, skip_used_ports: bool) -> dict[str, int]:
    """Return a port for each recipe from `--score-port` on, the same one at every start: `.ae/stack/ports.json` stores it.

    Raises:
        InfrastructureError: 200 ports from `--score-port` on are in use.
    """
    ports = _read_ports(project, settings)
    if set(recipes) <= ports.keys():
        return ports
    with file_lock(project, "ports"):  # the supervisor and `ae up` both get here
        ports = _read_ports(project, settings)
        for recipe in recipes:
            if recipe not in ports:
                ports[recipe] = _choose_port(settings, set(ports.values()), skip_used_ports)
        write_json(_ports_file(project), {"from": settings.score_port, "ports": ports})
    return ports


def _choose_port(settings: Settings, assigned_ports: set[int], skip_used_ports: bool) -> int:
    for port in range(settings.score_port, settings.score_port + _MAX_SCORE_PORTS):
        if port not in assigned_ports and (not skip_used_ports or is_port_free(settings.host, port)):
            return port
    raise InfrastructureError(
        f"no port is free from --score-port {settings.score_port} on: type `ae down`, then `ae up` with another --score-port"
    )


def _ports_file(project: Project) -> Path:
    return project.home / "stack" / "ports.json"


def _read_ports(project: Project, settings: Settings) -> dict[str, int]:
    document = read_json_if_whole(_ports_file(project), "from", "ports")
    if document is None or document["from"] != settings.score_port:
        return {}
    ports: dict[str, int] = document["ports"]
    return ports
