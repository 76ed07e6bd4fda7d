"""The servers that a run needs around it: a real Prefect server where one is running, else one for as long as the run takes."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aeops.errors import InfrastructureError
from aeops.machine.stack_settings import HOST
from aeops.project import Project

HEALTHY_WITHIN = 120  # seconds, on a busy machine with a fresh database
STOP_WITHIN = 10  # seconds a server may take to stop before it is killed


def answers(address: str) -> bool:
    """Whether something answers 200 at an address."""
    try:
        with urllib.request.urlopen(address, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


def wait_until_healthy(child: subprocess.Popen[bytes], address: str) -> None:
    """Waits until a server answers at its health address.

    Raises:
        InfrastructureError: it ended, or did not answer in time.
    """
    deadline = time.monotonic() + HEALTHY_WITHIN
    while time.monotonic() < deadline and child.poll() is None:
        if answers(address):
            return
        time.sleep(0.1)
    ended = child.poll() is not None
    how = f"ended with exit code {child.returncode}" if ended else f"did not answer within {HEALTHY_WITHIN} s"
    raise InfrastructureError(f"the server at {address} {how}: type `ae doctor` to see why, then the same command again")


def running_prefect(project: Project) -> str | None:
    """The API address of the Prefect server that `ae up` has started here, if it answers.

    Where that asks for a password, PREFECT_API_AUTH_STRING is set for whatever in this process goes there.
    """
    note = project.home / "services" / "prefect.json"
    if not note.is_file():
        return None
    address = str(json.loads(note.read_text(encoding="utf-8"))["api_url"])
    if not answers(f"{address}/health"):
        return None
    from aeops.machine.stack_settings import read_settings

    settings = read_settings(project)
    if settings is not None and settings.auth and settings.prefect_api == address:
        os.environ["PREFECT_API_AUTH_STRING"] = settings.auth
    return address


def prefect_access() -> tuple[str, str | None]:
    """Address and user:password of the API that this process talks to, inside `prefect_server`."""
    return os.environ["PREFECT_API_URL"], os.environ.get("PREFECT_API_AUTH_STRING")


@contextmanager
def prefect_server(project: Project) -> Iterator[Callable[[], None]]:
    """Makes PREFECT_API_URL name a server: the user's, that of `ae up`, else one of our own that ends with the block.

    Our own starts at once and meanwhile the caller may import what it needs. It is on a leash: Prefect's built-in
    temporary server would outlive a run that is killed.

    Yields:
        A function that waits until the server answers.
    """
    address = os.environ.get("PREFECT_API_URL") or running_prefect(project)
    if address is not None:
        os.environ["PREFECT_API_URL"] = address
        yield lambda: None
        return
    port = free_port()
    address = os.environ["PREFECT_API_URL"] = f"http://{HOST}:{port}/api"
    child = subprocess.Popen(server_command(port), env=os.environ | TEMPORARY, cwd=project.root)
    try:
        yield lambda: wait_until_healthy(child, f"{address}/health")
    finally:
        del os.environ["PREFECT_API_URL"]
        stop(child)


# What Prefect gives its own temporary server: no pages, and only the services that one run needs.
TEMPORARY = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}


def server_command(port: int) -> list[str]:
    app = ["--factory", "prefect.server.api.server:create_app", "--lifespan", "on", "--log-level", "error"]
    return [sys.executable, "-m", "aeops.machine.run_child", "uvicorn", *app, "--host", HOST, "--port", str(port)]


def stop(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(timeout=STOP_WITHIN)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextmanager
def mlflow_migrations(project: Project) -> Iterator[None]:
    """Makes MLflow's database in a process of its own meanwhile; whoever opens it first waits for that."""
    child = subprocess.Popen([sys.executable, "-m", "aeops.registry.create_database"], cwd=project.root)
    try:
        yield
    finally:
        child.wait()  # never cut short: a database half migrated is a database lost
