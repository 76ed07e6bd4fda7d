"""The settings of every process we start: state under AE_HOME, telemetry off, quiet logs. Set before the libraries load."""

import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from aeops.errors import InfrastructureError
from aeops.project import Project
from aeops.registry.environment import quiet_environment

ROOM_NEEDED = 512 * 2**20  # bytes: a dataset, its copies in DVC's cache and remote, models and databases


def require_room(project: Project) -> None:
    """Makes the state folder and refuses to start a run that its disk cannot hold.

    Raises:
        InfrastructureError: the folder cannot be written, or too little space is left on its disk.
    """
    try:
        project.home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InfrastructureError(f"cannot make the state folder {project.home} ({error.strerror}): set AE_HOME to a folder you may write") from error
    if not os.access(project.home, os.W_OK):
        raise InfrastructureError(f"cannot write in the state folder {project.home}: set AE_HOME to a folder you may write")
    free = shutil.disk_usage(project.home).free
    if free < ROOM_NEEDED:
        raise InfrastructureError(
            f"{free / 2**20:.0f} MiB free on the disk of the state folder {project.home}, at least {ROOM_NEEDED / 2**20:.0f} MiB needed: "
            "free some, or set AE_HOME to a folder on a larger disk; nothing was started"
        )


def prepare_environment(project: Project) -> None:
    """Sets what the libraries read when they are imported; what the user has set already stays."""
    quiet_environment()
    settings = {
        "AE_HOME": str(project.home),
        "PREFECT_HOME": str(project.prefect),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",  # the default of 20 s fails on a busy machine
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # the terminal gets our messages; the run's page keeps the log
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    if "PREFECT_API_URL" not in os.environ and (address := running_prefect(project)):
        os.environ["PREFECT_API_URL"] = address


def running_prefect(project: Project) -> str | None:
    """The address of the Prefect server that `ae ui` has started here, if it answers."""
    note = project.home / "services" / "prefect.json"
    if not note.is_file():
        return None
    address = str(json.loads(note.read_text(encoding="utf-8"))["api_url"])
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=2) as answer:
            return address if answer.status == 200 else None
    except (urllib.error.URLError, TimeoutError):
        return None  # a server that has gone: the run starts one of its own


@contextmanager
def background_migrations(project: Project) -> Iterator[None]:
    """Prepares MLflow's database in a process of its own while Prefect starts; whoever opens it first waits for that."""
    child = subprocess.Popen([sys.executable, "-m", "aeops.registry.migrate"], cwd=project.root)
    try:
        yield
    finally:
        child.wait()  # never cut short: a database half migrated is a database lost
