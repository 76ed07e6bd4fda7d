"""Short work that the leader has done in processes of its own: it neither waits for them nor falls with them."""

import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

from aeops.project import Project
from aeops.stack.logs import turn_if_large
from aeops.stack.service_manager import start_process

AGAIN_AFTER = 10.0  # seconds after a failure


class Job:
    """`python -m <module>`, one at a time; what it prints goes to `.ae/logs/<name>.log`.

    Attributes:
        done_for: what it was last done for, see `do_once`.
        failures: in a row.
    """

    def __init__(self, name: str, module: str, project: Project, every: float = 0.0, done_for: str = "") -> None:
        self.name, self.module, self.project, self.every = name, module, project, every
        self.child: subprocess.Popen[bytes] | None = None
        self.doing_for, self.done_for = "", done_for
        self.next_start = 0.0
        self.failures = 0

    def do_once(self, what: str, environment: Mapping[str, str]) -> None:
        """Does it once for each different `what`; again where it failed."""
        if self.has_ended() and self.done_for != what and time.monotonic() >= self.next_start:
            self.doing_for = what
            self.start(environment)

    def do_each_time(self, environment: Mapping[str, str]) -> None:
        """Does it every so often."""
        if self.has_ended() and time.monotonic() >= self.next_start:
            self.start(environment)

    def start(self, environment: Mapping[str, str]) -> None:
        log = self.project.logs / f"{self.name}.log"
        turn_if_large(log)
        with log.open("ab") as output:
            command = [sys.executable, "-m", self.module]
            self.child = start_process(self.project, self.name, command, environment, output=output)

    def has_ended(self) -> bool:
        """Whether none is at work; counts how the last one ended."""
        if self.child is None:
            return True
        code = self.child.poll()
        if code is None:
            return False
        self.child = None
        self.failures = self.failures + 1 if code else 0
        self.next_start = time.monotonic() + (AGAIN_AFTER if code else self.every)
        if code == 0:
            self.done_for = self.doing_for
        return True

    def facts(self) -> dict[str, Any]:
        return {"failures": self.failures, "done_for": self.done_for}
