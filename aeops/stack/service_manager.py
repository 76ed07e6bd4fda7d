"""Keeping one service running: adopted where it lives, started where it does not, ever more slowly where it keeps dying."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import IO, Any, Literal

import psutil

from aeops.machine.servers import answers
from aeops.project import Project
from aeops.stack.plan import WORKER, Service
from aeops.stack.service_records import MARK, mark_for, processes, read_note, stop

QUICK = 20.0  # seconds: a death before that age is a quick one
LAUNCHED_WITHIN = 30.0  # seconds a process may take to become the service
CLEARED_WITHIN = 3.0  # seconds that what a dead service left may take to end
FAILING_AFTER = 5  # quick deaths in a row
FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0  # seconds before a start, doubled with each quick death; of one that is failing
LOOK_EVERY = 15.0  # seconds between two questions to a service that was well
MUTE_AFTER = 300.0  # seconds without any answer after which a service that lives is killed, to be started again

State = Literal["waits for the deployments", "starting", "running", "stopped", "failing"]


class Keeper:
    """What the leader knows about one service.

    Attributes:
        process: the service's process, started here or adopted; None while there is none.
        child: what was last started here; it becomes the service.
        state: `failing` after five quick deaths in a row; it is still tried, once a minute.
        deaths: quick deaths in a row.
        starts: how often this leader has started it.
    """

    def __init__(self, project: Project, say: Callable[[str], None]) -> None:
        self.project, self.say = project, say
        self.process: psutil.Process | None = None
        self.child: subprocess.Popen[bytes] | None = None
        self.state: State = "stopped"
        self.deaths = 0
        self.starts = 0
        self.born = 0.0
        self.next_start = 0.0
        self.next_look = 0.0
        self.last_well = 0.0

    def keep(self, service: Service) -> None:
        """One look: whatever has to be done for the service now."""
        note = read_note(self.project, service.name)
        found = note.process if note else None
        if found is not None:
            if self.process is None:
                self.meet(service, found)
            self.look(service, found)
        elif self.process is not None or self.launch_failed():
            self.has_died(service)
        elif not self.is_launching() and time.monotonic() >= self.next_start:
            self.start(service)
        self.process = found

    def meet(self, service: Service, found: psutil.Process) -> None:
        ours = self.child is not None and self.child.pid == found.pid
        self.say(f"{service.name} is process {found.pid}" + ("" if ours else ", adopted"))
        self.born = self.last_well = time.monotonic()

    def launch_failed(self) -> bool:
        """Whether what was started ended before it became the service."""
        return self.child is not None and self.child.poll() is not None

    def is_launching(self) -> bool:
        return self.child is not None and time.monotonic() - self.born < LAUNCHED_WITHIN

    def has_died(self, service: Service) -> None:
        if self.child is not None:
            self.child.poll()  # counted, else a dead one stays a zombie
            self.child = None
        self.deaths += 1
        failing = self.deaths >= FAILING_AFTER
        wait = LONGEST_WAIT if failing else FIRST_WAIT * 2 ** (self.deaths - 1)
        self.state = "failing" if failing else "stopped"
        self.next_start = time.monotonic() + wait
        self.say(f"{service.name} died after {time.monotonic() - self.born:.0f} s; starts again in {wait:.1f} s")

    def start(self, service: Service) -> None:
        """Starts it after clearing away what a dead one has left: MLflow's server dies without its child."""
        clear_remains(self.project, service.name)
        asked = {key: getattr(service, key) for key in ("name", "command", "address", "health", "api_url")}
        command = [sys.executable, "-m", "aeops.stack.launch"]
        self.child = start_process(self.project, service.name, command, service.environment, given=json.dumps(asked))
        self.starts += 1
        self.state = "failing" if self.state == "failing" else "starting"
        self.born = time.monotonic()

    def look(self, service: Service, found: psutil.Process) -> None:
        """Asks the service how it is: often while it starts, now and then once it is well."""
        now = time.monotonic()
        if now - self.born > QUICK and self.state == "running":
            self.deaths = 0
        if self.state == "running" and now < self.next_look:
            return
        self.next_look = now + LOOK_EVERY
        if service.health is None or answers(service.health):
            self.last_well, self.state = now, "running"
        elif now - self.last_well > MUTE_AFTER:
            self.say(f"{service.name} lives and has not answered for {MUTE_AFTER:.0f} s: killed")
            found.kill()

    def facts(self) -> dict[str, Any]:
        return {"state": self.state, "quick_deaths": self.deaths, "starts": self.starts}


def clear_remains(project: Project, name: str) -> None:
    """Ends what a service that has died left running.

    Not a worker's flow runs: they talk to the server themselves and hold the workspace while they work, so they go on.
    """
    if name != WORKER:
        stop(processes(project).get(name, []), within=CLEARED_WITHIN)


def start_process(
    project: Project,
    name: str,
    command: list[str],
    environment: Mapping[str, str],
    given: str = "",
    output: IO[bytes] | int = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """A process in a session of its own, so that it outlives this one and no Ctrl-C reaches it."""
    child = subprocess.Popen(
        command,
        cwd=project.root,
        env=os.environ | {MARK: mark_for(project, name), **environment},
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    assert child.stdin is not None
    with child.stdin as pipe:
        pipe.write(given.encode())
    return child
