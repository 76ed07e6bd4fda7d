"""A Ray cluster as a place for commands: its driver is a process of its own, and here nothing of Ray is imported."""

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from aeops.data.stage_runs import StageCommand
from aeops.errors import InfrastructureError, TransientError
from aeops.machine.child_process import POLL_SECONDS, ChildProcess
from aeops.machine.entry_point import described_error
from aeops.machine.scratch import ScratchFolder
from aeops.project import Project
from aeops.recipe.run_place import RunPlace

DRIVER_MODULE = "aeops.places.ray_driver"
MAX_DRIVERS = 3  # that are started one after another, where one is killed
END_SECONDS = 60.0  # that a driver may take to end its cluster
LOST_DRIVER = "the process that drives the Ray cluster was killed; type the same command again, it goes on"


class RayCluster:
    """A cluster in use; as a context manager, it ends with its block.

    Attributes:
        cores: of all its nodes.
    """

    def __init__(self, project: Project, place: RunPlace, cores: int) -> None:
        """
        Args:
            cores: of a cluster of this machine.
        """
        self.project, self.place, self.cores, self.own_cores = project, place, cores, cores
        self.scratch_folder = ScratchFolder()
        self.drivers_started, self.commands_started = 0, 0
        self.ended: dict[int, dict[str, Any]] = {}
        self.driver: ChildProcess | None = None

    def __enter__(self) -> "RayCluster":
        try:
            self._open()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        self.scratch_folder.cleanup()

    def start(self, command: StageCommand) -> "RayCommand":
        """Hand a command to the cluster, with a new driver where the last one was killed."""
        if not self.is_driven():
            self._close()
            if self.drivers_started == MAX_DRIVERS:
                raise InfrastructureError(f"{LOST_DRIVER} ({MAX_DRIVERS} of them were)")
            self._open()
        self.commands_started += 1
        self._ask({"start": self.commands_started, "command": _to_request(command)})
        return RayCommand(self, self.commands_started, self.drivers_started)

    def is_driven(self) -> bool:
        """Return False once the driver has ended."""
        return self.driver is not None and self.driver.is_running()

    def read_events(self) -> None:
        """Read what the driver has written since the last call."""
        with self._events_file.open("rb") as file:
            file.seek(self._events_read)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._events_read += len(whole)
        for line in whole.splitlines():
            event = json.loads(line)
            if "ready" in event:
                self.cores = event["ready"]["cores"]
                self._is_ready = True
            else:
                self.ended[event["ended"]] = event

    def raise_driver_error(self) -> None:
        """Raise what a driver that has ended says of that; nothing where it was killed, which a new one makes up for."""
        if self.driver is not None and not self.driver.is_running():
            with suppress(TransientError):
                self.driver.wait()

    def ask_to_stop(self, number: int) -> None:
        """Ask the driver to end a command; nothing where the driver has ended, as the command ends with it."""
        self._ask({"stop": number})

    def _open(self) -> None:
        """Start a driver, and wait until its cluster answers.

        Raises:
            AeError: as the driver reports it.
        """
        self.drivers_started += 1
        self._events_file = Path(self.scratch_folder.name) / f"events-{self.drivers_started}"
        self._events_file.touch()
        self._events_read, self._is_ready = 0, False
        arguments = [
            DRIVER_MODULE,
            "--place",
            self.place.text,
            "--cores",
            str(self.own_cores),
            "--events",
            str(self._events_file),
        ]
        log = self.project.logs / "ray-driver.log"
        self.driver = ChildProcess(arguments, root=self.project.root, home=self.project.home, log=log)
        while not self._is_ready:
            if not self.driver.is_running():
                self.driver.wait()  # raises what it has reported
                raise InfrastructureError(f"the driver of the Ray cluster ended before it began; its output is in {log}")
            time.sleep(POLL_SECONDS)
            self.read_events()

    def _ask(self, request: dict[str, Any]) -> None:
        assert self.driver is not None
        assert self.driver.process.stdin is not None
        with suppress(BrokenPipeError, ValueError):  # it has ended: whoever waits for the command sees that
            self.driver.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.driver.process.stdin.flush()

    def _close(self) -> None:
        """End the driver: it ends a cluster of this machine at the end of its input, and its keeper does so in any case."""
        if self.driver is None:
            return
        assert self.driver.process.stdin is not None
        with suppress(BrokenPipeError):
            self.driver.process.stdin.close()
        deadline = time.monotonic() + END_SECONDS
        while self.driver.is_running() and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS / 4)
        self.driver.close()
        self.driver = None


class RayCommand:
    """A command on a cluster: see `aeops.places.pool.RunningCommand`."""

    def __init__(self, cluster: RayCluster, number: int, driver: int) -> None:
        self.cluster, self.number, self.driver = cluster, number, driver

    def is_running(self) -> bool:
        """Return False once it has ended, also with its driver."""
        self.cluster.read_events()
        return self.number not in self.cluster.ended and self._has_driver()

    def wait(self) -> str:
        """Return its output at its end; raise the AeError that it reported, or a TransientError where a process was killed."""
        while self.is_running():
            time.sleep(POLL_SECONDS)
        event = self.cluster.ended.get(self.number)
        if event is None:
            self.cluster.raise_driver_error()
            raise TransientError(LOST_DRIVER)
        if "error" in event:
            raise described_error(event["error"])
        return str(event["output"])

    def close(self) -> None:
        """Have it ended where it has not."""
        if self.is_running():
            self.cluster.ask_to_stop(self.number)

    def _has_driver(self) -> bool:
        return self.driver == self.cluster.drivers_started and self.cluster.is_driven()


def _to_request(command: StageCommand) -> dict[str, Any]:
    return {
        "arguments": list(command.arguments),
        "root": str(command.root),
        "home": str(command.home),
        "log": str(command.log),
        "cores": command.cores,
        "workers": command.workers,
        "group": None if command.group is None else str(command.group),
        "uses_gpu": command.uses_gpu,
    }
