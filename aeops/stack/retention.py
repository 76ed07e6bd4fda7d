"""`python -m aeops.stack.retention`: what the leader runs once an hour, so that a stack may run for years on one disk.

It deletes old flow runs from the stack's own Prefect server, rotates logs that processes hold open, and removes downloaded models
that nothing serves any more; they are downloaded again when somebody asks for them. It deletes no data, version or prediction.
"""

import shutil
from datetime import UTC, datetime, timedelta
from typing import Any

from aeops.drawing.words import format_count
from aeops.machine.entry_point import run_main
from aeops.machine.prefect_access import external_prefect_api
from aeops.machine.stack_settings import read_settings
from aeops.project import Project, find_project
from aeops.registry import ledger
from aeops.stack.logs import rotate_if_large
from aeops.stack.prefect_api import PrefectApi, stack_prefect_api

ROUTINE_TAGS = ("score", "monitor")  # of the deployments in prefect.yaml that run every quarter of an hour and every hour
ROUTINE_AGE = timedelta(days=7)  # their results are stored elsewhere: predictions, scoring pages, verdicts
RUN_AGE = timedelta(days=90)  # of every other run that has ended, and of routine runs that have failed
MODEL_AGE = timedelta(days=30)  # since a version was downloaded that is not the champion
_TERMINAL_STATES = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
_MAX_BATCHES = 40  # in one hour; each locks the database for a moment


def main() -> None:
    """Do all of it once; print a line for each change."""
    project = find_project()
    settings = read_settings(project)
    if settings is None:
        return
    now = datetime.now(UTC)
    messages = rotate_logs(project) + delete_old_models(project, now)
    if not external_prefect_api():  # an external server's runs are its owner's
        messages += delete_old_runs(stack_prefect_api(project, settings), now)
    for message in messages:
        print(message, flush=True)


def delete_old_runs(api: PrefectApi, now: datetime) -> list[str]:
    """Delete flow runs that ended long ago, at most 2,000 of each age.

    Returns:
        A line for each age of which some were deleted.
    """
    routine_filter: dict[str, Any] = {"tags": {"any_": list(ROUTINE_TAGS)}, "state": {"type": {"any_": ["COMPLETED"]}}}
    filters: dict[timedelta, dict[str, Any]] = {
        ROUTINE_AGE: routine_filter,
        RUN_AGE: {"state": {"type": {"any_": list(_TERMINAL_STATES)}}},
    }
    messages = []
    for age, run_filter in filters.items():
        old_runs = run_filter | {"end_time": {"before_": (now - age).isoformat()}}
        count = 0
        for _ in range(_MAX_BATCHES):
            deleted_count = api.delete_runs(old_runs)
            if not deleted_count:
                break
            count += deleted_count
        if count:
            messages.append(f"deleted {format_count(count, 'flow run')} that ended more than {age.days} days ago")
    return messages


def rotate_logs(project: Project) -> list[str]:
    """Rotate each log that has grown large, also of a service that runs for months; returns a line for each."""
    messages = []
    for log in sorted(project.logs.glob("*.log")):
        if rotate_if_large(log):
            messages.append(f"rotated {log.name}")
    return messages


def delete_old_models(project: Project, now: datetime) -> list[str]:
    """Delete models downloaded to `.ae/serving` that are not their recipe's champion; returns a line for each."""
    messages = []
    for folder in sorted((project.home / "serving").glob("*/*")):
        recipe, version = folder.parent.name, folder.name
        age = timedelta(seconds=now.timestamp() - folder.stat().st_mtime)
        if age > MODEL_AGE and version != ledger.champion_at(ledger.read_entries(project, recipe)):
            shutil.rmtree(folder)
            messages.append(f"deleted the downloaded model {recipe} {version}, which is not the champion")
    return messages


if __name__ == "__main__":
    run_main(main)
