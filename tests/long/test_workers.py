"""Workers that share batches: every kind of bottleneck, members and critics train the same bits each time, also killed."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkout import ROOT
from shipped_digits import shipped_digits

from ae_models.spec import (
    AdversarialCodeCriticSpec,
    AutoencoderConfig,
    ContractiveBottleneckSpec,
    ConvDecoderSpec,
    ConvEncoderSpec,
    CrossEntropyLossSpec,
    DenseDecoderSpec,
    DenseEncoderSpec,
    GanomalyCriticSpec,
    GaussianCorruptionSpec,
    IdentityBottleneckSpec,
    InputSpec,
    L1BottleneckSpec,
    MemoryBottleneckSpec,
    MseLossSpec,
    NoCorruptionSpec,
    NoCriticSpec,
    QuantisedBottleneckSpec,
    TokenDecoderSpec,
    TokenEncoderSpec,
    TopKBottleneckSpec,
    TrainSpec,
    VariationalBottleneckSpec,
    WeightsSpec,
    WordDeletionCorruptionSpec,
)

pytestmark = pytest.mark.long

# Trains each job of a list in a fork of a process that has loaded the libraries; its workers are forks as well, as loading them
# in each takes 7 s. A job may kill one of its processes in a step; tests/science/test_workers.py starts workers as they are.
TRAINER = """
import json, os, signal, sys, time, traceback
from pathlib import Path
import numpy as np
from ae_models import checkpoint, local_workers, worker
from ae_models.lightning_module import AutoencoderModule
from ae_models.spec import WeightsSpec
from ae_models.training import train_weights

checkpoint.MIN_SECONDS_BETWEEN = 0.0  # a checkpoint each epoch
take_step = AutoencoderModule.train_step

class Fork:
    returncode = None

    def __init__(self, pid):
        self.pid = pid

    def poll(self):
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def kill(self):
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout=None):
        while self.poll() is None:
            time.sleep(0.01)

def fork(work, *arguments):
    parent, pid = os.getpid(), os.fork()
    if pid:
        return Fork(pid)
    worker._end_with(parent)
    try:
        work(*arguments)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)

def start_worker(folder, number):
    return fork(work_as, folder, number)

def work_as(folder, number):
    (Path(folder).parents[1] / "pids").open("a").write(f"{os.getpid()} ")
    worker._train(folder, number)

def train(job):
    folder, kill = Path(job["folder"]), job.get("kill")

    def stop(self, step_of_epoch):
        if kill and (self.worker.number, self.steps_done) == tuple(kill):
            self.autoencoder.members[-1].loss_of = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        take_step(self, step_of_epoch)

    AutoencoderModule.train_step = stop
    samples = np.load(job["samples"])
    train_weights(WeightsSpec.from_dict(job["spec"], "spec"), samples, samples[:40], checkpoints=folder / "checkpoints",
                  training=folder / "training", content_sha256="0" * 64, recipe="small", progress_bar=False)

local_workers._start = start_worker
for job in json.loads(Path(sys.argv[1]).read_text()):
    Path(job["folder"]).mkdir(exist_ok=True)
    driver = fork(train, job)
    driver.wait()
    pids = Path(job["folder"]) / "pids"
    deadline = time.monotonic() + 10
    left = [pid for pid in (pids.read_text().split() if pids.is_file() else [])]
    while time.monotonic() < deadline and any(Path("/proc", pid).exists() for pid in left):
        time.sleep(0.05)
    left = [pid for pid in left if Path("/proc", pid).exists()]
    print(json.dumps({"code": driver.returncode, "left": left}), flush=True)
