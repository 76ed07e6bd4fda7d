"""`python -m ae_models.worker --folder DIR --number N --parent PID`: a worker beside the first one, as `ae_models.local_workers`
starts it. It trains with the others and writes nothing; it ends when the process that started it does."""

import argparse
import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path

from ae_models.errors import AeModelsError

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1
_CHECK_SECONDS = 0.1


def main() -> None:
    """Parse the command line and train; exit with status 1 and a message where that cannot go on."""
    parser = argparse.ArgumentParser(prog="python -m ae_models.worker", description="A worker of a training.")
    parser.add_argument("--folder", type=Path, required=True, help="where the first worker has written the job")
    parser.add_argument("--number", type=int, required=True, help="of this worker, 1 or more")
    parser.add_argument("--parent", type=int, required=True, help="pid of the first worker")
    arguments = parser.parse_args()
    _end_with(arguments.parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the first worker, which ends the others
    try:
        _train(arguments.folder, arguments.number)
    except AeModelsError as error:
        print(f"worker {arguments.number + 1}: {error}", file=sys.stderr, flush=True)
        sys.exit(1)


def _train(folder: Path, number: int) -> None:
    from ae_models.local_workers import as_local_worker, read_job  # late: the tie to the parent comes before what takes seconds
    from ae_models.training import train_autoencoder
    from ae_models.training_environment import deterministic_threads, quiet_lightning

    job = read_job(folder, number)
    with deterministic_threads(job.spec.train.threads), quiet_lightning(), as_local_worker(folder, job.worker):
        train_autoencoder(job.spec, job.train, job.validation, job.checkpoints, progress_bar=False, worker=job.worker)


def _end_with(parent: int) -> None:
    """Have this process killed when its parent ends; at once, where that has ended already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_CHECK_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
