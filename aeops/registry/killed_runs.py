"""`python -m aeops.registry.killed_runs`: end the MLflow runs that a killed process left RUNNING; they become KILLED.

A run names its process in the tag `process`; a process of another machine is left to that machine.
"""

from aeops.machine.entry_point import run_main
from aeops.machine.lock import clear_killed_holder
from aeops.machine.process_identity import parse_identity, this_process
from aeops.project import find_project
from aeops.registry.runs import STOPPED_TAG
from aeops.registry.store import Store, open_store

PROCESS_TAG = "process"
MAX_OPEN_RUNS = 1000  # checked in one call


def close_killed_runs(store: Store) -> list[str]:
    """Close every run whose process has ended without closing it.

    Returns:
        A sentence for each run that was closed.

    Raises:
        InfrastructureError: MLflow cannot be reached.
    """
    messages = []
    for run, process in store.open_runs(PROCESS_TAG, MAX_OPEN_RUNS):
        identity = parse_identity(process)
        if identity is not None and identity.is_dead():
            store.finish_run(run, "KILLED")
            messages.append(f"MLflow run {run} is closed: process {identity.pid} was killed")
    return messages


def close_own_runs(store: Store) -> None:
    """Close every open run of this process, which somebody stops, as KILLED, and tag it as stopped in order.

    Raises:
        InfrastructureError: MLflow cannot be reached.
    """
    own = this_process().text
    for run, process in store.open_runs(PROCESS_TAG, MAX_OPEN_RUNS):
        if process == own:
            store.client.set_tag(run, STOPPED_TAG, "true")
            store.finish_run(run, "KILLED")


def main() -> None:
    project = find_project()
    for message in close_killed_runs(open_store(project)):
        print(message)
    clear_killed_holder(project)


if __name__ == "__main__":
    run_main(main)
