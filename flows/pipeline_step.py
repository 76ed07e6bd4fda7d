"""A step of a flow: a Prefect task, shown in the terminal, in `ae logs` and on Prefect's page, tried again where that helps."""

import functools
import sys
from collections.abc import Callable
from typing import Any

from prefect import State, Task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from prefect.runtime import task_run
from prefect.states import Completed, Failed

from aeops.errors import DataError, TransientError, as_ae_error
from aeops.machine.run_log import append_run_line
from aeops.machine.step_report import report_step
from aeops.machine.stored_json import read_json
from aeops.project import Project, find_project
from aeops.provenance.last_run import last_run_file

RETRY_SECONDS = [2.0, 10.0]  # before the first and the second time that a step is tried again


def is_worth_retrying(_task: Any, _run: Any, state: Any) -> bool:
    """Return True for a failure that may pass by itself; a retry helps against nothing else."""
    return isinstance(state.result(raise_on_failure=False), TransientError)


class StepTask(Task[..., Any]):
    """A task that returns what its function returned, or raises its error, also where the function gave its state a message."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        returned = super().__call__(*arguments, **options)
        return returned.result() if isinstance(returned, State) else returned


def pipeline_step(name: str, description: str, retries: int = 0) -> Callable[[Callable[..., Any]], Any]:
    """Decorate a function as a Prefect task, whose last state says what came of it: its figures, or our error's message.

    The task is never cached: a cached task would skip the files it writes. DVC decides what is run again.

    Args:
        name: shown on Prefect's page and in the run's table of durations.
        description: what the step does, for a person who waits for it.
        retries: after failures that may pass by themselves only.
    """

    def decorate_step(function: Callable[..., Any]) -> Any:
        @functools.wraps(function)
        def run_step(recipe: str, *arguments: Any, **options: Any) -> Any:
            project = find_project()

            def log_end(line: str) -> None:
                get_run_logger().info(line)
                append_run_line(project, recipe, line)

            append_run_line(project, recipe, f"{name} ...")
            try:
                with report_step(name, description, last_seconds(project, recipe, name), log_end) as report:
                    result = function(recipe, *arguments, **options)
                    return Completed(message=report.result or None, data=result)
            except Exception as error:
                append_run_line(project, recipe, f"{name} failed: {error}")
                if isinstance(error, TransientError):
                    report_retry(name, retries, error)
                if as_ae_error(error) is None:
                    raise  # a fault of ours: Prefect logs where it comes from
                return Failed(message=str(as_ae_error(error)), data=error)

        return StepTask(
            run_step,
            name=name,
            description=description,
            task_run_name=f"{name} {{recipe}}",
            retries=retries,
            retry_delay_seconds=RETRY_SECONDS[:retries] or None,
            retry_condition_fn=is_worth_retrying,
            cache_policy=NO_CACHE,
        )

    return decorate_step


def last_seconds(project: Project, recipe: str, step: str) -> float | None:
    """Return what a step of a recipe took in its last whole run; None where that is not known."""
    file = last_run_file(project, recipe)
    if not file.is_file():
        return None
    try:
        return dict(read_json(file)["summary"]["seconds"]).get(step)
    except (DataError, KeyError, TypeError, ValueError):  # a run writes a damaged record anew; till then nothing is estimated
        return None


def report_retry(name: str, retries: int, error: TransientError) -> None:
    """Say why a step is tried again and when, where it is."""
    attempt = task_run.run_count or 1
    if attempt <= retries:
        seconds = RETRY_SECONDS[attempt - 1]
        reason = " ".join(str(error).split())
        print(f"{name}: tried again in {seconds:g} s ({attempt} of {retries}): {reason}", file=sys.stderr, flush=True)