"""

SIZE = 16
BOTTLENECKS = (
    IdentityBottleneckSpec(SIZE),
    TopKBottleneckSpec(SIZE, 4),
    L1BottleneckSpec(SIZE),
    ContractiveBottleneckSpec(SIZE),
    VariationalBottleneckSpec(SIZE, free_bits=0.5),
    QuantisedBottleneckSpec(SIZE, slots=4, words=8),
    MemoryBottleneckSpec(SIZE, items=12),
)
CONV = AutoencoderConfig(
    corrupt=GaussianCorruptionSpec(0.3),
    encode=ConvEncoderSpec((4, 8)),
    bottleneck=IdentityBottleneckSpec(SIZE),
    decode=ConvDecoderSpec((8, 4)),
    compare=MseLossSpec(),
    critic=NoCriticSpec(),
)
DENSE = dataclasses.replace(CONV, encode=DenseEncoderSpec((16,)), decode=DenseDecoderSpec((16,)))
TEXT = AutoencoderConfig(
    corrupt=WordDeletionCorruptionSpec(0.4),
    encode=TokenEncoderSpec(300, 12, 8, 1, 2),
    bottleneck=IdentityBottleneckSpec(SIZE),
    decode=TokenDecoderSpec(8, 1, 2),
    compare=CrossEntropyLossSpec(),
    critic=NoCriticSpec(),
)
IMAGE = InputSpec("image", (1, 28, 28))
TRAIN = TrainSpec(epochs=2, batch=50, learning_rate=0.01, seed=3, threads=1, accelerator="cpu", devices=2)
ROWS = 201  # the last batch has one sample: a worker without any


def small(model: AutoencoderConfig, input_spec: InputSpec = IMAGE, **train: Any) -> WeightsSpec:
    return WeightsSpec(input_spec, model, dataclasses.replace(TRAIN, **train))


MODELS = {bottleneck.kind: small(dataclasses.replace(CONV, bottleneck=bottleneck)) for bottleneck in BOTTLENECKS} | {
    "members": small(CONV, members=2, trim=0.3),
    "many dense members": small(DENSE, members=8),
    "adversarial": small(dataclasses.replace(CONV, critic=AdversarialCodeCriticSpec((6,)))),
    "ganomaly": small(dataclasses.replace(CONV, corrupt=NoCorruptionSpec(), critic=GanomalyCriticSpec(features=9))),
    "text": small(TEXT, InputSpec("text", (40,))),
}


def texts() -> np.ndarray:
    random = np.random.default_rng(0)
    words = np.array(["the", "cat", "sat", "on", "a", "mat", "and", "ran"])
    lines = [" ".join(random.choice(words, random.integers(1, 9))).encode()[:40] for _ in range(ROWS)]
    return np.stack([np.frombuffer(line.ljust(40, b"\0"), np.uint8) for line in lines])


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Sequence[dict[str, Any]]], list[dict[str, Any]]]:
    """Trains jobs, each with the keys name, spec and kill, and returns what became of them; `folder_of` has their results."""
    root = tmp_path_factory.mktemp("workers")
    np.save(root / "image.npy", shipped_digits()[0][::20][:ROWS])
    np.save(root / "text.npy", texts())

    def run(jobs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        complete = []
        for job in jobs:
            spec: WeightsSpec = job["spec"]
            samples = root / ("text.npy" if spec.input.kind == "text" else "image.npy")
            complete.append({**job, "spec": spec.to_dict(), "samples": str(samples), "folder": str(root / job["name"])})
        file = root / "jobs.json"
        file.write_text(json.dumps(complete))
        command = [sys.executable, "-c", TRAINER, str(file)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        outcomes = [json.loads(line) | {"stderr": done.stderr} for line in done.stdout.splitlines()]
        return [outcome | {"folder": Path(job["folder"])} for outcome, job in zip(outcomes, complete, strict=True)]

    return run


def content(folder: Path) -> dict[str, bytes]:
    names = ("weights.safetensors", "trail.csv", "history.csv")
    return {name: (folder / "training" / name).read_bytes() for name in names}


def losses(folder: Path) -> list[float]:
    return [float(line.split(",")[2]) for line in (folder / "training" / "history.csv").read_text().splitlines()[1:]]


@pytest.mark.parametrize("name", MODELS)
def test_two_workers_end_in_the_same_files_each_time_and_learn_what_one_learns(
    name: str, train: Callable[..., list[dict[str, Any]]]
) -> None:
    spec = MODELS[name]
    alone = dataclasses.replace(spec, train=dataclasses.replace(spec.train, devices=1))
    jobs = [
        {"name": f"{name}-first", "spec": spec},
        {"name": f"{name}-again", "spec": spec},
        {"name": f"{name}-1", "spec": alone},
    ]
    first, again, one = train(jobs)
    assert [first["code"], again["code"], one["code"]] == [0, 0, 0], first["stderr"]
    assert content(first["folder"]) == content(again["folder"])
    assert losses(first["folder"]) == pytest.approx(losses(one["folder"]), rel=2e-3)


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("killed", ["worker", "driver"])
def test_a_kill_of_a_worker_or_of_the_driver_changes_nothing_and_leaves_no_process(
    workers: int, killed: str, train: Callable[..., list[dict[str, Any]]]
) -> None:
    """Of three workers, too: the sum of three numbers depends on their order."""
    spec = small(dataclasses.replace(CONV, bottleneck=QuantisedBottleneckSpec(SIZE, slots=4, words=8)), devices=workers, epochs=3)
    number = 0 if killed == "driver" else workers - 1
    name = f"{workers}-{killed}"
    jobs = [
        {"name": f"{name}-whole", "spec": spec},
        {"name": name, "spec": spec, "kill": [number, 7]},  # in the second epoch
        {"name": name, "spec": spec},
    ]
    whole, stopped, resumed = train(jobs)
    assert [whole["code"], stopped["code"], resumed["code"]] == [0, -9 if killed == "driver" else 1, 0], whole["stderr"]
    if killed == "worker":
        assert f"WorkerError: worker {workers} of {workers} of the training was killed by signal 9" in stopped["stderr"]
    assert stopped["left"] == []
    assert "starts over" not in resumed["stderr"]
    assert content(resumed["folder"]) == content(whole["folder"])
