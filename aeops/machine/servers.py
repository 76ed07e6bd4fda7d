"""The servers that a run needs: the user's Prefect server, that of `ae up`, or one that lives as long as the run."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from aeops.errors import InfrastructureError
from aeops.machine.access import may_read
from aeops.machine.lock import file_lock
from aeops.machine.network import HOST, find_free_port, is_own_address, open_url
from aeops.machine.parent_process import parent_environment
from aeops.machine.passwords import USER
from aeops.machine.prefect_access import (
    PrefectAccess,
    external_prefect,
    new_password,
    recorded_access,
    use_prefect,
    using_prefect,
)
from aeops.machine.run_watch import CONTINUE_HINT
from aeops.machine.service_records import read_service_record
from aeops.machine.stack_settings import settings_file
from aeops.project import Project

_HEALTHY_TIMEOUT = 120  # seconds, on a busy machine with a fresh database
_STOP_TIMEOUT = 10  # seconds a server may take to stop before it is killed
_GONE_TIMEOUT = 60.0  # seconds without a connection after which a run gives up; Prefect's own retries take as long
_CONNECTION_TIMEOUT = 2.0  # seconds
# As Prefect sets up its own temporary server: no pages, and only the services that one run needs.
TEMPORARY_SERVER = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}


def is_healthy(address: str) -> bool:
    """Return True where a server responds with 200 at an address within 2 s."""
    try:
        with open_url(address, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


def accepts_connections(address: str) -> bool:
    """Return True where something listens at the host and port of an address.

    Unlike a response it does not depend on the load: the kernel accepts, however busy the server is.
    """
    parts = urllib.parse.urlsplit(address)
    port = parts.port or {"https": 443}.get(parts.scheme, 80)
    try:
        socket.create_connection((str(parts.hostname), port), timeout=_CONNECTION_TIMEOUT).close()
    except OSError:
        return False
    return True


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
    access = recorded_prefect(project)
    if access is None or not is_healthy(f"{access.api_url}/health"):
        return None
    return access


def recorded_prefect(project: Project) -> PrefectAccess | None:
    """Return the access to the Prefect server that `ae up` has started here, whether it responds or not; None without one.

    Raises:
        AeError: its secret cannot be read.
    """
    record = read_service_record(project, "prefect")
    if record is None or record.api_url is None:
        return None
    if is_stack_of_another(project):
        return PrefectAccess(record.api_url, None)
    return recorded_access(project, record.api_url)


def is_stack_of_another(project: Project) -> bool:
    """Return True where another user has typed `ae up`: only that user knows the secret of the stack's Prefect server."""
    file = settings_file(project)
    return os.path.lexists(file) and not may_read(file)


class PrefectServer:
    """The server that a run reports to.

    Attributes:
        access: its address and its secret.
        is_of_stack: True of the server of `ae up`.
        process: of a temporary server; None of any other.
    """

    def __init__(
        self,
        project: Project,
        access: PrefectAccess,
        *,
        is_of_stack: bool = False,
        process: "subprocess.Popen[bytes] | None" = None,
        starting: ExitStack | None = None,
    ) -> None:
        """Watch a server; `starting` is closed once it responds."""
        self.project, self.access, self.is_of_stack, self.process = project, access, is_of_stack, process
        self._starting = starting or ExitStack()
        self._last_connection = time.monotonic()

    @property
    def is_listening(self) -> bool:
        """Whether it accepts connections; True of a server elsewhere, which Prefect's client may reach through a proxy only."""
        server = urllib.parse.urlsplit(self.access.api_url).netloc
        return not is_own_address(server) or accepts_connections(self.access.api_url)

    def wait_until_ready(self) -> None:
        """Wait until a temporary server responds; raises as `wait_until_healthy` does."""
        if self.process is not None:
            wait_until_healthy(self.process, f"{self.access.api_url}/health")
        self._starting.close()
        self._last_connection = time.monotonic()

    def find_problem(self) -> str | None:
        """Return why a run can no longer count on the server; None where it listens, or may do so again within a minute.

        The server of `ae up` is started again where it dies, and a run goes on then. One that listens and is slow is waited for.
        One on another machine is left to the retries of Prefect's client.
        """
        if self.process is not None and self.process.poll() is not None:
            return (
                f"the Prefect server that this run had started has ended (exit code {self.process.returncode}); {CONTINUE_HINT}"
            )
        if self.is_listening:
            self._last_connection = time.monotonic()
        elif self.is_of_stack and not settings_file(self.project).is_file():
            return f"the stack was stopped (`ae down`), and with it the Prefect server at {self.access.api_url}; {CONTINUE_HINT}"
        elif time.monotonic() - self._last_connection > _GONE_TIMEOUT:
            return f"the Prefect server at {self.access.api_url} has been gone for {_GONE_TIMEOUT:.0f} s; {CONTINUE_HINT}"
        return None


@contextmanager
def prefect_server(project: Project) -> Iterator[PrefectServer]:
    """Let this process use a Prefect server: the user's, that of `ae up`, else a temporary one that ends with the block.

    That of an `ae up` which another user has typed cannot be used: it asks for a secret that only that user knows.

    The temporary one starts at once, and the caller may import what it needs while it does. It dies with this process:
    Prefect's built-in temporary server would outlive a run that is killed. It leads a session of its own: a Ctrl-C in the
    terminal would end it before the run could report its end to it. Its secret is known to this process and its children
    alone: see `external_prefect`, which returns the server that is in use.
    """
    user_access = external_prefect()
    access = user_access
    if access is None and not is_stack_of_another(project):
        access = find_running_prefect(project)
    if access is not None:
        use_prefect(access)
        yield PrefectServer(project, access, is_of_stack=user_access is None)
        return
    port = find_free_port()
    access = PrefectAccess(f"http://{HOST}:{port}/api", f"{USER}:{new_password()}")
    secret = {"PREFECT_SERVER_API_AUTH_STRING": str(access.credentials)}
    with ExitStack() as starting:
        starting.enter_context(file_lock(project, "prefect-start"))  # two that make the same new database at once would fail
        process = subprocess.Popen(
            prefect_server_command(port),
            env=os.environ | access.environment() | parent_environment() | TEMPORARY_SERVER | secret,
            cwd=project.root,
            start_new_session=True,
        )
        try:
            with using_prefect(access):
                yield PrefectServer(project, access, process=process, starting=starting)
        finally:
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
    process = subprocess.Popen(
        [sys.executable, "-m", "aeops.machine.run_child", "aeops.registry.create_database"],
        env=os.environ | parent_environment(),
        cwd=project.root,
        start_new_session=True,
    )
    try:
        yield
    finally:
        process.wait()
