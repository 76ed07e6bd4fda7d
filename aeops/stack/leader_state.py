"""The state of services and jobs as the leader last wrote it: `.ae/stack/state.json`."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypedDict

from aeops.files import write_json
from aeops.machine.stored_json import read_json_if_whole
from aeops.project import Project

SETUP_NAME = "schedules"  # of the job `setup` in messages
FAILING_STATE = "failing"
_FAILURE_LIMIT = 3  # failures of a job in a row, after which it is failing

ServiceState = Literal["waits for the deployments", "starting", "running", "stopped", "failing"]


class ServiceFacts(TypedDict):
    """One service, as state.json stores it; `quick_deaths` are counted in a row, `starts` by the present leader."""

    state: ServiceState
    quick_deaths: int
    starts: int


class JobState(TypedDict):
    """One job, as state.json stores it; `failures` are counted in a row, `done_for` is the request of the last success."""

    failures: int
    done_for: str


@dataclass(frozen=True)
class LeaderState:
    """The state of each service and job by its name; empty where no leader has written yet."""

    services: Mapping[str, ServiceFacts] = field(default_factory=dict)
    jobs: Mapping[str, JobState] = field(default_factory=dict)

    def service_state(self, name: str) -> str:
        """Return a `ServiceState`; `unknown` where the leader has not seen the service."""
        if name not in self.services:
            return "unknown"
        return self.services[name]["state"]

    def start_count(self, name: str) -> int | None:
        """Return how often the leader has started a service; None where it has not seen it."""
        if name not in self.services:
            return None
        return self.services[name]["starts"]

    def is_failing(self, name: str) -> bool:
        """Return True for a service, or the job `SETUP_NAME`, that keeps failing."""
        if name == SETUP_NAME:
            return "setup" in self.jobs and self.jobs["setup"]["failures"] >= _FAILURE_LIMIT
        return self.service_state(name) == FAILING_STATE


def state_file(project: Project) -> Path:
    return project.home / "stack" / "state.json"


def write_state(project: Project, state: LeaderState) -> None:
    document = {"supervisor": os.getpid(), "services": state.services, "jobs": state.jobs}
    write_json(state_file(project), document)


def read_state(project: Project) -> LeaderState:
    """Return the state; empty where no leader has written yet, or the file is damaged."""
    document = read_json_if_whole(state_file(project), "services", "jobs")
    if document is None:
        return LeaderState()
    return LeaderState(document["services"], document["jobs"])
