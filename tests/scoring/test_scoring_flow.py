"""The flow `scoring` on a real Prefect server, beside a training that holds the workspace."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fork_server import run_in_fork

from aeops.machine.lock import run_lock

from .conftest import Room, age, npy_bytes

REPOSITORY = Path(__file__).parents[2]
STORY = """
import json
from datetime import UTC, datetime
from aeops.machine.environment import prepare_environment
from aeops.project import find_project

project = find_project()
prepare_environment(project)
from prefect import get_client
from prefect.logging.handlers import APILogWorker
from flows.scoring import scoring

told = [scoring("digits", now=datetime(2026, 3, 1, 12, tzinfo=UTC)), scoring("digits"), scoring("unborn")]
with get_client(sync_client=True) as client:
    artifacts = {artifact.key: artifact.data for artifact in client.read_artifacts()}
    runs = {run.name: run.state.type.value for run in client.read_flow_runs() if run.name.startswith("score ")}
    tasks = sorted(run.name for run in client.read_task_runs() if run.name.startswith("score "))
APILogWorker.drain_all()
print(json.dumps({"told": told, "artifacts": artifacts, "runs": runs, "tasks": tasks}))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_is_on_prefects_page_with_its_summary_and_needs_no_workspace(
    room: Room, digits: np.ndarray, prefect_address: str, tmp_path: Path
) -> None:
    room.put("a.npy", digits[:5])
    text = (room.project.recipes / "digits.yaml").read_text().replace("recipe: digits", "recipe: unborn")
    (room.project.recipes / "unborn.yaml").write_text(text)
    orphan = room.project.home / "inbox" / "unborn" / "a.npy"
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(npy_bytes(digits[:2]))
    age(orphan)
    with run_lock(room.project, "a training"):
        settings = {"PREFECT_API_URL": prefect_address, "PREFECT_HOME": str(tmp_path / "prefect")}
        done = run_in_fork("code", STORY, cwd=room.project.root, env=os.environ | settings, timeout=800)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert [one["state"] for one in found["told"]] == ["scored", "nothing new", "no champion"]
    assert {name.partition(",")[0]: kind for name, kind in found["runs"].items()} == {
        "score digits": "COMPLETED",
        "score unborn": "COMPLETED",
    }
    assert found["tasks"] == ["score digits", "score digits", "score unborn"]
    page = Path(found["told"][0]["page"])
    assert page.is_file()
    assert page.as_uri() in found["artifacts"]["digits-scoring"]
    assert {file.parent.name for file in room.calls()} == {"2026-03-01"}
    assert len(room.rows()) == 5


def test_a_fault_of_the_inbox_reaches_the_flow_as_what_it_is(room: Room, tmp_path: Path) -> None:
    text = (room.project.recipes / "digits.yaml").read_text().replace("recipe: digits", "recipe: lost")
    (room.project.recipes / "lost.yaml").write_text(text + "\nscoring: {inbox: nowhere}\n")
    note = tmp_path / "error.json"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "AE_ERROR_FILE": str(note)}
    command = [sys.executable, "-m", "aeops.scoring", "lost", "--out", str(tmp_path / "out.json")]
    done = subprocess.run(command, cwd=room.project.root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert json.loads(note.read_text())["kind"] == "data"
    assert "nowhere: no such folder" in done.stderr
