"""Real servers as deploy/bin starts them, and how to ask them."""

import base64
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from checkout import FOREIGN, ROOT, wait_for

from aeops.machine.network import find_free_port
from aeops.machine.servers import is_healthy

BIN = ROOT / "deploy" / "bin"
STOP_WITHIN = 20  # seconds
BUSY = 400  # seconds for what takes an idle machine forty, and one whose cores many share ten times that


@dataclass(frozen=True)
class Process:
    """A process in a group of its own and the file that it prints to."""

    child: subprocess.Popen[bytes]
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


@contextmanager
def started(command: list[str], log: Path, stop_by: signal.Signals = signal.SIGTERM, **options: Any) -> Iterator[Process]:
    """Runs a command until the block ends; it also ends where this process is killed."""
    leash = ["setpriv", "--pdeathsig", stop_by.name.removeprefix("SIG")]
    if command[0] == "setpriv":
        command = command[1:]
    with log.open("wb") as file:
        child = subprocess.Popen([*leash, *command], stdout=file, stderr=file, start_new_session=True, **options)
    try:
        yield Process(child, log)
    finally:
        with suppress(ProcessLookupError):
            child.send_signal(stop_by)
        try:
            child.wait(timeout=STOP_WITHIN)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


@dataclass(frozen=True)
class Cluster:
    """A running PostgreSQL with scram passwords on loopback."""

    programs: Path
    port: int
    secrets: Path

    @property
    def password(self) -> str:
        """The administrator's."""
        return (self.secrets / "postgres-password").read_text(encoding="utf-8").strip()

    @property
    def address(self) -> str:
        """SQLAlchemy's, with the password."""
        return f"postgresql+pg8000://postgres:{quote(self.password, safe='')}@127.0.0.1:{self.port}/postgres"

    def wait_until_ready(self) -> None:
        """Wait until the server takes connections."""
        command = [str(self.programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        wait_for(lambda: subprocess.run(command, check=False).returncode == 0, BUSY)

    def run(self, program: str, *arguments: str) -> str:
        """One of PostgreSQL's client programs, as the administrator."""
        where = {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": "postgres", "PGPASSWORD": self.password}
        command = [str(self.programs / program), *arguments]
        done = subprocess.run(command, env=os.environ | where, capture_output=True, text=True, timeout=BUSY, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


PROGRAMS = ("initdb", "postgres", "psql", "createdb", "pg_dump", "pg_restore")


def find_postgres() -> Path:
    """Return the folder of PostgreSQL's server programs; skip the test where they are absent."""
    found = shutil.which("initdb")
    places = [*sorted(Path("/usr/lib/postgresql").glob("*/bin")), *([Path(found).resolve().parent] if found else [])]
    places = [place for place in places if all((place / name).exists() for name in PROGRAMS)]
    if not places or shutil.which("setpriv") is None:
        pytest.skip("no initdb (Debian: postgresql) or no setpriv (util-linux) here: nothing was tried on a real PostgreSQL")
    return places[-1]


def server_user() -> list[str]:
    """Return what stands before PostgreSQL's commands: its server refuses to run as root."""
    if os.geteuid() != 0:
        return []
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("running as root, and there is no user postgres for PostgreSQL's server")
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]


@contextmanager
def postgres_cluster(secrets: Path) -> Iterator[Cluster]:
    """Run Debian's PostgreSQL in a folder of its own until the block ends.

    Args:
        secrets: a folder with the file postgres-password.
    """
    programs, as_server, port = find_postgres(), server_user(), find_free_port()
    with tempfile.TemporaryDirectory(prefix="postgres-") as name:  # pytest's folders are closed to other users
        folder, password = Path(name), Path(name) / "password"
        shutil.copy(secrets / "postgres-password", password)
        folder.chmod(0o755)
        if as_server:
            shutil.chown(folder, "postgres")
            shutil.chown(password, "postgres")
        make = ["-D", f"{name}/data", "-U", "postgres", "--auth=scram-sha-256", f"--pwfile={password}", "--no-sync", "-E", "UTF8"]
        subprocess.run([*as_server, programs / "initdb", *make, "--locale=C"], check=True, capture_output=True, timeout=BUSY)
        where = ["-D", f"{name}/data", "-p", str(port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        serve = [*as_server, str(programs / "postgres"), *where, "-c", "fsync=off"]
        with started(serve, secrets.parent / "postgres.log", signal.SIGINT):
            yield Cluster(programs, port, secrets)


@dataclass(frozen=True)
class Servers:
    """MLflow's and Prefect's servers as deploy/bin starts them, before their databases exist.

    Attributes:
        migrations: exit code and output of the two that ran at once.
    """

    cluster: Cluster
    secrets: Path
    mlflow: str
    prefect: str
    processes: dict[str, Process]
    artifacts: Path
    migrations: list[tuple[int, str]]

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs, as compose.yaml and the manifests give it."""
        return clean(AE_SECRETS=str(self.secrets), MLFLOW_TRACKING_URI=self.mlflow, PREFECT_API_URL=self.prefect)

    @property
    def auth(self) -> str:
        return f"ae:{(self.secrets / 'prefect-password').read_text(encoding='utf-8').strip()}"

    def ask_prefect(self, method: str, path: str, body: Any = None, auth: str | None = "") -> Any:
        """One request to Prefect's API; `auth` "" is the right one, None is none."""
        headers = {"Content-Type": "application/json"}
        if auth is not None:
            headers["Authorization"] = f"Basic {base64.b64encode((auth or self.auth).encode()).decode()}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.prefect}/{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


def clean(**settings: str) -> dict[str, str]:
    """This process's environment without what would point elsewhere."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {name: value for name, value in os.environ.items() if name not in FOREIGN} | {"PATH": path} | settings


def wait_until_answers(address: str, process: Process, seconds: float = BUSY) -> None:
    wait_for(lambda: process.child.poll() is not None or is_healthy(address), seconds)
    assert process.child.poll() is None, process.said
