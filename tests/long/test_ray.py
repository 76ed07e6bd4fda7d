"""Ray as the place of stages: the weights, rows and tables of this machine alone, also after kills, and no process is left.

Where root allows, two nodes are in a network namespace that has the loopback device alone; else there is one node. A cluster
takes seconds to start on an idle machine, and minutes on a busy one.
"""

import importlib.util
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pytest
from checkout import Checkout, copy_checkout, wait_for
from pipeline.conftest import first_run, ran
from shipped_digits import shipped_digits

from aeops.machine.network import find_free_port
from aeops.places.ray_sessions import end_processes
from aeops.places.ray_settings import ray_environment
from aeops.predictions import prediction_store
from aeops.project import Project

__all__ = ["first_run", "ran"]

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: the extra `ray`"),
]

WAIT = 900.0  # seconds, on a busy machine
ROWS = 8192
SWEEP = ("sweep", "small", "--over", "train.learning_rate=0.002,0.02", "--over", "model.bottleneck.size=4,16", "--halving")
# Raises the loopback device of a new network namespace, which it holds until its input ends.
HOLD = """
import subprocess, sys
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
print(flush=True)
sys.stdin.read()
"""


@dataclass
class Cluster:
    """Nodes of a Ray cluster that is there before and after what is tested; or none, where commands start their own.

    Attributes:
        place: for `--on`.
        entering: what a command begins with to be in its network.
        environment: its token.
    """

    place: str
    entering: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)

    def start(self, checkout: Checkout, *arguments: str, **settings: str) -> "subprocess.Popen[bytes]":
        """Start `python -m ...` in the cluster's network, with its output in started.log of the checkout."""
        with (checkout.root / "started.log").open("ab") as log:
            return subprocess.Popen(
                [*self.entering, sys.executable, "-m", *arguments],
                cwd=checkout.root,
                env=checkout.environment() | self.environment | settings,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def run(self, checkout: Checkout, *arguments: str, **settings: str) -> str:
        """Run a command until it ends well; return what it printed."""
        process = self.start(checkout, *arguments, **settings)
        output, _ = process.communicate(timeout=WAIT)
        assert process.returncode == 0, (checkout.root / "started.log").read_text()
        return output.decode()


def may_make_networks() -> bool:
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "nsenter", "ip"))):
        return False
    return subprocess.run(["unshare", "-n", "true"], check=False).returncode == 0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes of a core each on 127.0.0.2 and 127.0.0.3; the commands' own cluster where no network can be made for them."""
    if not may_make_networks():
        yield Cluster("ray:local")
        return
    folder = Path("/tmp") / f"aer-{os.getpid()}"  # short enough for Ray's sockets
    folder.mkdir(mode=0o700)
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    environment = ray_environment(token, one_machine=False) | {"RAY_worker_niceness": "0"}
    holder = subprocess.Popen(
        ["unshare", "-n", sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    entering = ("nsenter", f"--net=/proc/{holder.pid}/ns/net")
    port = find_free_port()
    head = f"127.0.0.2:{port}"
    nodes = []
    try:
        for number, words in ((2, ["--head", f"--port={port}", "--include-dashboard=false"]), (3, [f"--address={head}"])):
            temporary = folder / str(number)
            options = [f"--node-ip-address=127.0.0.{number}", "--num-cpus=1", "--object-store-memory=100000000", "--block"]
            options += [f"--plasma-directory={folder}", "--disable-usage-stats", f"--temp-dir={temporary}"]
            command = [*entering, sys.executable, "-m", "ray.scripts.scripts", "start", *words, *options]
            log = folder / f"{number}.log"
            with log.open("wb") as output:
                nodes.append(subprocess.Popen(command, env=os.environ | environment, stdout=output, stderr=output))
            wait_for(lambda log=log: b"--block" in log.read_bytes(), WAIT)
        yield Cluster(f"ray://{head}", entering, {"RAY_AUTH_TOKEN_PATH": str(token)})
    finally:
        for node in nodes:
            node.kill()
            node.wait()
        end_processes([folder], spared={os.getpid()})
        assert holder.stdin is not None
        holder.stdin.close()
        holder.wait()
        shutil.rmtree(folder, ignore_errors=True)


# ---------------------------------------------------------------- processes


def processes_of(checkout: Checkout, *words: str) -> list[psutil.Process]:
    """Processes of a checkout: with its folder as theirs or on their command line, and with these words there."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            line = " ".join(process.cmdline())
            if process.status() == psutil.STATUS_ZOMBIE or not all(word in line for word in words):
                continue
            if str(checkout.root) in line or process.cwd().startswith(str(checkout.root)):
                found.append(process)
    return found


def kill(process: psutil.Process | None) -> None:
    with suppress(psutil.NoSuchProcess):
        if process is not None:
            process.kill()


def require_no_process(checkout: Checkout) -> None:
    deadline = time.monotonic() + 60
    while (left := processes_of(checkout)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left == []


def killed_when(started: "subprocess.Popen[bytes]", happened: Callable[[], object]) -> None:
    """Kill a command by SIGKILL once something has happened."""
    wait_for(lambda: started.poll() is not None or happened(), WAIT)
    assert started.poll() is None, "it ended before it could be killed"
    os.kill(started.pid, signal.SIGKILL)
    started.wait()


# ---------------------------------------------------------------- training


def training_content(checkout: Checkout) -> dict[str, bytes]:
    folder = checkout.root / "artifacts" / "small" / "training"
    return {name: (folder / name).read_bytes() for name in ("weights.safetensors", "trail.csv", "history.csv")}


def epochs_done(checkout: Checkout) -> int:
    training = checkout.home / "training" / "small"
    with suppress(FileNotFoundError):
        if (training / "last.ckpt").is_file():
            return len((training / "progress.jsonl").read_text().splitlines())
    return 0


STAGE = ("--recipe", "recipes/small.yaml", "--prepared", "artifacts/small/prepared", "--out", "artifacts/small/training")
ON_CLUSTER = ("aeops.places.run_stage", "train", *STAGE)


@pytest.fixture
def to_train(ran: Checkout, tmp_path: Path) -> Checkout:
    """A checkout whose recipe has two workers, for so long that they can be killed in the middle."""
    checkout = copy_checkout(ran, tmp_path / "train")
    checkout.edit_recipe({"train.devices": 2, "train.threads": 1, "train.epochs": 100})
    shutil.rmtree(checkout.root / "artifacts" / "small" / "training")
    return checkout


def test_two_workers_on_a_cluster_train_the_weights_of_two_processes_here_also_killed(
    to_train: Checkout, cluster: Cluster
) -> None:
    here = Cluster("here")
    here.run(to_train, "aeops.stages.train", *STAGE)
    expected = training_content(to_train)
    place = {"AE_RUN_ON": cluster.place}

    def forget() -> None:
        shutil.rmtree(to_train.root / "artifacts" / "small" / "training", ignore_errors=True)
        shutil.rmtree(to_train.home / "training")

    forget()
    worker_killed = cluster.start(to_train, *ON_CLUSTER, **place)
    wait_for(lambda: worker_killed.poll() is not None or epochs_done(to_train) > 3, WAIT)
    [worker] = processes_of(to_train, "aeops.stages.train", "--worker 1")
    kill(worker)
    assert worker_killed.wait(WAIT) == 0, (to_train.root / "started.log").read_text()
    assert training_content(to_train) == expected
    assert not list((to_train.home / "training" / "small").glob("workers-*"))

    forget()
    driver_killed = cluster.start(to_train, *ON_CLUSTER, **place)
    killed_when(driver_killed, lambda: epochs_done(to_train) > 3)
    require_no_process(to_train)
    assert not (to_train.root / "artifacts" / "small" / "training").exists()
    cluster.run(to_train, *ON_CLUSTER, **place)
    assert training_content(to_train) == expected
    require_no_process(to_train)


def test_a_wrong_token_is_said_before_anything_is_trained(to_train: Checkout, cluster: Cluster) -> None:
    if cluster.place == "ray:local":
        pytest.skip("a cluster of this machine makes its own token")
    wrong = to_train.root / "wrong-token"
    wrong.write_text(secrets.token_hex(32))
    process = cluster.start(to_train, *ON_CLUSTER, AE_RUN_ON=cluster.place, RAY_AUTH_TOKEN_PATH=str(wrong))
    assert process.wait(WAIT) == 2
    assert "refuses this token: put the token" in (to_train.root / "started.log").read_text()
    assert not (to_train.root / "artifacts" / "small" / "training").exists()


# ---------------------------------------------------------------- shards


def recorded(checkout: Checkout) -> list[tuple[object, ...]]:
    columns = ("sample", "sample_sha256", "score", "p_value", "is_anomaly")
    table = prediction_store.read_predictions(Project(checkout.root, checkout.home), "small", channels=["hand"])
    return list(zip(*(table[name].to_pylist() for name in columns), strict=True))


def test_shards_on_a_cluster_record_each_row_once_whoever_is_killed(ran: Checkout, cluster: Cluster, tmp_path: Path) -> None:
    alone, sharded = (copy_checkout(ran, tmp_path / name) for name in ("alone", "sharded"))
    np.save(tmp_path / "many.npy", np.resize(shipped_digits()[0], (ROWS, 28, 28)))
    Cluster("here").run(alone, "aeops.cli.main", "score", "small", str(tmp_path / "many.npy"), "--json")
    words = ("aeops.cli.main", "score", "small", str(tmp_path / "many.npy"), "--shards", "8", "--on", cluster.place, "--json")

    def done() -> list[Path]:
        return [path for path in (sharded.home / "scoring").rglob("*.npz") if path.stem.count("-") == 1]

    killed_when(cluster.start(sharded, *words), lambda: len(done()) > 1)
    assert recorded(sharded) == []
    require_no_process(sharded)
    before = {path: path.stat().st_mtime_ns for path in done()}
    again = cluster.start(sharded, *words)
    wait_for(lambda: again.poll() is not None or processes_of(sharded, "aeops.scoring.score_shard"), WAIT)
    [scoring, *_] = processes_of(sharded, "aeops.scoring.score_shard")
    kill(scoring.parent())  # a worker of Ray's, with which its process ends
    kept = {path: path.stat().st_mtime_ns for path in done() if path in before}
    output, _ = again.communicate(timeout=WAIT)
    assert again.returncode == 0, (sharded.root / "started.log").read_text()
    assert kept == before
    assert recorded(sharded) == recorded(alone)
    assert len({row["id"] for row in json.loads(output)["samples"]}) == ROWS
    assert not list((sharded.home / "scoring").rglob("*.npz"))
    require_no_process(sharded)


# ---------------------------------------------------------------- sweeps


def table_of(checkout: Checkout) -> bytes:
    [table] = (checkout.home / "sweeps" / "small" / "tables").rglob("sweep.json")
    return table.read_bytes()


def test_a_sweep_on_a_cluster_of_this_machine_ends_in_the_table_of_processes_here_also_killed(
    ran: Checkout, tmp_path: Path
) -> None:
    here, there = (copy_checkout(ran, tmp_path / name) for name in ("here", "there"))
    words = ("aeops.cli.main", *SWEEP, "--by", "error", "--threads", "1", "--json")
    Cluster("here").run(here, *words)

    local = Cluster("ray:local")
    first = local.start(there, *words, "--on", "ray:local")
    killed_when(first, lambda: list((there.home / "sweeps").rglob("progress.jsonl")))
    require_no_process(there)
    second = local.start(there, *words, "--on", "ray:local")
    wait_for(lambda: second.poll() is not None or processes_of(there, "aeops.stages.train"), WAIT)
    [training, *_] = processes_of(there, "aeops.stages.train")
    kill(training)
    wait_for(lambda: second.poll() is not None or len(list((there.home / "sweeps").rglob("result/history.csv"))) > 2, WAIT)
    [driver] = processes_of(there, "aeops.places.ray_driver")
    kill(driver)  # its cluster ends with it, and the sweep goes on by another one
    output, _ = second.communicate(timeout=WAIT)
    assert second.returncode == 0, (there.root / "started.log").read_text()
    assert table_of(there) == table_of(here)
    assert json.loads(output)["best"] is not None
    require_no_process(there)
    assert not list((there.home / "ray" / "sessions").iterdir())
