"""The scripts of deploy/bin on a real PostgreSQL: migration, both servers, registry, schedules, worker and scoring service.

One module, so that the servers start once. What takes long is the worker's whole training; everything else is seconds.
"""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from checkout import ROOT, Checkout, make_checkout, wait_for
from real_servers import BIN, BUSY, Cluster, Process, Servers, clean, started, wait_until_answers

from ae_models.checksums import bundle_sha256, write_checksums
from aeops.machine.network import find_free_port
from aeops.project import Project
from aeops.registry import ledger, promotion
from aeops.registry.store import Store, open_store

DATASET = {"dataset": "digits", "content_sha256": "c" * 64, "dvc_md5": "d" * 32}

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


@pytest.fixture(autouse=True)
def no_settings_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in set(os.environ) - set(clean()):
        monkeypatch.delenv(name)


def migrate(servers: Servers, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    where = {"AE_DATABASE_HOST": "127.0.0.1", "AE_DATABASE_PORT": str(servers.cluster.port)}
    environment = servers.environment | where | settings
    return subprocess.run(
        [BIN / "migrate", *arguments], env=environment, capture_output=True, text=True, timeout=BUSY, check=False
    )


@pytest.fixture
def store(servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The registry as a project elsewhere sees it."""
    for name, value in servers.environment.items():
        monkeypatch.setenv(name, value)
    return open_store(Project(root=tmp_path, home=tmp_path / ".ae"))


def write_bundle(place: Path, word: str) -> Path:
    """A bundle of a few bytes: the registry keeps bundles, it does not run them."""
    place.mkdir(parents=True)
    described = {"format": 1, "input": {"kind": "image", "shape": [1, 28, 28], "low": 0, "high": 255}}
    (place / "bundle.json").write_text(json.dumps(described), encoding="utf-8")
    for name in ("model.onnx", "weights.safetensors"):
        (place / name).write_text(word, encoding="utf-8")
    (place / "scorer.safetensors").write_bytes(b"")
    write_checksums(place)
    return place


# ---------------------------------------------------------------- databases


def test_eight_writers_at_once_on_a_fresh_database_lose_nothing(servers: Servers, store: Store) -> None:
    def write(number: int) -> list[str]:
        runs = [store.start_run("crowd", {"writer": str(number)}, {}, DATASET) for _ in range(3)]
        for run in runs:
            store.log_metrics(run, {"loss": number, "deep": {"er": [1, 2]}})
            store.finish_run(run, "FINISHED")
        return runs

    with ThreadPoolExecutor(8) as pool:
        runs = [run for written in pool.map(write, range(8)) for run in written]
    assert len(set(runs)) == 24
    assert sorted(store.metrics(run)["loss"] for run in runs) == sorted([*range(8)] * 3)
    assert {store.metrics(run)["deep.er.1"] for run in runs} == {2}


def test_servers_that_start_first_wait_and_two_migrations_at_once_end_well(servers: Servers) -> None:
    for name, process in servers.processes.items():
        assert f"waiting for deploy/bin/migrate: {name.removesuffix('-server')}" in process.said
    (code, said), (other_code, other_said) = sorted(servers.migrations, key=lambda told: "already" in told[1])
    assert (code, other_code) == (0, 0), said + other_said
    assert "already" not in said
    assert other_said.count("already") == 2


def test_another_migration_changes_nothing(servers: Servers) -> None:
    before = [servers.cluster.run("pg_dump", "--schema-only", name) for name in ("mlflow", "prefect")]
    done = migrate(servers)
    assert (done.returncode, done.stdout.count("already")) == (0, 2), done.stderr
    after = [servers.cluster.run("pg_dump", "--schema-only", name) for name in ("mlflow", "prefect")]
    assert [without_key(text) for text in before] == [without_key(text) for text in after]


def without_key(dump: str) -> str:
    """A dump without the random words that newer pg_dump puts around it."""
    return "\n".join(line for line in dump.splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))


def test_each_role_reaches_its_own_database_alone(servers: Servers) -> None:
    rights = "SELECT has_database_privilege('mlflow', 'prefect', 'CONNECT'), rolsuper FROM pg_roles WHERE rolname = 'mlflow'"
    assert servers.cluster.run("psql", "--tuples-only", "--csv", "--command", rights).strip() == "f,f"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"AE_SECRETS": "/nowhere"}, "no secret /nowhere/postgres-password: make it with deploy/bin/make-secrets"),
        ({"AE_DATABASE_ADMIN": "nobody"}, "refuses nobody"),
    ],
)
def test_a_migration_that_cannot_be_says_what_to_do(servers: Servers, settings: dict[str, str], told: str) -> None:
    done = migrate(servers, **settings)
    assert (done.returncode, told in done.stderr) == (5, True), done.stderr


def test_a_dump_restores_into_an_empty_database(servers: Servers, store: Store, tmp_path: Path) -> None:
    store.finish_run(store.start_run("kept", {}, {}, DATASET), "FINISHED")
    run, file = servers.cluster.run, tmp_path / "mlflow.dump"
    run("pg_dump", "--format=custom", f"--file={file}", "mlflow")
    run("createdb", "--owner=mlflow", "restored")
    run("pg_restore", "--exit-on-error", "--dbname=restored", str(file))
    count = ["--tuples-only", "--csv", "--command", "SELECT count(*) FROM runs"]
    assert run("psql", *count, "restored") == run("psql", *count, "mlflow") != "0\n"


# ---------------------------------------------------------------- doors


@pytest.mark.parametrize(
    ("host", "status"), [("mlflow:5000", 200), ("localhost:1", 200), ("evil.example", 403), ("10.1.2.3", 403)]
)
def test_mlflow_answers_to_the_names_it_was_given_alone(servers: Servers, host: str, status: int) -> None:
    address = f"{servers.mlflow}/api/2.0/mlflow/experiments/search?max_results=1"
    assert status_of(urllib.request.Request(address, headers={"Host": host})) == status


def status_of(request: urllib.request.Request | str) -> int:
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize("auth", [None, "ae:wrong", "admin:pass"])
def test_prefect_lets_nobody_in_without_the_password(servers: Servers, auth: str | None) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        servers.ask_prefect("POST", "flows/filter", {}, auth=auth)
    assert servers.ask_prefect("POST", "flows/filter", {}) is not None


def test_no_secret_stands_on_a_command_line_or_in_a_log(servers: Servers) -> None:
    secrets = [file.read_text(encoding="utf-8").strip() for file in servers.secrets.glob("*password")]
    assert len(secrets) == 5
    for process in servers.processes.values():
        assert not [secret for secret in secrets if secret in process.said + commands_of(process)]


def commands_of(process: Process) -> str:
    """The command lines of a process and its group."""
    told = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(folder.name)) == process.child.pid:
                told.append((folder / "cmdline").read_text(encoding="utf-8"))
        except (ProcessLookupError, FileNotFoundError):
            continue
    assert told
    return "\n".join(told)


# ---------------------------------------------------------------- registry


def test_a_version_goes_its_whole_way_over_http(servers: Servers, store: Store, tmp_path: Path) -> None:
    bundles = [write_bundle(tmp_path / word, word) for word in ("one", "two")]
    for number, bundle in enumerate(bundles, start=1):
        run = store.start_run("remote", {"git.commit": "abc"}, {"train": {"epochs": 3}}, DATASET)
        store.log_files(run, [bundle / "bundle.json"], "validation")
        assert store.register(run, "remote", bundle, {"verdict": "accepted"}, "a card") == str(number)
        assert store.register(run, "remote", bundle, {"verdict": "accepted"}, "a card") == str(number)  # the same bundle
        champion = str(number - 1) if number > 1 else None
        evidence = {"sha256": f"{number}" * 64}
        promotion.promote(store, "remote", str(number), expected=champion, who="ada", why="better", evidence=evidence)
    promotion.rollback(store, "remote", None, who="grace", why="it flags everything")
    assert [line.event for line in ledger.read_entries(store.project, "remote")] == ["promotion", "promotion", "rollback"]
    assert promotion.find_problems(store, "remote") == []
    assert bundle_sha256(store.download_bundle("remote", "champion")) == bundle_sha256(bundles[0])
    assert list(servers.artifacts.rglob("model.onnx")), "the files are where the server keeps them, not where the client runs"


def test_a_bundle_altered_where_the_server_keeps_it_is_told(servers: Servers, store: Store, tmp_path: Path) -> None:
    run = store.start_run("altered", {}, {}, DATASET)
    store.register(run, "altered", write_bundle(tmp_path / "bundle", "honest"), {}, "")
    promotion.promote(store, "altered", "1", expected=None, who="ada", why="better", evidence={"sha256": "1" * 64})
    [kept] = [file for file in servers.artifacts.rglob("model.onnx") if file.read_text(encoding="utf-8") == "honest"]
    kept.write_text("forged", encoding="utf-8")
    [problem] = promotion.find_problems(store, "altered")
    assert f"the bundle of altered 1 in {store.uri} is damaged: model.onnx" in problem


# ---------------------------------------------------------------- object store


def test_files_go_through_mlflow_to_an_object_store(servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("moto.server", reason="no moto here (pip: moto[server]): nothing was tried on an object store")
    pytest.importorskip("boto3", reason="no boto3 here (deploy/requirements.lock): nothing was tried on an object store")
    objects, port = find_free_port(), find_free_port()
    settings = {"AE_ARTIFACTS": "s3://mlflow", "MLFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{objects}"}
    where = {"AE_DATABASE_HOST": "127.0.0.1", "AE_DATABASE_PORT": str(servers.cluster.port), "AE_MLFLOW_PORT": str(port)}
    serve = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(objects)]
    with started(serve, tmp_path / "objects.log") as store_process:
        wait_until_answers(f"http://127.0.0.1:{objects}/moto-api/", store_process)
        assert [migrate(servers, **settings).stdout.splitlines()[-1] for _ in range(2)] == [
            "bucket mlflow: made",
            "bucket mlflow: is there already",
        ]
        with started([str(BIN / "mlflow-server")], tmp_path / "mlflow.log", env=servers.environment | settings | where) as mlflow:
            wait_until_answers(f"http://127.0.0.1:{port}/health", mlflow)
            monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
            store = open_store(Project(root=tmp_path, home=tmp_path / ".ae"))
            run = store.start_run("objects", {}, {}, DATASET)
            bundle = write_bundle(tmp_path / "bundle", "in a bucket")
            store.register(run, "objects", bundle, {}, "")
            assert bundle_sha256(store.download_bundle("objects", "1")) == bundle_sha256(bundle)
            assert "PUT /mlflow/" in store_process.said


# ---------------------------------------------------------------- schedules and the worker


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout with the recipe `small`, its one schedule and deploy/."""
    made = make_checkout(tmp_path_factory.mktemp("worker") / "checkout")
    made.edit_recipe({"train.epochs": 3})
    shutil.copytree(ROOT / "deploy", made.root / "deploy", ignore=shutil.ignore_patterns("secrets"))
    told = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    [retrain] = [entry for entry in told["deployments"] if entry["name"] == "retrain-digits"]
    told["deployments"] = [retrain | {"name": "retrain-small", "parameters": {"recipe": "small"}}]
    del told["definitions"]
    (made.root / "prefect.yaml").write_text(yaml.safe_dump(told), encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def worker(servers: Servers, checkout: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("worker-log")
    port = find_free_port()
    settings = {
        "AE_HEALTH_PORT": str(port),
        "PREFECT_HOME": str(folder / "prefect"),
        "AE_DVC_REMOTE": str(folder / "dvc"),
        "PREFECT_WORKER_QUERY_SECONDS": "2",
    }
    command = [str(checkout.root / "deploy" / "bin" / "worker")]
    with started(command, folder / "worker.log", env=servers.environment | settings, cwd=folder) as process:
        wait_until_answers(f"http://127.0.0.1:{port}/health", process)
        yield process


@pytest.fixture(scope="module")
def deployment(servers: Servers, worker: Process) -> dict[str, Any]:
    [made] = servers.ask_prefect("POST", "deployments/filter", {})
    return dict(made)


def test_a_schedule_has_runs_ahead_of_it(servers: Servers, deployment: dict[str, Any]) -> None:
    asked = {"deployments": {"id": {"any_": [deployment["id"]]}}, "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    runs = wait_for(lambda: servers.ask_prefect("POST", "flow_runs/filter", asked), 60)
    assert all(datetime.fromisoformat(run["expected_start_time"]) > datetime.now(UTC) for run in runs)
    assert {run["auto_scheduled"] for run in runs} == {True}


@pytest.fixture(scope="module")
def trained(servers: Servers, deployment: dict[str, Any]) -> dict[str, Any]:
    """The deployment's run, once it has ended."""
    run = servers.ask_prefect("POST", f"deployments/{deployment['id']}/create_flow_run", {"state": {"type": "SCHEDULED"}})

    def ended() -> dict[str, Any] | None:
        now = servers.ask_prefect("GET", f"flow_runs/{run['id']}")
        return dict(now) if now["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") else None

    return dict(wait_for(ended, BUSY))


def test_the_worker_trains_registers_and_promotes(
    servers: Servers, worker: Process, trained: dict[str, Any], checkout: Checkout
) -> None:
    assert trained["state_type"] == "COMPLETED", f"{trained['state']}\n{worker.said}"
    listed = run_script(checkout, servers, "ae", "history", "small")
    assert "promotion" in listed
    assert not (checkout.home / "mlflow").exists(), "a store of the worker's own"
    assert not (checkout.home / "dvc-remote").exists(), "a remote of the worker's own, beside the one that was named"
    assert list((Path(worker.log).parent / "dvc").rglob("*.dir"))


def run_script(checkout: Checkout, servers: Servers, name: str, *arguments: str) -> str:
    command = [checkout.root / "deploy" / "bin" / name, *arguments]
    done = subprocess.run(command, env=servers.environment, capture_output=True, text=True, timeout=BUSY, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_same_run_by_hand_finds_nothing_new(servers: Servers, trained: dict[str, Any], checkout: Checkout) -> None:
    assert "nothing changed" in run_script(checkout, servers, "ae", "run", "small")


def test_the_champion_is_served_to_who_has_the_password(
    servers: Servers, trained: dict[str, Any], checkout: Checkout, tmp_path: Path
) -> None:
    port, home, head = find_free_port(), tmp_path / "state", tmp_path / "small.head"
    address = f"http://127.0.0.1:{port}"
    settings = {"AE_RECIPE": "small", "AE_SCORE_PORT": str(port), "AE_HOME": str(home), "TMPDIR": str(tmp_path)}
    head.write_text(run_script(checkout, servers, "ae", "ledger", "head", "small"), encoding="utf-8")  # the ledger is elsewhere
    settings["AE_LEDGER_HEAD"] = str(head)
    environment = {name: value for name, value in servers.environment.items() if name != "PREFECT_API_URL"} | settings
    body = json.dumps({"inputs": [[[0] * 28] * 28]}).encode()
    command = [str(checkout.root / "deploy" / "bin" / "score")]
    with started(command, tmp_path / "score.log", env=environment, cwd=tmp_path) as service:
        ready = [BIN / "healthy", f"{address}/readyz", "score-password"]
        wait_for(lambda: subprocess.run(ready, env=environment, check=False, stderr=subprocess.DEVNULL).returncode == 0, BUSY)
        assert subprocess.run([BIN / "healthy", f"{address}/healthz"], env=environment, check=False).returncode == 0
        assert status_of(urllib.request.Request(f"{address}/score", body, {"Content-Type": "application/json"})) == 401
        password = (servers.secrets / "score-password").read_text(encoding="utf-8").strip()
        key = base64.b64encode(f"ae:{password}".encode()).decode()
        headers = {"Content-Type": "application/json", "Authorization": f"Basic {key}"}
        assert status_of(urllib.request.Request(f"{address}/score", body, headers)) == 200
        assert password not in service.said + commands_of(service)


SLEEPER = """
import time
from prefect import flow

@flow
def sleeper():
    print("asleep", flush=True)
    time.sleep(600)

sleeper()
"""


def test_a_run_whose_process_is_killed_is_crashed_by_the_server(
    servers: Servers, checkout: Checkout, trained: dict[str, Any], tmp_path: Path
) -> None:
    """With fewer seconds of silence than a living run needs: so after the training, on the worker's own automation."""
    access = {"PREFECT_API_AUTH_STRING": servers.auth, "PREFECT_HOME": str(tmp_path), "PYTHONPATH": str(checkout.root)}
    hasty = servers.environment | access | {"AE_SILENT_SECONDS": "12"}
    schedules = [checkout.root / "deploy" / "bin" / "schedules"]
    subprocess.run(schedules, cwd=checkout.root, env=hasty, check=True, capture_output=True, timeout=BUSY)
    (tmp_path / "sleeper.py").write_text(SLEEPER, encoding="utf-8")
    command = [sys.executable, str(tmp_path / "sleeper.py")]
    with started(command, tmp_path / "sleeper.log", env=hasty | {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}) as process:
        wait_for(lambda: "asleep" in process.said)
        [run] = servers.ask_prefect("POST", "flow_runs/filter", {"flows": {"name": {"any_": ["sleeper"]}}})
        wait_for(lambda: heartbeats(servers, run["id"]))
        process.child.send_signal(signal.SIGKILL)
    state = wait_for(lambda: crashed(servers, run["id"]))
    assert state["message"] == "its process is gone: no heartbeat"


def heartbeats(servers: Servers, run: str) -> list[Any]:
    resource = {"id": [f"prefect.flow-run.{run}"]}
    asked = {"filter": {"event": {"name": ["prefect.flow-run.heartbeat"]}, "any_resource": resource}}
    return list(servers.ask_prefect("POST", "events/filter", asked)["events"])


def crashed(servers: Servers, run: str) -> dict[str, Any] | None:
    state = servers.ask_prefect("GET", f"flow_runs/{run}")["state"]
    return dict(state) if state["type"] == "CRASHED" else None


def test_the_job_templates_are_taken_by_the_server(servers: Servers, tmp_path: Path) -> None:
    for kind in ("docker", "kubernetes"):
        template = ROOT / "deploy" / "work-pools" / f"{kind}.json"
        command = [
            sys.executable,
            "-m",
            "prefect",
            "work-pool",
            "create",
            kind,
            "--type",
            kind,
            "--base-job-template",
            str(template),
        ]
        settings = {"PREFECT_API_AUTH_STRING": servers.auth, "PREFECT_HOME": str(tmp_path)}
        done = subprocess.run(
            command, env=servers.environment | settings, capture_output=True, text=True, timeout=BUSY, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert servers.ask_prefect("GET", f"work_pools/{kind}")["base_job_template"] == json.loads(template.read_text())


def test_the_database_is_asked_by_password(cluster: Cluster) -> None:
    wrong = clean(PGPASSWORD="wrong", PGHOST="127.0.0.1", PGPORT=str(cluster.port), PGUSER="postgres")
    command = [cluster.programs / "psql", "--command", "SELECT 1"]
    done = subprocess.run(command, env=wrong, capture_output=True, text=True, timeout=30, check=False)
    assert "password authentication failed" in done.stderr
