"""What the leader last wrote about its services: `.ae/stack/state.json`."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aeops.project import Project

SETUP = "schedules"  # the name under which people meet the job `setup`
FAILING = "failing"
FAILURES = 3  # of a job in a row, after which it is failing


@dataclass(frozen=True)
class State:
    """The facts of each service and job by its name; empty where no leader has written yet."""

    services: dict[str, dict[str, Any]] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def of(self, name: str) -> str:
        """`starting`, `running`, `stopped`, `failing`, `waits for the deployments`; `unknown` where nobody has said."""
        return str(self.services.get(name, {}).get("state", "unknown"))

    def is_failing(self, name: str) -> bool:
        if name == SETUP:
            return int(self.jobs.get("setup", {}).get("failures", 0)) >= FAILURES
        return self.of(name) == FAILING


def state_file(project: Project) -> Path:
    return project.home / "stack" / "state.json"


def read_state(project: Project) -> State:
    try:
        facts = json.loads(state_file(project).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return State()
    return State(facts["services"], facts["jobs"])
