"""Debian's PostgreSQL in a folder of its own, and MLflow and Prefect over it as deploy/bin starts them.

Nothing is installed: where PostgreSQL's server programs are absent, what needs them is skipped and says so.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from real_servers import BIN, BUSY, Cluster, Servers, clean, postgres_cluster, started, wait_until_answers

from aeops.machine.network import find_free_port


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deployed") / "secrets"
    subprocess.run([sys.executable, BIN / "make-secrets", folder], check=True, capture_output=True, timeout=30)
    (folder / "mlflow-database-password").write_text("a/b@c:d %25\n", encoding="utf-8")  # whatever a person may choose
    return folder


@pytest.fixture(scope="module")
def cluster(secrets: Path) -> Iterator[Cluster]:
    with postgres_cluster(secrets) as running:
        yield running


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
