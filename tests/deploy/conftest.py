"""Debian's PostgreSQL in a folder of its own, and MLflow and Prefect over it as deploy/bin starts them.

Nothing is installed: where PostgreSQL's server programs are absent, what needs them is skipped and says so.
"""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from real_servers import BIN, BUSY, Cluster, Servers, clean, started, wait_until_answers

from aeops.machine.network import find_free_port

PROGRAMS = ("initdb", "postgres", "psql", "createdb", "pg_dump", "pg_restore")


@pytest.fixture(scope="module")
def programs() -> Path:
    """The folder of PostgreSQL's server programs."""
    found = shutil.which("initdb")
    places = [*sorted(Path("/usr/lib/postgresql").glob("*/bin")), *([Path(found).resolve().parent] if found else [])]
    places = [place for place in places if all((place / name).exists() for name in PROGRAMS)]
    if not places or shutil.which("setpriv") is None:
        pytest.skip("no initdb (Debian: postgresql) or no setpriv (util-linux) here: nothing was tried on a real PostgreSQL")
    return places[-1]


@pytest.fixture(scope="module")
def as_server() -> list[str]:
    """What stands before PostgreSQL's commands: its server refuses to run as root."""
    if os.geteuid() != 0:
        return []
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("running as root, and there is no user postgres for PostgreSQL's server")
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deployed") / "secrets"
    subprocess.run([sys.executable, BIN / "make-secrets", folder], check=True, capture_output=True, timeout=30)
    (folder / "mlflow-database-password").write_text("a/b@c:d %25\n", encoding="utf-8")  # whatever a person may choose
    return folder


@pytest.fixture(scope="module")
def cluster(programs: Path, as_server: list[str], secrets: Path) -> Iterator[Cluster]:
    port = find_free_port()
    with tempfile.TemporaryDirectory(prefix="ae-postgres-") as name:  # pytest's folders are closed to other users
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


@pytest.fixture(scope="module")
def servers(cluster: Cluster, secrets: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Both servers are started first, and wait; then two migrations at once make everything they need."""
    folder, mlflow, prefect = tmp_path_factory.mktemp("servers"), find_free_port(), find_free_port()
    database = {"AE_SECRETS": str(secrets), "AE_DATABASE_HOST": "127.0.0.1", "AE_DATABASE_PORT": str(cluster.port)}
    settings = clean(
        **database,
        AE_ARTIFACTS=str(folder / "artifacts"),
        AE_MLFLOW_PORT=str(mlflow),
        AE_MLFLOW_HOSTS="mlflow:5000",
        AE_PREFECT_PORT=str(prefect),
        PREFECT_HOME=str(folder / "prefect"),
    )
    with ExitStack() as stack:
        processes = {
            name: stack.enter_context(started([str(BIN / name)], folder / f"{name}.log", env=settings, cwd=folder))
            for name in ("mlflow-server", "prefect-server")
        }
        logs = [folder / f"migrate-{number}.log" for number in range(2)]
        both = [stack.enter_context(started([str(BIN / "migrate")], log, env=settings, cwd=folder)) for log in logs]
        migrations = [(process.child.wait(timeout=BUSY), process.said) for process in both]
        addresses = f"http://127.0.0.1:{mlflow}", f"http://127.0.0.1:{prefect}/api"
        for address, process in zip(addresses, processes.values(), strict=True):
            wait_until_answers(f"{address}/health", process)
        yield Servers(cluster, secrets, *addresses, processes, folder / "artifacts", migrations)
