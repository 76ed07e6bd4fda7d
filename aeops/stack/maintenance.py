"""`python -m aeops.stack.maintenance`: what the supervisor has done a few times a minute, each time in a process of its own.

Flow runs whose process has ended without a word become Crashed; of runs of one schedule that wait, all but the newest go; alarms
that have begun are told; and MLflow's runs that a killed process left open are closed. Nothing here starts a run again: the next
one of its schedule, or one that a person asks for, goes on at the last checkpoint.
"""

import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil

from aeops.machine.lock import left_behind
from aeops.machine.process_identity import parse
from aeops.machine.stack_settings import read_settings
from aeops.project import Project, find_project
from aeops.stack.alarms import tell_alarms
from aeops.stack.plan import api_of, worker_name
from aeops.stack.prefect_api import PrefectApi

PROCESS = "ae.process"  # the label by which a flow run names its process
WORKERS_NAME = "prefect.worker.name"  # the label by which a worker marks what it has taken
FLOW_RUN = "PREFECT__FLOW_RUN_ID"  # what a worker gives the process of a flow run
STARTS_WITHIN = timedelta(minutes=2)  # a worker has brought a flow run's process up by then
WAITING = ("Late", "Scheduled", "AwaitingConcurrencySlot")


def main() -> None:
    """Says what it did, a line each."""
    project = find_project()
    settings = read_settings(project)
    if settings is None:
        return
    api = PrefectApi(api_of(settings), settings.auth)
    for told in (*crash_dead_runs(api), *thin_out(api), *tell_alarms(project, api)):
        print(told, flush=True)
    if left_behind(project):
        close_open_runs(project)


def crash_dead_runs(api: PrefectApi) -> list[str]:
    """Marks each flow run Crashed whose process, on this machine, has ended; says which."""
    told = []
    if unfinished := api.unfinished():
        living = ids_of_living()
        for run in unfinished:
            why = death_of(run, living)
            if why and api.is_unfinished(run["id"]):  # asked again: it may have ended well, and its process then
                api.crash(run["id"], why)
                told.append(f"flow run {run['name']} ({run['id']}): {why}")
    return told


def death_of(run: dict[str, Any], living: set[str]) -> str:
    """How it is known that the process of an unfinished run has ended; empty where it lives or cannot be judged from here."""
    identity = parse(str(run["labels"].get(PROCESS, "")))
    if identity is not None:
        return f"process {identity.pid} ended without a word; the next run goes on where it was" if identity.is_dead() else ""
    if run["labels"].get(WORKERS_NAME) != worker_name() or run["id"] in living:
        return ""
    changed = datetime.fromisoformat(run["state"]["timestamp"])
    long_ago = datetime.now(UTC) - changed > STARTS_WITHIN
    return f"no process came of it within {STARTS_WITHIN.total_seconds():.0f} s; the next run starts anew" if long_ago else ""


def ids_of_living() -> set[str]:
    """The flow runs that have a process on this machine which a worker started."""
    found = set()
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            found.add(process.environ().get(FLOW_RUN, ""))
    return found


def thin_out(api: PrefectApi, now: datetime | None = None) -> list[str]:
    """Of each schedule's runs that are overdue, takes away all but the newest: one run makes up for all that were missed."""
    before = {"before_": (now or datetime.now(UTC)).isoformat()}
    overdue = api.flow_runs(
        {"state": {"name": {"any_": list(WAITING)}}, "expected_start_time": before}, sort="EXPECTED_START_TIME_DESC"
    )
    needless = list(older_ones(run for run in overdue if run["auto_scheduled"] and run["deployment_id"]))
    for run in needless:
        api.forget(run["id"])
    return [f"flow run {run['name']} of {run['expected_start_time']} was missed; a newer one does its work" for run in needless]


def older_ones(newest_first: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    seen = set()
    for run in newest_first:
        if run["deployment_id"] in seen:
            yield run
        seen.add(run["deployment_id"])


def close_open_runs(project: Project) -> None:
    """MLflow's part, which costs an import of seconds: only where the workspace's last holder was killed."""
    done = subprocess.run(
        [sys.executable, "-m", "aeops.registry.killed_runs"],
        cwd=project.root,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    print(done.stdout + done.stderr, end="", flush=True)
    if done.returncode:
        sys.exit(done.returncode)


if __name__ == "__main__":
    main()
