"""Shared parts of every flow: label the run with its process, wait for the workspace, and end with a line for a person."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from prefect import State, get_client
from prefect.logging import get_run_logger
from prefect.runtime import deployment, flow_run
from prefect.states import Completed

from aeops.machine.lock import RunUse, run_lock
from aeops.machine.process_identity import this_process
from aeops.project import Project, find_project
from aeops.stack.logs import rotate_if_large, shorten_connection_losses
from aeops.stack.maintenance import PROCESS_LABEL

FlowSummary = TypeVar("FlowSummary")

QUEUE_SECONDS = 12 * 3600.0  # a run of a deployment waits so long for what it uses before it fails


@contextmanager
def workspace(project: Project, purpose: str, use: RunUse) -> Iterator[None]:
    """Hold what a flow run uses. A run of a deployment waits for the present holder; one by hand is refused at once.

    Raises:
        InfrastructureError: another run holds it; for a deployment, still after `QUEUE_SECONDS`.
    """
    name_process()
    wait_seconds = 0.0
    if deployment.id:
        wait_seconds = QUEUE_SECONDS
    with run_lock(project, purpose, use, wait=wait_seconds, notify=get_run_logger().info):
        yield


def keep_output(project: Project) -> None:
    """Redirect this process's output to `.ae/logs/runs.log` where a worker has redirected it to /dev/null.

    prefect.yaml sets that (`stream_output: false`), as a run that prints into a pipe to its worker dies with the worker.
    """
    if not os.path.samestat(os.fstat(2), os.stat(os.devnull)):
        return
    log = project.logs / "runs.log"
    rotate_if_large(log)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    shorten_connection_losses()  # Prefect's server may be killed and started again while a run works


def name_process() -> None:
    """Label this flow run with its process, so that stack/maintenance.py detects a kill -9, and keep its output."""
    keep_output(find_project())
    with get_client(sync_client=True) as client:
        client.update_flow_run_labels(flow_run.id, {PROCESS_LABEL: this_process().text})


def flow_result(summary: FlowSummary, message: str) -> FlowSummary | State[FlowSummary]:
    """Return a flow's result; for a deployment's run, with a message for Prefect's page."""
    if deployment.id:
        return Completed(message=message, data=summary)
    return summary
