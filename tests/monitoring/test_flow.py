"""The flow under a real Prefect server: it looks, starts a retrain once, and mends what a kill at any moment left."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from fork_server import run_in_fork
from local_receivers import name_webhook, notices_of, receiver
from monitored_project import on_day, promotion_of
from prefect import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from aeops.machine.stored_json import read_json
from aeops.monitoring import paths, retrains
from aeops.project import Project
from aeops.recipe.reader import Recipe
from flows import monitoring as flow

pytestmark = pytest.mark.timeout(600)  # seconds: a server, a registry and a few processes on a busy machine
NAME = "retrain-digits"


@pytest.fixture(scope="module")
def server(prefect_address: str) -> Iterator[str]:
    """The API address of a Prefect server, which this process asks, too."""
    with temporary_settings({PREFECT_API_URL: prefect_address}):
        yield prefect_address


@pytest.fixture
def stale(registered: Project, tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A champion that is stale on day 91, where no retrain was started; what a look found of it lies there."""
    for name in ("MLFLOW_TRACKING_URI", "AE_HOME"):
        monkeypatch.delenv(name, raising=False)
    made = Project(root=tmp_path, home=tmp_path / ".ae")
    for name in ("recipes", "dvc.yaml"):
        place = registered.root / name
        (shutil.copytree if place.is_dir() else shutil.copy)(place, tmp_path / name)
    for name in ("mlflow", "ledger"):
        shutil.copytree(registered.home / name, made.home / name)
    return made


@pytest.fixture
def deployed(server: str) -> Iterator[UUID]:
    """The deployment that a retrain is started by; nobody works for it, so its runs stay scheduled."""
    with get_client(sync_client=True) as client:
        made = client.create_deployment(client.create_flow_from_name("training"), NAME, parameters={"recipe": "digits"})
        yield made
        client.delete_deployment(made)


def runs_of(deployment: UUID) -> list[Any]:
    with get_client(sync_client=True) as client:
        return [run for run in client.read_flow_runs() if run.deployment_id == deployment]


def day(project: Project, number: int) -> datetime:
    return on_day(promotion_of(project), number)


def found() -> dict[str, Any]:
    """A verdict with one alarm, as a look writes it."""
    decision = {
        "retrain": True,
        "why": ["1 alarm"],
        "signals": ["stale"],
        "command": "ae run digits",
        "id": None,
        "flow_run": None,
    }
    return {"recipe": "digits", "version": "1", "signals": [{"name": "stale", "verdict": "alarm"}], "decision": decision}


def settled(project: Project, recipe: Recipe, now: datetime) -> dict[str, Any]:
    paths.monitoring_folder(project, "digits").mkdir(parents=True, exist_ok=True)
    verdict = found()
    flow.apply_decision(project, recipe, verdict, now)
    return dict(verdict["decision"])


