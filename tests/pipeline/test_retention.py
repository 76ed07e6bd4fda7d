"""What grows with every run and every day is bounded: Prefect's runs, logs, and copies that serve nothing."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from checkout import Checkout, wait_for

from aeops.machine.lock import file_lock
from aeops.project import Project
from aeops.registry import ledger
from aeops.registry.ledger import Decision
from aeops.stack import logs, retention
from aeops.stack.prefect_api import PrefectApi


def add_run(api: PrefectApi, name: str, tags: list[str], state: str) -> str:
    flow = api.request("POST", "flows/", {"name": "retention"})["id"]
    run = {"flow_id": flow, "name": name, "tags": tags, "state": {"type": state}}
    return str(api.request("POST", "flow_runs/", run)["id"])


def test_old_runs_of_prefect_go_by_their_age_and_those_that_wait_stay(
    prefect_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "")
    api = PrefectApi(prefect_address)
    runs = {
        "routine": add_run(api, "routine", ["small", "score"], "COMPLETED"),
        "hourly": add_run(api, "hourly", ["small", "monitor"], "COMPLETED"),
        "failed": add_run(api, "failed", ["small", "score"], "FAILED"),
        "training": add_run(api, "training", ["small", "retrain"], "COMPLETED"),
        "suspended": add_run(api, "suspended", ["small", "retrain"], "PAUSED"),
        "by hand": add_run(api, "by hand", [], "COMPLETED"),
    }

    def left() -> set[str]:
        return {name for name, run in runs.items() if api.request("GET", f"flow_runs/{run}") is not None}

    now = datetime.now(UTC)
    retention.delete_old_runs(api, now + timedelta(days=6))
    assert left() == set(runs)
    assert "7 days" in retention.delete_old_runs(api, now + timedelta(days=8))[0]
    assert left() == {"failed", "training", "suspended", "by hand"}
    assert "90 days" in retention.delete_old_runs(api, now + timedelta(days=91))[0]
    assert left() == {"suspended"}


def test_a_log_that_a_process_holds_open_is_rotated_and_written_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_BYTES", 1000)
    project = Project(tmp_path, tmp_path)
    project.logs.mkdir()
    (project.logs / "small.log").write_text("little")
    script = "import sys\nfor line in sys.stdin: print(line.strip() * 100, flush=True)"
    with (project.logs / "page.log").open("ab") as log:
        writer = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=log, text=True)
    assert writer.stdin is not None
    with writer.stdin:
        for number in range(30):
            writer.stdin.write(f"{number:02d}\n")
            writer.stdin.flush()
            wait_for(lambda number=number: f"{number:02d}" * 100 in (project.logs / "page.log").read_text())
            retention.rotate_logs(project)
    writer.wait(timeout=20)
    assert (project.logs / "page.log").read_bytes().count(b"\0") == 0
    assert (project.logs / "page.log").stat().st_size <= 1000
    assert 1000 < (project.logs / "page.log.1").stat().st_size <= 1400
    assert {file.name for file in project.logs.iterdir()} == {"small.log", "page.log", "page.log.1"}


def test_downloaded_models_go_when_they_serve_nothing(tmp_path: Path) -> None:
    project = Project(tmp_path, tmp_path / ".ae")
    for name in ("small/1", "small/2", "other/1"):
        (project.home / "serving" / name).mkdir(parents=True)
    with file_lock(project, "ledger"):
        ledger.append_entry(project, Decision("promotion", "small", "2", "ada", "better", {}, from_version=None, to_version="2"))
    now = datetime.now(UTC)
    assert retention.delete_old_models(project, now + timedelta(days=29)) == []
    messages = retention.delete_old_models(project, now + timedelta(days=31))
    assert [message.split(",")[0] for message in messages] == [
        "deleted the downloaded model other 1",
        "deleted the downloaded model small 1",
    ]
    assert [path.name for path in (project.home / "serving").glob("*/*")] == ["2"]


def test_an_accepted_dataset_leaves_no_copy_in_incoming(ran: Checkout) -> None:
    assert (ran.root / "data" / "small" / "receipt.json").is_file()
    assert list((ran.home / "incoming").iterdir()) == []
