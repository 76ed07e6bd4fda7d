"""A flow for the tests of the stack: holds a dataset and an MLflow run open until a file says go, and notes both ends."""

import os
import time
from typing import Any

from prefect import State

from aeops.machine.lock import RunUse
from aeops.machine.process_identity import this_process
from aeops.project import find_project
from aeops.registry.killed_runs import PROCESS_TAG
from aeops.registry.store import open_store
from flows import flow_run

DATASET = {"dataset": "none", "content_sha256": "0" * 64}


@flow_run.pipeline_flow("waiting", "wait")
def waiting(recipe: str) -> State[dict[str, Any]]:
    project = find_project()
    with flow_run.workspace(project, f"wait {recipe}", RunUse(recipe, DATASET["dataset"])):
        store = open_store(project)
        run = store.start_run(recipe, {PROCESS_TAG: this_process().text}, {}, DATASET)
        write(project.home, f"begin {recipe} {os.getpid()} {run}")
        while not (project.home / "go").exists():
            time.sleep(0.1)
        if (project.home / "go").read_text() == "fail":
            raise RuntimeError("as it was told to")
        store.finish_run(run, "FINISHED")
        write(project.home, f"end {recipe} {os.getpid()} {run}")
    return flow_run.flow_result({}, f"{recipe} has waited")


def write(home: Any, line: str) -> None:
    with (home / "waited.txt").open("a") as file:
        file.write(line + "\n")