def python(project: Project, server: str, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PREFECT_API_URL": server, "PREFECT_HOME": str(project.home / "prefect")}
    return run_in_fork("code", script, *arguments, cwd=project.root, env=environment, timeout=300)


@pytest.mark.slow
def test_the_flow_looks_and_starts_the_retrain_of_a_stale_champion(stale: Project, deployed: UUID, server: str) -> None:
    script = (
        "import sys\nfrom datetime import datetime\nfrom aeops.project import find_project\n"
        "from aeops.machine.environment import prepare_environment\nprepare_environment(find_project())\n"
        "from flows.monitoring import monitoring\nmonitoring('digits', datetime.fromisoformat(sys.argv[1]))\n"
    )
    with receiver(200) as seen:
        name_webhook(stale.root, seen.address)
        done = python(stale, server, script, day(stale, 91).isoformat())
        assert done.returncode == 0, done.stdout + done.stderr
        without_zone = python(stale, server, script, day(stale, 91).replace(tzinfo=None).isoformat())
    (stale.root / "ae.yaml").unlink()
    alarm, failure = notices_of(seen)
    assert (alarm["event"], alarm["title"]) == ("alarm", "alarm of digits 1: stale, volume")
    assert "notify: ops was notified: alarm of digits 1: stale, volume" in done.stderr
    assert without_zone.returncode != 0
    assert (failure["event"], failure["title"]) == ("failure", "monitoring of digits has failed")
    assert str(failure["text"]).startswith("expected `now` with a time zone, such as ")
    verdict = read_json(paths.verdict_file(stale, "digits"))
    [line] = retrains.read_retrains(stale, "digits")
    [run] = runs_of(deployed)
    assert (line.id, line.flow_run) == (run.idempotency_key, str(run.id))
    assert (verdict["decision"]["id"], verdict["decision"]["flow_run"]) == (line.id, line.flow_run)
    assert run.parameters == {"recipe": "digits"}
    assert {one["name"]: one["verdict"] for one in verdict["signals"]}["stale"] == "alarm"
    page = paths.page_file(stale, "digits").read_text()
    assert "The champion needs a look." in page  # it is old, and nothing says that its samples are others
    assert "no longer sees what it was calibrated on" not in page
    with get_client(sync_client=True) as client:
        artifacts = {artifact.key: artifact for artifact in client.read_artifacts()}
    assert "**alarm**" in artifacts["digits-monitoring"].data
    assert "page.html" in artifacts["digits-monitoring-page"].data


def test_where_there_is_no_deployment_it_says_what_to_type_and_spends_no_budget(
    stale: Project, recipe: Recipe, server: str
) -> None:
    decision = settled(stale, recipe, day(stale, 91))
    assert "no deployment training/retrain-digits to start: type `ae run digits`" in decision["why"][-1]
    assert decision["flow_run"] is None
    assert retrains.read_retrains(stale, "digits") == []


def test_a_second_look_starts_no_second_retrain_before_the_cooldown_ends(stale: Project, recipe: Recipe, deployed: UUID) -> None:
    first = settled(stale, recipe, day(stale, 91))
    held = settled(stale, recipe, day(stale, 92))
    assert (held["retrain"], held["flow_run"]) == (False, None)
    assert "cooldown_days" in held["why"][-1]
    assert [str(run.id) for run in runs_of(deployed)] == [first["flow_run"]]
    settled(stale, recipe, day(stale, 94))
    assert len(runs_of(deployed)) == 2


# Kills the process at an event that Python tells an audit hook of, once a line has been added to retrains.jsonl.
KILLED = (
    "import os, signal, sys\nfrom datetime import datetime\nfrom pathlib import Path\n"
    "import flows.monitoring as flow\nfrom aeops.project import find_project\n"
    "from aeops.recipe.reader import load_recipe\nimport json\n"
    "event, now, verdict, file = sys.argv[1], datetime.fromisoformat(sys.argv[2]), json.loads(sys.argv[3]), sys.argv[4]\n"
    "def watch(name, arguments):\n"
    "    if name == event and os.path.exists(file) and os.path.getsize(file) and (name != 'open' or str(arguments[0]) == file):\n"
    "        os.kill(os.getpid(), signal.SIGKILL)\n"
    "sys.addaudithook(watch)\n"
    "flow.apply_decision(find_project(), load_recipe(find_project(), 'digits'), verdict, now)\n"
)


@pytest.mark.parametrize(("event", "started"), [("socket.connect", 0), ("open", 1)], ids=["before-it-is-started", "after-it-was"])
def test_a_kill_between_the_line_and_the_retrain_starts_it_neither_twice_nor_never(
    event: str, started: int, stale: Project, recipe: Recipe, deployed: UUID, server: str
) -> None:
    folder = paths.monitoring_folder(stale, "digits")
    folder.mkdir(parents=True)
    arguments = [event, day(stale, 91).isoformat(), json.dumps(found()), str(paths.retrains_file(stale, "digits"))]
    done = python(stale, server, KILLED, *arguments)
    assert done.returncode == -9, done.stdout + done.stderr
    left = retrains.find_unfinished_retrain(retrains.read_retrains(stale, "digits"))
    assert left is not None
    assert len(runs_of(deployed)) == started

    mended = settled(stale, recipe, day(stale, 92))  # within the cooldown, which the line counts for
    [run] = runs_of(deployed)
    assert (mended["id"], mended["flow_run"]) == (left.id, str(run.id)) == (run.idempotency_key, str(run.id))
    assert "was interrupted" in mended["why"][-1]
    assert settled(stale, recipe, day(stale, 92))["flow_run"] is None
    assert len(runs_of(deployed)) == 1
