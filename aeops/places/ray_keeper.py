"""`python -m aeops.places.ray_keeper --session DIR --port N --cores N`: holds a Ray cluster of this machine, and ends all of it.

The process that starts it holds the other end of its standard input. When that one ends, however it ends, the input ends as
well, and this process kills every process of the cluster: as their subreaper it is the parent of all that Ray starts and leaves
behind, also of what has changed its session or its name. Then it removes the session's folder. Nothing is imported from Ray.
"""

import argparse
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from aeops.places.ray_sessions import remove_session, short_path
from aeops.places.ray_settings import OBJECT_STORE_BYTES

_PR_SET_CHILD_SUBREAPER = 36
_POLL_SECONDS = 0.2
_END_SECONDS = 30.0


def main() -> None:
    """Parse the command line, start the cluster, and end it with the standard input."""
    parser = argparse.ArgumentParser(description="Hold a Ray cluster of this machine.")
    parser.add_argument("--session", type=Path, required=True, help="the folder of its state")
    parser.add_argument("--port", type=int, required=True, help="of its head")
    parser.add_argument("--cores", type=int, required=True, help="that its commands share")
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    try:
        _hold(_start_head(arguments.session, arguments.port, arguments.cores))
    finally:
        _end_descendants()
        remove_session(arguments.session)


def _start_head(session: Path, port: int, cores: int) -> "subprocess.Popen[bytes]":
    folder = short_path(session)
    options = {
        "port": port,
        "node-ip-address": "127.0.0.1",
        "temp-dir": folder,
        "num-cpus": cores,
        "object-store-memory": OBJECT_STORE_BYTES,
        "plasma-directory": folder,
        "include-dashboard": "false",
    }
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
    command += [f"--{name}={value}" for name, value in options.items()]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=session)


def _hold(head: "subprocess.Popen[bytes]") -> None:
    """Wait for the end of the standard input, or of the cluster's head."""
    while head.poll() is None:
        readable, _, _ = select.select([0], [], [], _POLL_SECONDS)
        if readable and not os.read(0, 4096):
            return
        _reap(head.pid)


def _reap(head: int) -> None:
    """Collect the orphans that have ended; the head is collected by its own object."""
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess, ChildProcessError):
            if child.pid != head and child.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(child.pid, os.WNOHANG)


def _end_descendants() -> None:
    deadline = time.monotonic() + _END_SECONDS
    while time.monotonic() < deadline:
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        living = psutil.Process().children(recursive=True)
        if not living:
            return
        for process in living:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(_POLL_SECONDS / 4)


if __name__ == "__main__":
    main()
