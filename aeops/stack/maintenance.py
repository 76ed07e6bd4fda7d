"""`python -m aeops.stack.maintenance`: the maintenance that the supervisor runs a few times a minute, in a process of its own.

It marks flow runs Crashed whose process has ended without reporting it, deletes all but the newest of a schedule's waiting runs,
notifies the receivers of ae.yaml of crashed runs, of services that do not stay up and of what did not arrive before, and closes
MLflow's runs that a killed process left open. It starts no run again: the next one of its schedule, or one that a person starts,
goes on at the last checkpoint.
"""

import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import psutil

from aeops.alerts import notices
from aeops.alerts.receivers import RETRY_GAP, retry_quietly, send
from aeops.files import write_json
from aeops.machine.child_process import tied_command
from aeops.machine.lock import was_holder_killed
from aeops.machine.process_identity import ProcessIdentity, parse_identity, this_process
from aeops.machine.stack_settings import read_settings
from aeops.machine.stored_json import read_json_if_whole
from aeops.project import Project, find_project
from aeops.stack.leader_state import SETUP_NAME, read_state
from aeops.stack.prefect_api import PrefectApi, PrefectObject, stack_prefect_api
from aeops.stack.service_definitions import worker_name

PROCESS_LABEL = "ae.process"  # of a flow run: its `ProcessIdentity.text`
_PROCESS_TAG = f"{PROCESS_LABEL}="  # of a flow run that was started by hand, from its creation on: the same text behind it
_WORKER_LABEL = "prefect.worker.name"  # of a flow run: the worker that has taken it
_RUN_ID_VARIABLE = "PREFECT__FLOW_RUN_ID"  # set by a worker in the process of a flow run
_START_TIMEOUT = timedelta(minutes=2)  # in which a worker starts a flow run's process
_CRASH_NOTIFIED_WITHIN = timedelta(hours=1)  # an older one was reported, or happened while no stack ran
_FINAL_STATES = ("COMPLETED", "FAILED", "CANCELLED")  # Crashed is Prefect's word for a run that was interrupted
_WAITING_STATES = ("Late", "Scheduled", "AwaitingConcurrencySlot")


def main() -> None:
    """Run all of it once; print a line for each change."""
    project = find_project()
    settings = read_settings(project)
    if settings is None:
        return
    tell_outages(project)
    retry_quietly(project, RETRY_GAP)
    api = stack_prefect_api(project, settings)
    for message in (*crash_dead_runs(api), *delete_missed_runs(api)):
        print(message, flush=True)
    tell_crashes(project, api)
    if was_holder_killed(project):
        _close_open_runs(project)


def tell_outages(project: Project) -> None:
    """Tell the receivers of ae.yaml of each service that does not stay up, once when that begins."""
    state = read_state(project)
    failing_names = [name for name in (*sorted(state.services), SETUP_NAME) if state.is_failing(name)]
    for name in _new_ones(project, "outages", failing_names):
        log = project.logs / f"{'setup' if name == SETUP_NAME else name}.log"
        send(project, notices.outage(name, str(log)))


def tell_crashes(project: Project, api: PrefectApi) -> None:
    """Tell the receivers of ae.yaml of each run that was interrupted lately, whoever has noticed that."""
    since = datetime.now(UTC) - _CRASH_NOTIFIED_WITHIN
    crashed_runs = api.flow_runs({"state": {"type": {"any_": ["CRASHED"]}}, "end_time": {"after_": since.isoformat()}})
    runs = {str(run["id"]): run for run in crashed_runs}
    for run_id in _new_ones(project, "crashes", list(runs)):
        run = runs[run_id]
        reason = run["state"]["message"] or "its process ended without reporting it"
        name = str(run["name"]).partition(", ")[0]  # without its time: a run that is killed every hour is the same failure
        send(project, notices.failed(str(run["parameters"].get("recipe", "")), f"the run `{name}`", reason))


def _new_ones(project: Project, topic: str, names: list[str]) -> list[str]:
    """Return those of the names that were not there the last time; what is there now is noted before anybody is notified."""
    file = project.home / "stack" / f"{topic}.json"
    record = read_json_if_whole(file, "notified") or {"notified": []}
    if names != record["notified"]:
        write_json(file, {"notified": names})
    return [name for name in names if name not in record["notified"]]


