"""What is known of the neighbours: services by their notes, Prefect by its API."""

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import httpx
import pytest
from stack_processes import record_service

from aeops.errors import InfrastructureError
from aeops.machine.servers import prefect_server
from aeops.page.background_query import BackgroundQuery, QueryResult
from aeops.page.stack_status import PrefectDeployment, PrefectPlans, basic_auth_header, check_services, read_plans
from aeops.page.view import StackState
from aeops.project import Project


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "recipes").mkdir()
    return Project(root=tmp_path, home=tmp_path / ".ae")


class Well(BaseHTTPRequestHandler):
    """A service that answers, to whoever gives its password."""

    seen: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        self.seen.append(self.headers.get("authorization"))
        body = json.dumps({"version": "7"}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def well() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Well)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_each_service_is_up_silent_or_down_by_its_process_and_its_answer(
    empty: Project, well: str, capsys: pytest.CaptureFixture[str]
) -> None:
    record_service(empty, "score-digits", address=well, health=f"{well}/healthz")
    record_service(empty, "mlflow", address="http://127.0.0.1:9", health="http://127.0.0.1:9/health")
    record_service(empty, "prefect", address=well, health=f"{well}/health", start_id="another start")
    record_service(empty, "worker")
    record_service(empty, "gone", address=well, health=f"{well}/healthz", pid=2**22 + 1, start_id="of a process that has ended")
    (empty.home / "services" / "damaged.json").write_text("{", encoding="utf-8")
    found = {name: (one.state, one.version) for name, one in check_services(empty, basic_auth_header("ae:secret")).items()}
    assert found == {
        "score-digits": ("up", "7"),
        "mlflow": ("silent", None),
        "prefect": ("down", None),
        "worker": ("up", None),
        "gone": ("down", None),
    }
    assert "damaged.json is damaged" in capsys.readouterr().err
    assert set(Well.seen) == {"Basic YWU6c2VjcmV0"}


def test_without_a_server_there_are_no_plans_and_a_silent_one_is_told(empty: Project) -> None:
    assert read_plans(empty).page == ""
    record_service(empty, "prefect", api_url="http://127.0.0.1:9/api")
    with pytest.raises(InfrastructureError, match="does not answer"):
        read_plans(empty)


@pytest.mark.slow
def test_runs_and_deployments_of_a_real_prefect_are_told_by_recipe(
    empty: Project, empty_prefect_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty.prefect.mkdir(parents=True)
    shutil.copy(empty_prefect_database, empty.prefect / "prefect.db")
    monkeypatch.setenv("PREFECT_HOME", str(empty.prefect))
    with prefect_server(empty) as server:
        server.wait_until_ready()
        api = os.environ["PREFECT_API_URL"]
        user, _, password = os.environ["PREFECT_API_AUTH_STRING"].partition(":")
        assert httpx.post(f"{api}/flows/filter", json={}, timeout=60).status_code == 401
        with httpx.Client(base_url=api, timeout=60, auth=(user, password)) as client:
            flow = client.post(f"{api}/flows/", json={"name": "training"}).json()["id"]
            asked = {"name": "digits-retrain", "flow_id": flow, "parameters": {"recipe": "digits"}}
            made = client.post(f"{api}/deployments/", json=asked).json()["id"]
            for name, kind in (("train digits", "FAILED"), ("score digits", "SCHEDULED"), ("train mnist", "COMPLETED")):
                state = {"type": kind, "message": "no space left" if kind == "FAILED" else None}
                run = {
                    "flow_id": flow,
                    "deployment_id": made,
                    "name": name,
                    "parameters": {"recipe": name.split()[1]},
                    "state": state,
                }
                assert client.post(f"{api}/flow_runs/", json=run).status_code == 201
        found = read_plans(empty)
    assert found.deployments == {
        "digits": [PrefectDeployment("digits-retrain", f"{api.removesuffix('/api')}/deployments/deployment/{made}")]
    }
    assert {name: [(run.name, run.state_type, run.message) for run in runs] for name, runs in found.past_runs.items()} == {
        "digits": [("train digits", "FAILED", "no space left")],
        "mnist": [("train mnist", "COMPLETED", "")],
    }
    assert [(run.name, run.kind) for run in found.next_runs["digits"]] == [("score digits", "digits-retrain")]


# ---------------------------------------------------------------- questions in the background


def test_a_question_that_fails_keeps_the_answer_before_and_says_why() -> None:
    answers: Iterator[str] = iter(["one"])

    def ask() -> str:
        try:
            return next(answers)
        except StopIteration as error:
            raise InfrastructureError("nobody\nanswers") from error

    kept = BackgroundQuery(ask, 0.01, "test")
    assert kept.latest_result() == QueryResult()
    kept.start()
    deadline = time.monotonic() + 20
    while not kept.latest_result().error and time.monotonic() < deadline:
        time.sleep(0.01)
    kept.close()
    assert (kept.latest_result().value, kept.latest_result().error) == ("one", "nobody answers")


def test_answers_that_are_older_than_a_read_page_are_loaded_at_once() -> None:
    now = datetime.now(UTC)
    answers = [QueryResult(value, now) for value in ({"recipes": {}}, {}, {}, PrefectPlans())]
    assert StackState(*answers).is_complete  # type: ignore[arg-type]
    answers[2] = QueryResult({}, now - timedelta(hours=8))  # nobody has read the page overnight
    assert not StackState(*answers).is_complete, "the page reloads in a second, not in fifteen"  # type: ignore[arg-type]


def test_nobody_is_asked_while_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aeops.page.background_query.IDLE_SECONDS", 0.05)
    asked: list[float] = []
    kept = BackgroundQuery(lambda: asked.append(time.monotonic()), 0.01, "test")
    kept.start()
    time.sleep(0.5)
    before = len(asked)
    time.sleep(0.5)
    assert len(asked) == before
    kept.latest_result()
    deadline = time.monotonic() + 20
    while len(asked) == before and time.monotonic() < deadline:
        time.sleep(0.01)
    kept.close()
    assert len(asked) > before
