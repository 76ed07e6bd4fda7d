"""The servers that a run needs: the user's Prefect server, that of `ae up`, or one that lives as long as the run."""

import os
import subprocess
import sys
import time
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from aeops.errors import InfrastructureError
from aeops.machine.access import may_read
from aeops.machine.network import HOST, find_free_port, open_url
from aeops.machine.passwords import USER
from aeops.machine.prefect_access import PrefectAccess, external_prefect, new_password, recorded_access, use_prefect
from aeops.machine.stack_settings import settings_file
from aeops.machine.stored_json import read_json_if_whole
from aeops.project import Project

_HEALTHY_TIMEOUT = 120  # seconds, on a busy machine with a fresh database
_STOP_TIMEOUT = 10  # seconds a server may take to stop before it is killed
# As Prefect sets up its own temporary server: no pages, and only the services that one run needs.
TEMPORARY_SERVER = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}


def is_healthy(address: str) -> bool:
    """Return True where a server responds with 200 at an address within 2 s."""
    try:
        with open_url(address, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


def wait_until_healthy(process: "subprocess.Popen[bytes]", address: str) -> None:
    """Wait until a server that is starting responds at its health address.

    Raises:
        InfrastructureError: it ended, or did not respond within 120 s.
    """
    deadline = time.monotonic() + _HEALTHY_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        if is_healthy(address):
            return
        time.sleep(0.1)
    outcome = f"did not respond within {_HEALTHY_TIMEOUT} s"
    if process.poll() is not None:
        outcome = f"ended with exit code {process.returncode}"
    raise InfrastructureError(f"the server at {address} {outcome}: type `ae doctor` to see why, then the same command again")


def find_running_prefect(project: Project) -> PrefectAccess | None:
    """Return the access to the Prefect server that `ae up` has started here; None where none responds.

    Raises:
        AeError: its secret cannot be read.
    """
    address = service_address(project, "prefect", "api_url")
    if address is None or not is_healthy(f"{address}/health"):
        return None
    if not may_read(settings_file(project)):  # only the user who typed `ae up` knows the secret
        return PrefectAccess(address, None)
    return recorded_access(project, address)


def service_address(project: Project, name: str, key: str = "address") -> str | None:
    """Return an address from the record of a service of this state folder's stack; None where there is none."""
    document = read_json_if_whole(project.home / "services" / f"{name}.json", key)
    if document is None or not is_own_log(project, document.get("log")):
        return None
    return str(document[key])


def is_own_log(project: Project, log: object) -> bool:
    """Return False where a service's log is in another state folder: the record came here in a copy, and the service did not."""
    return not isinstance(log, str) or Path(log).parent == project.logs


@contextmanager
def prefect_server(project: Project) -> Iterator[Callable[[], None]]:
    """Let this process use a Prefect server: the user's, that of `ae up`, else a temporary one that ends with the block.

    The temporary one starts at once, and the caller may import what it needs while it does. It dies with this process:
    Prefect's built-in temporary server would outlive a run that is killed. Its secret is known to this process and its
    children alone: see `external_prefect`, which returns the server that is in use.

    Yields:
        A function that waits until the server responds.
    """
    access = external_prefect() or find_running_prefect(project)
    if access is not None:
        use_prefect(access)
        yield lambda: None
        return
    port = find_free_port()
    access = PrefectAccess(f"http://{HOST}:{port}/api", f"{USER}:{new_password()}")
    use_prefect(access)
    environment = os.environ | TEMPORARY_SERVER | {"PREFECT_SERVER_API_AUTH_STRING": str(access.credentials)}
    process = subprocess.Popen(prefect_server_command(port), env=environment, cwd=project.root)
    try:
        yield lambda: wait_until_healthy(process, f"{access.api_url}/health")
    finally:
        del os.environ["PREFECT_API_URL"], os.environ["PREFECT_API_AUTH_STRING"]
        stop_server(process)


def prefect_server_command(port: int) -> list[str]:
    """Return the command of a temporary Prefect server that dies with its parent."""
    options = ["--host", HOST, "--port", str(port), "--log-level", "error"]
    return [sys.executable, "-m", "aeops.machine.run_child", "aeops.machine.prefect_server", *options]


def stop_server(process: "subprocess.Popen[bytes]") -> None:
    """Terminate a server and wait for its end; kill it after 10 s."""
    process.terminate()
    try:
        process.wait(timeout=_STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def mlflow_migrations(project: Project) -> Iterator[None]:
    """Make MLflow's database in a child process while the block runs; a process that opens it before waits for that."""
    process = subprocess.Popen([sys.executable, "-m", "aeops.registry.create_database"], cwd=project.root)
    try:
        yield
    finally:
        process.wait()  # never cut short: a database half migrated is a database lost
