"""The process group of a training's workers: how they meet, which device they talk over, what Lightning knows of them.

They meet through a file that each of them reaches, so no port is open for that; what they exchange goes over one network device.
`ae_models.local_workers` starts the workers of one machine. `joined_worker` is for workers that something else has started, such
as the tasks of a cluster.
"""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from pytorch_lightning.strategies import DDPStrategy
from torch._C._distributed_c10d import FileStore
from torch.distributed.distributed_c10d import _set_pg_timeout

from ae_models.atomic_files import atomic_write, make_folder
from ae_models.errors import WorkerError
from ae_models.spec import WeightsSpec
from ae_models.training_worker import DDP_SETTINGS, TrainingWorker

__all__ = ["describe_worker", "joined_worker", "loopback_interface", "process_group"]

_JOIN_TIMEOUT = timedelta(minutes=2)  # until all workers, which are ready by then, have met
_WORK_TIMEOUT = timedelta(days=1)  # of one exchange: the first worker may validate and save that long meanwhile
_READY_SECONDS = 3600.0  # that workers on busy machines may differ in starting
_POLL_SECONDS = 0.05
_CONNECTION_WORDS = ("gloo", "NCCL", "Connection closed", "Connection reset", "Broken pipe")  # of what torch raises then


def describe_worker(spec: WeightsSpec, number: int, sees_all_devices: bool = True) -> TrainingWorker:
    """Return what a training asks of a worker.

    Args:
        spec: its `train.devices` is the number of workers.
        number: of this one, from 0.
        sees_all_devices: whether its process sees the devices of all workers, as on one machine; else its own alone.
    """
    count = spec.train.workers
    local_number, devices = (number, count) if sees_all_devices else (0, 1)
    return TrainingWorker(
        number=number,
        count=count,
        local_count=count,  # of those of a cluster some may be elsewhere: then more samples than necessary stay on the disk
        devices=devices,
        strategy=DDPStrategy(process_group_backend=_backend(spec), **DDP_SETTINGS),
        plugins=(_WorkerCluster(number, count, local_number),),
    )


def _backend(spec: WeightsSpec) -> str:
    on_gpu = spec.train.accelerator != "cpu" and torch.cuda.is_available()
    return "nccl" if on_gpu else "gloo"


@contextmanager
def joined_worker(spec: WeightsSpec, folder: Path, number: int, interface: str) -> Iterator[TrainingWorker]:
    """Wait for the other workers, join them, and yield this one for `ae_models.training.train_weights`.

    Args:
        spec: of the training.
        folder: which all workers of this one try reach, and nobody else uses.
        number: of this worker, from 0.
        interface: name of the network device by which the others reach this machine, such as eth0.

    Raises:
        WorkerError: another worker has ended before the training did.
    """
    worker = describe_worker(spec, number, sees_all_devices=False)
    make_folder(folder)
    atomic_write(folder / f"ready-{number}", "")
    _wait_for_all(folder, worker.count)
    try:
        with process_group(folder / "group", worker, interface):
            yield worker
    except RuntimeError as error:
        if any(word in str(error) for word in _CONNECTION_WORDS):
            raise WorkerError(
                f"worker {number + 1} of {worker.count} of the training lost another one ({str(error).splitlines()[0][:200]}): "
                "type the same command again; it goes on from the last checkpoint"
            ) from error
        raise


def _wait_for_all(folder: Path, count: int) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while not all((folder / f"ready-{number}").exists() for number in range(count)):
        if time.monotonic() > deadline:
            ready = len(list(folder.glob("ready-*")))
            raise WorkerError(
                f"expected {count} workers of the training in {folder}, got {ready} within {_READY_SECONDS / 60:.0f} minutes: do "
                "all machines see this folder? Type the same command again"
            )
        time.sleep(_POLL_SECONDS)


@contextmanager
def process_group(file: Path, worker: TrainingWorker, interface: str) -> Iterator[None]:
    """Join torch's default process group.

    Args:
        file: by which the workers meet; a new one for each try.
        worker: this one.
        interface: name of the network device that gloo and NCCL listen on.
    """
    backend = worker.strategy.process_group_backend
    if backend == "nccl":
        torch.cuda.set_device(worker.plugins[0].local_rank())
    store = FileStore(str(file), worker.count)
    with _one_interface(interface):
        torch.distributed.init_process_group(
            backend, store=store, rank=worker.number, world_size=worker.count, timeout=_JOIN_TIMEOUT
        )
    try:
        torch.distributed.barrier()
        _set_pg_timeout(_WORK_TIMEOUT)
        yield
    finally:
        torch.distributed.destroy_process_group()


def loopback_interface() -> str:
    """Return the name of the loopback device, which no other machine reaches."""
    return next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")


class _WorkerCluster(ClusterEnvironment):
    """Tells Lightning which worker this is. It neither starts processes nor joins them."""

    def __init__(self, number: int, count: int, local_number: int) -> None:
        super().__init__()
        self.number, self.count, self.local_number = number, count, local_number

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        raise NotImplementedError("the workers meet through a file")

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self.count

    def set_world_size(self, size: int) -> None:
        pass

    def global_rank(self) -> int:
        return self.number

    def set_global_rank(self, rank: int) -> None:
        pass

    def local_rank(self) -> int:
        return self.local_number

    def node_rank(self) -> int:
        return 0


@contextmanager
def _one_interface(interface: str) -> Iterator[None]:
    """Let gloo and NCCL listen on one network device alone."""
    before = {name: os.environ.get(name) for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")}
    os.environ.update(dict.fromkeys(before, interface))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
