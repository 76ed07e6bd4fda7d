"""Keep one service running: adopt it where it lives, start it where it does not, ever more slowly where it keeps dying."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import IO, TypedDict

import psutil

from aeops.machine.parent_process import PARENT_VARIABLE
from aeops.machine.servers import is_healthy
from aeops.machine.service_records import read_service_record
from aeops.project import Project
from aeops.stack.leader_state import ServiceFacts, ServiceState
from aeops.stack.service_definitions import WORKER_SERVICE, ServiceDefinition
from aeops.stack.service_processes import SERVICE_VARIABLE, service_id, stack_processes, stop_processes

QUICK_DEATH_AGE = 20.0  # seconds: a death before that age is a quick one
LAUNCH_TIMEOUT = 30.0  # seconds a process may take to become the service
CLEAR_TIMEOUT = 3.0  # seconds that the remains of a dead service may take to end
FAILING_AFTER = 5  # quick deaths in a row
FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0  # seconds before a start, doubled with each quick death; of one that is failing
CHECK_INTERVAL = 15.0  # seconds between two health checks of a service that was healthy
UNRESPONSIVE_TIMEOUT = 300.0  # seconds without any response after which a living service is killed, to be started again


class LaunchRequest(TypedDict):
    """The service that a process is to become, as `aeops.stack.launch` reads it."""

    name: str
    command: list[str]
    address: str | None
    health: str | None
    api_url: str | None


class ServiceManager:
    """The leader's knowledge of one service.

    Attributes:
        process: the service's process, started here or adopted; None while there is none.
        child: the process last started here; it becomes the service.
        state: `failing` after five quick deaths in a row; it is still tried, once a minute.
        deaths: quick deaths in a row.
        starts: how often this leader has started it.
    """

    def __init__(self, project: Project, log: Callable[[str], None]) -> None:
        self.project, self.log = project, log
        self.process: psutil.Process | None = None
        self.child: subprocess.Popen[bytes] | None = None
        self.state: ServiceState = "stopped"
        self.deaths = 0
        self.starts = 0
        self._start_time = 0.0
        self._next_start = 0.0
        self._next_check = 0.0
        self._last_healthy = 0.0

    def update(self, service: ServiceDefinition) -> None:
        """Look at the service once and do what it needs now: adopt, check, or start it."""
        record = read_service_record(self.project, service.name)
        process = None
        if record is not None:
            process = record.process
        if process is not None:
            if self.process is None:
                self._adopt(service, process)
            self._check_health(service, process)
        elif self.process is not None or self._has_launch_failed():
            self._record_death(service)
        elif not self._is_launching() and time.monotonic() >= self._next_start:
            self._start(service)
        self.process = process

    def facts(self) -> ServiceFacts:
        return {"state": self.state, "quick_deaths": self.deaths, "starts": self.starts}

    def _adopt(self, service: ServiceDefinition, process: psutil.Process) -> None:
        message = f"{service.name} is process {process.pid}"
        if self.child is None or self.child.pid != process.pid:
            message += ", adopted"
        self.log(message)
        self._start_time = self._last_healthy = time.monotonic()

    def _has_launch_failed(self) -> bool:
        return self.child is not None and self.child.poll() is not None

    def _is_launching(self) -> bool:
        return self.child is not None and time.monotonic() - self._start_time < LAUNCH_TIMEOUT

    def _record_death(self, service: ServiceDefinition) -> None:
        if self.child is not None:
            self.child.poll()  # reads its exit code, else a dead one stays a zombie
            self.child = None
        self.deaths += 1
        if self.deaths >= FAILING_AFTER:
            self.state, wait = "failing", LONGEST_WAIT
        else:
            self.state, wait = "stopped", FIRST_WAIT * 2 ** (self.deaths - 1)
        self._next_start = time.monotonic() + wait
        age = time.monotonic() - self._start_time
        self.log(f"{service.name} died after {age:.0f} s; starts again in {wait:.1f} s")

    def _start(self, service: ServiceDefinition) -> None:
        """Start it after the remains of a dead one are cleared up: MLflow's server dies without its child."""
        _clear_remains(self.project, service.name)
        request = LaunchRequest(
            name=service.name,
            command=service.command,
            address=service.address,
            health=service.health,
            api_url=service.api_url,
        )
        command = [sys.executable, "-m", "aeops.stack.launch"]
        self.child = start_process(self.project, service.name, command, service.environment, stdin_text=json.dumps(request))
        self.starts += 1
        if self.state != "failing":
            self.state = "starting"
        self._start_time = time.monotonic()

    def _check_health(self, service: ServiceDefinition, process: psutil.Process) -> None:
        """Check the service: often while it starts, every 15 s once it is healthy."""
        now = time.monotonic()
        if now - self._start_time > QUICK_DEATH_AGE and self.state == "running":
            self.deaths = 0
        if self.state == "running" and now < self._next_check:
            return
        self._next_check = now + CHECK_INTERVAL
        if service.health is None or is_healthy(service.health):
            self._last_healthy, self.state = now, "running"
        elif now - self._last_healthy > UNRESPONSIVE_TIMEOUT:
            self.log(f"{service.name} lives and has not responded for {UNRESPONSIVE_TIMEOUT:.0f} s: killed")
            process.kill()


def start_process(
    project: Project,
    name: str,
    command: list[str],
    environment: Mapping[str, str],
    stdin_text: str = "",
    output: IO[bytes] | int = subprocess.DEVNULL,
) -> "subprocess.Popen[bytes]":
    """Start a process in a session of its own, so that it outlives this one and no Ctrl-C reaches it.

    Args:
        name: of the service that it belongs to, see `service_id`.
        environment: is added to this process's own.
        stdin_text: what it reads from its standard input.
        output: receives stdout and stderr.
    """
    inherited = dict(os.environ)
    inherited.pop(PARENT_VARIABLE, None)
    child = subprocess.Popen(
        command,
        cwd=project.root,
        env=inherited | {SERVICE_VARIABLE: service_id(project, name), **environment},
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    assert child.stdin is not None
    with child.stdin as stream:
        stream.write(stdin_text.encode())
    return child


def _clear_remains(project: Project, name: str) -> None:
    """Stop the processes that a dead service has left running.

    A worker's flow runs are spared: they use the server themselves and hold the workspace while they work, so they go on.
    """
    if name != WORKER_SERVICE:
        stop_processes(stack_processes(project).get(name, []), timeout=CLEAR_TIMEOUT)