def crash_dead_runs(api: PrefectApi) -> list[str]:
    """Mark each flow run Crashed whose process, on this machine, has ended.

    Returns:
        A line for each of them.
    """
    messages = []
    if unfinished_runs := api.unfinished_runs():
        living_runs = _runs_with_process()
        for run in unfinished_runs:
            reason = _death_reason(run, living_runs)
            if reason and api.is_unfinished(run["id"]):  # checked again: it may have ended well, and its process then
                api.mark_crashed(run["id"], reason)
                messages.append(f"flow run {run['name']} ({run['id']}): {reason}")
    return messages


def own_process_tag() -> str:
    """Return the tag by which a flow run of this process is known before it can set its label."""
    return f"{_PROCESS_TAG}{this_process().text}"


def cancel_own_runs(api: PrefectApi, reason: str) -> None:
    """Mark the flow runs Cancelled that this process has started and not finished."""
    for run in api.flow_runs({"tags": {"all_": [own_process_tag()]}}):
        if run["state"]["type"] not in _FINAL_STATES:
            api.mark_cancelled(run["id"], reason)


def _process_of(run: PrefectObject) -> ProcessIdentity | None:
    """Return the process that a flow run names; None where it names none yet."""
    texts = [run["labels"].get(PROCESS_LABEL, "")]
    for tag in run["tags"]:
        if tag.startswith(_PROCESS_TAG):
            texts.append(tag.removeprefix(_PROCESS_TAG))
    for text in texts:
        if identity := parse_identity(str(text)):
            return identity
    return None


def _death_reason(run: PrefectObject, living_runs: set[str]) -> str:
    """Return why the process of an unfinished run is known to have ended; empty where it lives or cannot be checked from here."""
    identity = _process_of(run)
    if identity is not None:
        if not identity.is_dead():
            return ""
        return f"process {identity.pid} ended without reporting it; the next run goes on where it was"
    if run["labels"].get(_WORKER_LABEL) != worker_name() or run["id"] in living_runs:
        return ""
    taken_at = datetime.fromisoformat(run["state"]["timestamp"])
    if datetime.now(UTC) - taken_at <= _START_TIMEOUT:
        return ""
    return f"its process did not start within {_START_TIMEOUT.total_seconds():.0f} s; the next run starts anew"


def _runs_with_process() -> set[str]:
    """Return the ids of the flow runs that have a process on this machine which a worker started."""
    run_ids = set()
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            run_ids.add(process.environ().get(_RUN_ID_VARIABLE, ""))
    return run_ids


def delete_missed_runs(api: PrefectApi, now: datetime | None = None) -> list[str]:
    """Delete all but the newest of each schedule's overdue runs: one run makes up for all that were missed.

    Returns:
        A line for each deleted run.
    """
    time_filter = {"before_": (now or datetime.now(UTC)).isoformat()}
    overdue_runs = api.flow_runs(
        {"state": {"name": {"any_": list(_WAITING_STATES)}}, "expected_start_time": time_filter},
        order="EXPECTED_START_TIME_DESC",
    )
    scheduled_runs = [run for run in overdue_runs if run["auto_scheduled"] and run["deployment_id"]]
    messages = []
    for run in older_runs(scheduled_runs):
        api.delete_run(run["id"])
        messages.append(f"flow run {run['name']} of {run['expected_start_time']} was missed; a newer one replaces it")
    return messages


def older_runs(newest_first: Iterable[PrefectObject]) -> list[PrefectObject]:
    """Return all runs but the first of each deployment."""
    deployments, runs = set(), []
    for run in newest_first:
        if run["deployment_id"] in deployments:
            runs.append(run)
        deployments.add(run["deployment_id"])
    return runs


def _close_open_runs(project: Project) -> None:
    """Close MLflow's runs, which takes an import of seconds: only where the workspace's last holder was killed."""
    command = tied_command([sys.executable, "-m", "aeops.registry.killed_runs"])
    process = subprocess.run(command, cwd=project.root, capture_output=True, text=True, timeout=300, check=False)
    print(process.stdout + process.stderr, end="", flush=True)
    if process.returncode:
        sys.exit(process.returncode)


if __name__ == "__main__":
    main()
