"""`ae ui`: MLflow's and Prefect's pages over this project's state, on loopback, until Ctrl-C."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aeops.errors import InfrastructureError
from aeops.project import Project, find_project
from aeops.servers import HOST, STOP_WITHIN, wait_until_healthy


def add(verbs: Any) -> None:
    verb = verbs.add_parser("ui", help="show MLflow's and Prefect's pages in the browser (loopback only)")
    verb.add_argument("--mlflow-port", type=int, default=5000, help="port of MLflow's page (5000)")
    verb.add_argument("--prefect-port", type=int, default=4200, help="port of Prefect's page (4200)")
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Starts both servers, prints where they are, and stops them at Ctrl-C or SIGTERM."""
    from aeops.environment import prepare_environment, require_room
    from aeops.ports import require_free
    from aeops.registry.store import open_store

    project = find_project()
    require_room(project)
    prepare_environment(project)
    require_free(HOST, arguments.mlflow_port, "--mlflow-port PORT")
    require_free(HOST, arguments.prefect_port, "--prefect-port PORT")
    open_store(project)  # migrates a fresh database before the server opens it
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both ways to end it go the same way
    with (
        server(mlflow_command(project, arguments.mlflow_port), project.logs / "mlflow-server.log") as mlflow,
        prefect_server(project, arguments.prefect_port) as prefect,
    ):
        wait_until_healthy(mlflow, f"http://{HOST}:{arguments.mlflow_port}/health")
        wait_until_healthy(prefect, f"http://{HOST}:{arguments.prefect_port}/api/health")
        print(f"MLflow     http://{HOST}:{arguments.mlflow_port}\nPrefect    http://{HOST}:{arguments.prefect_port}")
        for pages in sorted(project.data_docs.glob("*/index.html")):
            print(f"Data Docs  {pages.as_uri()}")
        print("Ctrl-C stops them; runs started meanwhile show up here as they go", flush=True)
        try:
            while mlflow.poll() is None and prefect.poll() is None:
                time.sleep(0.5)
        except KeyboardInterrupt:
            return 0
    raise InfrastructureError(f"a server ended by itself; what it printed is in {project.logs}: type `ae doctor`, then `ae ui`")


def mlflow_command(project: Project, port: int) -> list[str]:
    database, artifacts = project.mlflow / "mlflow.db", project.mlflow / "artifacts"
    where = ["--backend-store-uri", f"sqlite:///{database}", "--default-artifact-root", artifacts.as_uri()]
    return [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1", *where]


@contextmanager
def server(command: list[str], log: Path, settings: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A server process in a session of its own, ended with all its children on the way out; what it prints goes to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        child = subprocess.Popen(command, env=os.environ | (settings or {}), start_new_session=True, stdout=file, stderr=file)
    try:
        yield child
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGTERM)
            try:
                child.wait(timeout=STOP_WITHIN)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


@contextmanager
def prefect_server(project: Project, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Prefect's server, with a note of its address so that runs of this project report to it."""
    # The port by its setting, not by --port: the page asks the API where the setting says.
    settings = {"PREFECT_SERVER_API_HOST": HOST, "PREFECT_SERVER_API_PORT": str(port)}
    note = project.home / "services" / "prefect.json"
    note.parent.mkdir(parents=True, exist_ok=True)
    with server([sys.executable, "-m", "prefect", "server", "start"], project.logs / "prefect-server.log", settings) as child:
        write_note(note, {"api_url": f"http://{HOST}:{port}/api", "pid": child.pid})
        try:
            yield child
        finally:
            note.unlink(missing_ok=True)


def write_note(note: Path, facts: dict[str, Any]) -> None:
    aside = note.with_suffix(".aside")
    aside.write_text(json.dumps(facts) + "\n", encoding="utf-8")
    aside.replace(note)
