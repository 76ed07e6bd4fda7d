"""`python -m aeops.places.ray_driver --place PLACE --cores N --events FILE`: drives a Ray cluster for the process that starts it.

It reads a request a line from its standard input, as JSON, and appends what happens to FILE, a line each:

    {"start": 3, "command": {...}}     run a command                     {"ready": {"cores": 8}}            the cluster answers
    {"stop": 3}                        end it, if it still runs          {"ended": 3, "output": "..."}      or with `error`

At the end of its input it ends what runs, and a cluster of this machine. It ends with the process that started it; the cluster's
keeper (`aeops.places.ray_keeper`) sees to the rest. It, `ray_connection` and `ray_tasks` are all that imports Ray.
"""

import argparse
import json
import os
import queue
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aeops.errors import InternalError, TransientError, UsageError
from aeops.machine.entry_point import describe_error, run_main
from aeops.places.ray_connection import JOIN_SECONDS, LocalCluster, connect, leave_cluster, require_shared_folder
from aeops.places.ray_settings import cluster_token, ray_environment
from aeops.project import find_project
from aeops.recipe.run_place import parse_place

SETTLE_SECONDS = 5.0  # after the first worker of a training has failed: another one may know why
POLL_SECONDS = 0.1
# Of this process's variables those that a command reads; no other one leaves this machine.
PASSED_VARIABLES = ("AE_SOURCES", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUBLAS_WORKSPACE_CONFIG")


def main() -> None:
    """Parse the command line and drive a cluster."""
    parser = argparse.ArgumentParser(description="Drive a Ray cluster.")
    parser.add_argument("--place", required=True, help="ray:local or ray://HOST:PORT")
    parser.add_argument("--cores", type=int, required=True, help="of a cluster of this machine")
    parser.add_argument("--events", type=Path, required=True, help="the file to write")
    arguments = parser.parse_args()

    def drive() -> None:
        project, place = find_project(), parse_place(arguments.place, "--place")
        if place.host is None:
            with LocalCluster(project, arguments.cores) as cluster:
                cluster.connect()
                Driver(arguments.events).serve()
        else:
            os.environ.update(ray_environment(cluster_token(project, place), one_machine=False))
            connect(f"{place.host}:{place.port}", JOIN_SECONDS)
            require_shared_folder(project, place)
            Driver(arguments.events).serve()
            leave_cluster()

    exit_code = 1
    try:
        run_main(drive)
        exit_code = 0
    except SystemExit as ended:
        exit_code = int(ended.code or 0)
    except Exception:  # noqa: BLE001  # its last lines are the message of whoever has started this process
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)  # at a usual end Ray would look for a cluster of this machine, which is gone, for a minute


# ---------------------------------------------------------------- commands


