"""The workers of a training as processes on this machine: this process is the first one, and it starts and ends the others.

They meet through a file in the training's own folder and talk over the loopback device alone, so nothing listens where another
machine could reach it. A worker ends with the process that started it, however that one ends.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ae_models.atomic_files import atomic_write, json_text, make_folder
from ae_models.errors import TrainingError, WorkerError
from ae_models.own_parts import OwnPart, register_part, registered_parts, resolve_work
from ae_models.sample_sets import NpySampleSet, SampleSet
from ae_models.spec import WeightsSpec
from ae_models.training_worker import TrainingWorker
from ae_models.worker_group import describe_worker, loopback_interface, process_group

__all__ = ["WorkerJob", "as_local_worker", "local_workers", "read_job"]

_FOLDER = "workers"  # in the folder of the checkpoints, as long as workers are at work
_JOB_FILE, _GROUP_FILE = "job.json", "group"
_END_SECONDS = 10.0  # that the others may take to end after the training
_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class WorkerJob:
    """What a worker is asked to do.

    Attributes:
        spec: of the training.
        train, validation: files of the samples.
        checkpoints: the folder of the training.
        worker: which one it is.
    """

    spec: WeightsSpec
    train: NpySampleSet
    validation: NpySampleSet
    checkpoints: Path
    worker: TrainingWorker


@contextmanager
def local_workers(spec: WeightsSpec, train: SampleSet, validation: SampleSet, checkpoints: Path) -> Iterator[TrainingWorker]:
    """Start the other workers and yield the first one, which is this process; the others end with the block.

    Args:
        spec: its `train.devices` is the number of workers.
        train: samples as `ae_models.training.train_autoencoder` gets them.
        validation: likewise.
        checkpoints: the folder of the training.

    Raises:
        WorkerError: one of them ended before the training did.
        TrainingError: this process is a worker of something else already.
    """
    if torch.distributed.is_initialized():
        raise TrainingError(
            f"train.devices is {spec.train.devices}, and this process is in a torch process group already: pass `worker` to "
            "train_weights, or start the training in a process of its own"
        )
    folder = checkpoints / _FOLDER
    shutil.rmtree(folder, ignore_errors=True)  # of a training that was killed
    make_folder(folder)
    worker = describe_worker(spec, 0)
    processes: list[subprocess.Popen[bytes]] = []
    try:
        _write_job(folder, spec, train, validation)
        processes += [_start(folder, number) for number in range(1, worker.count)]
        _wait_until_ready(folder, processes)
        with _blame_dead_workers(processes), process_group(folder / _GROUP_FILE, worker, loopback_interface()):
            yield worker
        _wait_for_end(processes)
    finally:
        for process in processes:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def as_local_worker(folder: Path, worker: TrainingWorker) -> Iterator[None]:
    """Join the workers of a folder: the work of the block is shared with them."""
    atomic_write(_ready_file(folder, worker.number), "")
    with process_group(folder / _GROUP_FILE, worker, loopback_interface()):
        yield


def read_job(folder: Path, number: int) -> WorkerJob:
    """Return what `local_workers` has asked a worker to do, once this process can import what the asking one could."""
    document = json.loads((folder / _JOB_FILE).read_text(encoding="utf-8"))
    sys.path[:] = document["sys_path"]
    for part in document["own_parts"]:
        register_part(OwnPart(part["key"], resolve_work(part["spec"], part["key"]), part["work"]))
    spec = WeightsSpec.from_dict(document["spec"], str(folder / _JOB_FILE))
    return WorkerJob(
        spec=spec,
        train=NpySampleSet(Path(document["train"])),
        validation=NpySampleSet(Path(document["validation"])),
        checkpoints=folder.parent,
        worker=describe_worker(spec, number),
    )


# ---------------------------------------------------------------- processes


def _write_job(folder: Path, spec: WeightsSpec, train: SampleSet, validation: SampleSet) -> None:
    parts = [{"key": part.key, "spec": _name_of(part.spec), "work": part.work} for part in registered_parts()]
    job = {
        "spec": spec.to_dict(),
        "train": _sample_file(folder / "train.npy", train),
        "validation": _sample_file(folder / "validation.npy", validation),
        "sys_path": [path or os.getcwd() for path in sys.path],
        "own_parts": parts,
    }
    atomic_write(folder / _JOB_FILE, json_text(job))


def _name_of(cls: Any) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _sample_file(file: Path, samples: SampleSet) -> str:
    """Return the path of a file with the samples: their own, or a copy of those in memory."""
    if isinstance(samples, NpySampleSet):
        return str(samples.path.absolute())
    copy = np.lib.format.open_memmap(file, "w+", samples.dtype, samples.shape)
    first = 0
    for block in samples.blocks():
        copy[first : first + len(block)] = block
        first += len(block)
    copy.flush()
    return str(file.absolute())


def _start(folder: Path, number: int) -> "subprocess.Popen[bytes]":
    package_root = str(Path(__file__).absolute().parents[1])
    paths = [package_root, *filter(None, [os.environ.get("PYTHONPATH")])]
    arguments = ["--folder", str(folder.absolute()), "--number", str(number), "--parent", str(os.getpid())]
    return subprocess.Popen(
        [sys.executable, "-m", "ae_models.worker", *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        stdin=subprocess.DEVNULL,
    )


def _ready_file(folder: Path, number: int) -> Path:
    return folder / f"ready-{number}"


def _wait_until_ready(folder: Path, processes: "list[subprocess.Popen[bytes]]") -> None:
    """Wait until each worker has loaded its libraries, so that meeting takes no time in which nobody looks after them."""
    while not all(_ready_file(folder, number).exists() for number in range(1, len(processes) + 1)):
        _require_alive(processes)
        time.sleep(_POLL_SECONDS)


def _require_alive(processes: "list[subprocess.Popen[bytes]]") -> None:
    for number, process in enumerate(processes, 2):
        if (code := process.poll()) is not None:
            outcome = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise WorkerError(
                f"worker {number} of {len(processes) + 1} of the training {outcome}: type the same command again; it goes on "
                "from the last checkpoint"
            )


@contextmanager
def _blame_dead_workers(processes: "list[subprocess.Popen[bytes]]") -> Iterator[None]:
    """Raise a WorkerError in the place of what torch says of a connection whose other end is gone."""
    try:
        yield
    except RuntimeError:
        deadline = time.monotonic() + 1.0  # a process that has closed its connections ends in an instant
        while time.monotonic() < deadline:
            _require_alive(processes)
            time.sleep(_POLL_SECONDS)
        raise


def _wait_for_end(processes: "list[subprocess.Popen[bytes]]") -> None:
    deadline = time.monotonic() + _END_SECONDS
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return  # the training has ended; whoever is slow is killed
