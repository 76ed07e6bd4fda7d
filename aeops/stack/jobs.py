"""Short work that the leader gives to processes of its own: it neither waits for them nor fails with them."""

import subprocess
import sys
import time
from collections.abc import Mapping

from aeops.project import Project
from aeops.stack.leader_state import JobState
from aeops.stack.logs import rotate_if_large
from aeops.stack.service_manager import start_process

_RETRY_DELAY = 10.0  # seconds after a failure


class BackgroundJob:
    """`python -m <module>`, one process at a time; its output goes to `.ae/logs/<name>.log`.

    Attributes:
        finished_request: the request of its last success, see `run_once`.
        failures: in a row.
    """

    def __init__(self, name: str, module: str, project: Project, interval: float = 0.0, finished_request: str = "") -> None:
        self.name, self.module, self.project, self.interval = name, module, project, interval
        self.child: subprocess.Popen[bytes] | None = None
        self.current_request, self.finished_request = "", finished_request
        self.next_start = 0.0
        self.failures = 0

    def run_once(self, request: str, environment: Mapping[str, str]) -> None:
        """Start it once for each different request; again where it failed."""
        if self.is_idle() and self.finished_request != request and time.monotonic() >= self.next_start:
            self.current_request = request
            self._start(environment)

    def run_regularly(self, environment: Mapping[str, str]) -> None:
        """Start it where `interval` seconds have passed since its last end."""
        if self.is_idle() and time.monotonic() >= self.next_start:
            self._start(environment)

    def is_idle(self) -> bool:
        """Return True where no process is running; records how the last one ended."""
        if self.child is None:
            return True
        exit_code = self.child.poll()
        if exit_code is None:
            return False
        self.child = None
        if exit_code == 0:
            self.failures = 0
            self.finished_request = self.current_request
            self.next_start = time.monotonic() + self.interval
        else:
            self.failures += 1
            self.next_start = time.monotonic() + _RETRY_DELAY
        return True

    def state(self) -> JobState:
        return {"failures": self.failures, "done_for": self.finished_request}

    def _start(self, environment: Mapping[str, str]) -> None:
        log = self.project.logs / f"{self.name}.log"
        rotate_if_large(log)
        with log.open("ab") as output:
            command = [sys.executable, "-m", self.module]
            self.child = start_process(self.project, self.name, command, environment, output=output)
