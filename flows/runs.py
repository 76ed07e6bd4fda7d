"""What every flow does around its work: says which process it is, waits for the workspace, and ends with a line for a person."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefect import State, get_client
from prefect.logging import get_run_logger
from prefect.runtime import deployment, flow_run
from prefect.states import Completed

from aeops.machine.lock import run_lock
from aeops.machine.process_identity import this_process
from aeops.project import Project, find_project
from aeops.stack.logs import rotate_if_large
from aeops.stack.maintenance import PROCESS_LABEL

QUEUE_WITHIN = 12 * 3600.0  # seconds that a run of a deployment waits for the workspace before it fails


@contextmanager
def workspace(project: Project, purpose: str) -> Iterator[None]:
    """Holds the workspace for a flow run: a run of a deployment waits for whoever holds it, one by hand is refused at once.

    Raises:
        InfrastructureError: another run holds it, for a deployment still after `QUEUE_WITHIN`.
    """
    name_process()
    wait = QUEUE_WITHIN if deployment.id else 0.0
    with run_lock(project, purpose, wait=wait, notify=get_run_logger().info):
        yield


def keep_output(project: Project) -> None:
    """Sends what this process prints to `.ae/logs/runs.log` where a worker has sent it nowhere.

    prefect.yaml asks the worker for that (`stream_output: false`): a run that prints into a pipe to its worker dies with it.
    """
    if not os.path.samestat(os.fstat(2), os.stat(os.devnull)):
        return
    log = project.logs / "runs.log"
    rotate_if_large(log)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def name_process() -> None:
    """Labels this flow run with its process, so that a kill -9 is found out (stack/maintenance.py), and keeps its output."""
    keep_output(find_project())
    with get_client(sync_client=True) as client:
        client.update_flow_run_labels(flow_run.id, {PROCESS_LABEL: this_process().text})


def ended(summary: dict[str, Any], says: str) -> dict[str, Any] | State[dict[str, Any]]:
    """A flow's result; of a deployment's run with a line that stands beside it on Prefect's page."""
    return Completed(message=says, data=summary) if deployment.id else summary
