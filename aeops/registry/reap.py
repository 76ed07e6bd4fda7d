"""`python -m aeops.registry.reap`: closes the MLflow runs that a killed process left open; they are KILLED then, not RUNNING.

A run names its process in the tag `process`; one of another machine is that machine's to judge.
"""

from aeops.machine.entry_point import run_main
from aeops.machine.lock import clear_killed_holder
from aeops.machine.process_identity import parse_identity
from aeops.project import find_project
from aeops.registry.store import Store, open_store

TAG = "process"
MOST = 1000  # open runs looked at in one go


def reap(store: Store) -> list[str]:
    """Closes every run whose process has ended; returns a line for each.

    Raises:
        InfrastructureError: MLflow cannot be reached.
    """
    told = []
    for run, process in store.open_runs(TAG, MOST):
        identity = parse_identity(process)
        if identity is not None and identity.is_dead():
            store.finish_run(run, "KILLED")
            told.append(f"MLflow run {run} is closed: process {identity.pid} was killed")
    return told


def main() -> None:
    project = find_project()
    for told in reap(open_store(project)):
        print(told)
    clear_killed_holder(project)


if __name__ == "__main__":
    run_main(main)