def share_of_cores(node_cores: Sequence[int], workers: int, wanted: int) -> int:
    """Return how many cores each of some workers is given, so that all of them find a place at once; 0 where there is none.

    >>> share_of_cores([4, 3], workers=2, wanted=2), share_of_cores([4, 3], workers=3, wanted=8), share_of_cores([1], 2, 1)
    (2, 2, 0)
    """
    for cores in range(wanted, 0, -1):
        if sum(node // cores for node in node_cores) >= workers:
            return cores
    return 0


@dataclass
class _Work:
    """A command at work: one task, or one for each of the workers that share a training.

    Attributes:
        running: tasks that have not ended.
        outcomes: of those that have.
        settles_at: when the others are ended after a failure.
        placement: what holds the cores of several workers.
        group: the folder in which they meet.
    """

    running: list[Any]
    placement: Any = None
    group: Path | None = None
    outcomes: list[dict[str, Any]] = field(default_factory=list)
    settles_at: float | None = None

    @property
    def errors(self) -> list[dict[str, Any]]:
        return [outcome["error"] for outcome in self.outcomes if "error" in outcome]

    def result(self) -> dict[str, Any]:
        """Return what became of it: of several failures one that says more than that a worker was lost."""
        for error in self.errors:
            if not error["transient"]:
                return {"error": error}
        if self.errors:
            return {"error": self.errors[0]}
        return {"output": self.outcomes[0]["output"]}


class Driver:
    """Hands commands to the cluster that this process has joined."""

    def __init__(self, events: Path) -> None:
        import ray

        from aeops.places.ray_tasks import run_command

        self.events, self.work = events, dict[int, _Work]()
        self.task = ray.remote(run_command)
        self.node_cores, self.gpus = [], 0
        for node in ray.nodes():
            if node["Alive"]:
                self.node_cores.append(int(node["Resources"].get("CPU", 0)))
                self.gpus += int(node["Resources"].get("GPU", 0))
        self.variables = {}
        for name in PASSED_VARIABLES:
            if name in os.environ:
                self.variables[name] = os.environ[name]
        self.requests: queue.Queue[dict[str, Any] | None] = queue.Queue()

    def serve(self) -> None:
        """Run what is asked for until the standard input ends."""
        if not sum(self.node_cores):
            raise UsageError("the cluster has no cores for commands: start a node with --num-cpus=1 or more")
        threading.Thread(target=self._read_requests, daemon=True).start()
        self._write({"ready": {"cores": sum(self.node_cores)}})
        while True:
            with suppress(queue.Empty):
                while True:
                    request = self.requests.get(timeout=0 if self.work else POLL_SECONDS)
                    if request is None:
                        self._stop_all()
                        return
                    self._handle(request)
            self._collect()

    def _read_requests(self) -> None:
        for line in sys.stdin:
            self.requests.put(json.loads(line))
        self.requests.put(None)

    def _write(self, event: dict[str, Any]) -> None:
        with self.events.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")

    def _handle(self, request: dict[str, Any]) -> None:
        if "stop" in request:
            if work := self.work.get(request["stop"]):
                self._cancel(work)
            return
        command = request["command"]
        cores = share_of_cores(self.node_cores, command["workers"], command["cores"])
        if cores == 0:
            error = UsageError(
                f"train.devices: expected at most {sum(self.node_cores)} workers, as the cluster has so many cores, got "
                f"{command['workers']}"
            )
            self._write({"ended": request["start"], "error": describe_error(error)})
            return
        start = self._start_alone if command["workers"] == 1 else self._start_group
        self.work[request["start"]] = start(command, cores)

    # ------------------------------------------------------------ starting

    def _start_alone(self, command: dict[str, Any], cores: int) -> _Work:
        options = {"num_cpus": cores, "num_gpus": self._gpus(command)}
        return _Work([self._submit(command | {"worker": None}, options)])

    def _submit(self, request: dict[str, Any], options: dict[str, Any]) -> Any:
        once = {"max_retries": 0}  # whoever asks decides what is tried again
        return self.task.options(**once, **options).remote(request, self.variables)

    def _start_group(self, command: dict[str, Any], cores: int) -> _Work:
        """Start the workers of a training, all at once or not yet: a worker that waits for others would hold its core."""
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        count, meeting = command["workers"], Path(command["group"])
        share = {"CPU": cores}
        if gpus := self._gpus(command):
            share["GPU"] = gpus
        for old in meeting.glob("workers-*"):  # of a driver that was killed
            shutil.rmtree(old, ignore_errors=True)
        group = meeting / f"workers-{os.getpid()}-{time.time_ns()}"
        placement = placement_group([share] * count, strategy="SPREAD")
        tasks = []
        for number in range(count):
            request = command | {"worker": {"group": str(group), "number": number}}
            if number > 0:
                log = Path(command["log"])
                request["log"] = str(log.with_name(f"{log.stem}-worker-{number + 1}{log.suffix}"))
            bundle = PlacementGroupSchedulingStrategy(placement, placement_group_bundle_index=number)
            options = {"num_cpus": cores, "num_gpus": gpus, "scheduling_strategy": bundle}
            tasks.append(self._submit(request, options))
        return _Work(tasks, placement, group)

    def _gpus(self, command: dict[str, Any]) -> int:
        return 1 if command["uses_gpu"] and self.gpus >= command["workers"] else 0

    # ------------------------------------------------------------ ending

    def _collect(self) -> None:
        """Note the tasks that have ended, and say which commands have."""
        import ray

        running = []
        for work in self.work.values():
            running += work.running
        if not running:
            return
        ended, _ = ray.wait(running, num_returns=1, timeout=POLL_SECONDS)
        for number, work in list(self.work.items()):
            for task in set(ended) & set(work.running):
                work.running.remove(task)
                work.outcomes.append(_outcome(task))
            if work.errors and work.running:
                self._settle(work)
            if not work.running:
                self._release(work)
                del self.work[number]
                self._write({"ended": number} | work.result())

    def _settle(self, work: _Work) -> None:
        """End the other workers some seconds after one has failed."""
        if work.settles_at is None:
            work.settles_at = time.monotonic() + SETTLE_SECONDS
        elif time.monotonic() > work.settles_at:
            self._cancel(work)

    def _cancel(self, work: _Work) -> None:
        import ray

        for task in work.running:
            with suppress(Exception):  # it has just ended
                ray.cancel(task, force=True)

    def _release(self, work: _Work) -> None:
        from ray.util.placement_group import remove_placement_group

        if work.placement is not None:
            remove_placement_group(work.placement)
        if work.group is not None:
            shutil.rmtree(work.group, ignore_errors=True)

    def _stop_all(self) -> None:
        for work in self.work.values():
            self._cancel(work)
        deadline = time.monotonic() + SETTLE_SECONDS
        while self.work and time.monotonic() < deadline:
            self._collect()


def _outcome(task: Any) -> dict[str, Any]:
    """Return what a task has returned; the end of its Ray worker is a failure that may pass."""
    import ray

    try:
        outcome: dict[str, Any] = ray.get(task)
    except ray.exceptions.RayTaskError as error:
        return {"error": describe_error(InternalError(f"a task on the cluster failed: {error}"))}
    except ray.exceptions.RayError as error:
        text = " ".join(str(error).split())[:300]
        return {"error": describe_error(TransientError(f"a Ray worker was lost ({type(error).__name__}: {text})"))}
    return outcome


if __name__ == "__main__":
    main()
