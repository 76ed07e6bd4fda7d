"""Shared parts of every flow: label the run with its process, wait for the workspace, and end with a line for a person."""

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from prefect import Flow, State, get_client
from prefect.context import TagsContext
from prefect.logging import get_run_logger
from prefect.runtime import deployment, flow_run
from prefect.states import Completed, Failed

from aeops.errors import AeError, as_ae_error
from aeops.machine.lock import RunUse, run_lock
from aeops.machine.process_identity import this_process
from aeops.monitoring.retrains import end_retrain
from aeops.monitoring.run_notices import tell_failure
from aeops.project import Project, find_project
from aeops.stack.logs import rotate_if_large, shorten_connection_losses
from aeops.stack.maintenance import PROCESS_LABEL

FlowSummary = TypeVar("FlowSummary")

QUEUE_SECONDS = 12 * 3600.0  # a run of a deployment waits so long for what it uses before it fails


class PipelineFlow(Flow[..., Any]):
    """A flow that returns what its function returned, or raises its error, also where the function gave its state a message."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        returned = super().__call__(*arguments, **options)
        return returned.result() if isinstance(returned, State) else returned


def pipeline_flow(name: str, verb: str) -> Callable[[Callable[..., Any]], PipelineFlow]:
    """Decorate a function as a Prefect flow; its first parameter is the recipe.

    A run is named by verb, recipe and time. Where it fails, its last state has the message that the command line prints, and the
    receivers of ae.yaml are notified. The tags of a run are not those of its tasks: before a task that has some Prefect asks its
    server for limits by them, which SQLite often refuses while the end of the last task is recorded, and tries again after 2 s.

    Args:
        name: of the flow, such as training.
        verb: that its runs' names begin with, such as train.
    """

    def name_run() -> str:
        return f"{verb} {flow_run.parameters['recipe']}, {flow_run.scheduled_start_time:%Y-%m-%d %H:%M}"

    def decorate_flow(function: Callable[..., Any]) -> PipelineFlow:
        @functools.wraps(function)
        def run_flow(recipe: str, *arguments: Any, **options: Any) -> Any:
            try:
                with TagsContext(current_tags=set()):  # the tags of the run are not those of its tasks
                    return function(recipe, *arguments, **options)
            except Exception as error:
                note_outcome(recipe, f"it failed: {error}")
                tell_failure(find_project(), recipe, f"{name} of {recipe}", error)
                if as_ae_error(error) is None:
                    raise  # a fault of ours: Prefect logs where it comes from
                return Failed(message=str(as_ae_error(error)), data=error)

        return PipelineFlow(run_flow, name=name, flow_run_name=name_run)

    return decorate_flow


def note_outcome(recipe: str, outcome: str) -> None:
    """Record why this flow run made no version, where monitoring has started it as a retrain."""
    try:
        end_retrain(find_project(), recipe, str(flow_run.id), outcome)
    except AeError as error:  # the run's own result counts
        print(f"not noted with the alarms of {recipe}: {error}", file=sys.stderr, flush=True)


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


def flow_result(summary: FlowSummary, message: str) -> State[FlowSummary]:
    """Return a flow's result as its last state, with a message for Prefect's page."""
    return Completed(message=message, data=summary)
