"""`ae up` as people run it: real servers, one worker, schedules, a champion's service, the page; and kill -9 of each of them."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import yaml
from checkout import Checkout, make_checkout, wait_for
from local_receivers import name_webhook, notices_of, receiver
from stack_processes import pids

from aeops.machine.service_records import read_service_record, read_service_records
from aeops.machine.stack_settings import read_settings
from aeops.project import Project
from aeops.stack.prefect_api import PrefectApi, stack_prefect_api
from aeops.stack.service_processes import stack_processes
from aeops.stack.status import read_stack_status

REPOSITORY = Path(__file__).parents[2]
pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]  # seconds, on a busy machine

CROWN = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from champion_helpers import make_champion
from aeops.project import find_project
from aeops.registry.store import open_store
store = open_store(find_project())
run = store.start_run({recipe!r}, {{}}, {{}}, {{"dataset": "none", "content_sha256": "0" * 64}})
store.finish_run(run, "FINISHED")
make_champion(store, {recipe!r}, store.register(run, {recipe!r}, Path({bundle!r}), {{"verdict": "accepted"}}, "# a champion"))
print("done")
"""


class Stack:
    """The stack of a checkout that has the real prefect.yaml, and beside it deployments of tests/stack/waiting.py."""

    def __init__(self, checkout: Checkout, receiver: SimpleNamespace) -> None:
        self.checkout, self.receiver = checkout, receiver
        self.project = Project(root=checkout.root, home=checkout.home)
        names = ("--mlflow-port", "--prefect-port", "--page-port", "--score-port")
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.waited = checkout.home / "waited.txt"

    @property
    def api(self) -> PrefectApi:
        """Prefect's API, with the secret that `ae up` has made."""
        settings = read_settings(self.project)
        assert settings is not None, "the stack is down"
        return stack_prefect_api(self.project, settings)

    def up(self) -> subprocess.CompletedProcess[str]:
        options = [word for name, port in self.ports.items() for word in (name, str(port))]
        done = self.checkout.ae("up", *options, timeout=400)
        assert done.returncode == 0, done.stdout + done.stderr + self.logs()
        return done

    def was_told(self, *words: str) -> bool:
        return any(all(word in f"{one['title']} {one['text']}" for word in words) for one in notices_of(self.receiver))

    def logs(self) -> str:
        files = sorted((self.checkout.home / "logs").glob("*.log"))
        return "".join(f"\n--- {file.name}\n{file.read_text(errors='replace')[-1500:]}" for file in files)

    def make_champion(self, recipe: str) -> None:
        bundle = REPOSITORY / "tests" / "fixtures" / "bundle-format-1"
        self.checkout.python(CROWN.format(tests=str(REPOSITORY / "tests"), recipe=recipe, bundle=str(bundle)))

    def is_well(self) -> bool:
        return bool(read_stack_status(self.project)["well"])

    def pids(self) -> dict[str, int | None]:
        return pids(self.project)

    # ---------------------------------------------------------------- runs

    def deployments(self) -> dict[str, dict[str, Any]]:
        return {deployment["name"]: deployment for deployment in self.api.deployments()}

    def start(self, deployment: str) -> str:
        made = self.api.request("POST", f"deployments/{self.deployments()[deployment]['id']}/create_flow_run", {})
        return str(made["id"])

    def state(self, run: str) -> tuple[str, str]:
        state = self.api.request("GET", f"flow_runs/{run}")["state"]
        return state["name"], state["message"] or ""

    def hold(self) -> None:
        (self.checkout.home / "go").unlink(missing_ok=True)

    def go(self, how: str = "well") -> None:
        (self.checkout.home / "go").write_text(how)

    def lines(self, word: str) -> list[list[str]]:
        """Of what the waiting flow wrote down: recipe, pid and MLflow run of each beginning or end."""
        text = self.waited.read_text() if self.waited.exists() else ""
        return [line.split()[1:] for line in text.splitlines() if line.startswith(word)]

    def begin(self, deployment: str) -> tuple[str, int, str]:
        """Starts a run that waits inside: flow run, pid, MLflow run."""
        before = len(self.lines("begin"))
        run = self.start(deployment)
        wait_for(lambda: len(self.lines("begin")) > before, seconds=150)
        _, pid, mlflow_run = self.lines("begin")[-1]
        return run, int(pid), mlflow_run

    def mlflow_status(self, run: str) -> str:
        script = (
            "from aeops.project import find_project\nfrom aeops.registry.store import open_store\n"
            f"print(open_store(find_project()).client.get_run({run!r}).info.status)"
        )
        return self.checkout.python(script)


def free_ports(count: int) -> list[int]:
    """Ports apart from each other, as the scoring services take the ones above theirs."""
    found: list[int] = []
    while len(found) < count:
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if all(abs(port - other) > 5 for other in found):
            found.append(port)
    return found


def write_prefect_yaml(checkout: Checkout) -> None:
    """The real file, its clocks set so that nothing falls due during the tests; and deployments that only wait."""
    real = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())
    now = datetime.now(UTC)
    deployments = []
    for one in real["deployments"]:
        schedules = [dict(schedule) for schedule in one["schedules"]]
        for schedule in schedules:
            if "cron" in schedule:
                schedule["cron"] = f"30 {(now.hour + 12) % 24} * * *"
            else:
                schedule["anchor_date"] = now.isoformat()
        deployments.append(one | {"schedules": schedules})
    waits = {
        "entrypoint": "flows/waiting.py:waiting",
        **{key: real["deployments"][0][key] for key in ("concurrency_limit", "work_pool")},
    }
    every_hour = [{"interval": 3600, "anchor_date": now.isoformat(), "timezone": "UTC", "active": True}]
    for name, schedules in (("a", []), ("b", []), ("often", every_hour)):
        deployments.append(waits | {"name": f"wait-{name}", "parameters": {"recipe": name}, "schedules": schedules})
    plain = {key: real[key] for key in ("prefect-version", "name", "pull")} | {"deployments": deployments}
    (checkout.root / "prefect.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(plain))))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack, up, with `digits` as its only champion."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AE_HOME", "MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
            patch.delenv(name, raising=False)
        checkout = make_checkout(tmp_path_factory.mktemp("stack") / "checkout")
        write_prefect_yaml(checkout)
        shutil.copy(Path(__file__).parent / "waiting.py", checkout.root / "flows")
        with receiver(204) as seen:
            name_webhook(checkout.root, seen.address, repeat_hours=0)
            made = Stack(checkout, seen)
            try:
                made.make_champion("digits")
                made.up()
                yield made
            finally:
                checkout.ae("down", timeout=120)


def test_up_brings_everything_and_status_tells_it(stack: Stack) -> None:
    told = json.loads(stack.checkout.ae("status", "--json").stdout)
    services = {row["name"]: row for row in told["services"]}
    assert set(services) == {"supervisor", "mlflow", "prefect", "worker", "score-digits", "page"}
    assert {row["state"] for row in services.values()} == {"well"}
    assert told["well"]
    assert services["mlflow"]["address"] == f"http://127.0.0.1:{stack.ports['--mlflow-port']}"
    assert services["score-digits"]["address"] == f"http://127.0.0.1:{stack.ports['--score-port']}"
    assert all(row["memory_mb"] > 5 and row["since"] for row in services.values())
    assert [(row["recipe"], row["version"]) for row in told["champions"]] == [("digits", "1")]
    assert {"retrain-digits", "score-digits", "monitor-digits"} <= {row["deployment"] for row in told["next_runs"]}
    plain = stack.checkout.ae("status")
    assert plain.returncode == 0
    assert "all services are healthy" in plain.stdout


def test_every_active_schedule_has_a_scheduled_run_and_no_other(stack: Stack) -> None:
    """With SQLAlchemy 2.1 deployments were made and none of them ever ran."""
    real = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())["deployments"]
    made = stack.deployments()
    assert {one["name"] for one in real} <= set(made)
    active = {made[one["name"]]["id"] for one in real if any(schedule["active"] for schedule in one["schedules"])}
    others = {made[one["name"]]["id"] for one in real} - active

    def scheduled() -> set[str]:
        return {run["deployment_id"] for run in stack.api.flow_runs({"state": {"type": {"any_": ["SCHEDULED"]}}})}

    wait_for(lambda: active <= scheduled(), seconds=60)
    assert not others & scheduled()


def test_up_again_starts_nothing_that_runs(stack: Stack) -> None:
    before = stack.pids()
    done = stack.checkout.ae("up")
    assert done.returncode == 0, done.stderr
    assert f"http://127.0.0.1:{stack.ports['--page-port']}" in done.stdout
    assert stack.pids() == before


def test_a_recipes_first_champion_gets_its_service_at_once(stack: Stack) -> None:
    stack.make_champion("small")
    wait_for(lambda: (note := read_service_record(stack.project, "score-small")) and note.process, seconds=30)
    wait_for(stack.is_well, seconds=120)
    note = read_service_record(stack.project, "score-small")
    assert note is not None
    assert note.address == f"http://127.0.0.1:{stack.ports['--score-port'] + 1}"


# ---------------------------------------------------------------- kill -9, while a run is at work


@pytest.fixture(scope="module")
def at_work(stack: Stack) -> tuple[str, int, str]:
    stack.hold()
    return stack.begin("wait-a")


@pytest.mark.parametrize("name", ["mlflow", "score-digits", "page", "supervisor", "standby", "worker", "prefect"])
def test_any_one_process_may_be_killed(stack: Stack, at_work: tuple[str, int, str], name: str) -> None:
    before = stack.pids()
    killed = before[name]
    assert killed is not None
    os.kill(killed, signal.SIGKILL)

    def recovered() -> bool:
        now = stack.pids()
        return None not in now.values() and now[name] != killed and stack.is_well()

    wait_for(recovered, seconds=240)
    now = stack.pids()
    others = before.keys() - {"supervisor", "standby"} - {name}
    assert {other: now[other] for other in others} == {other: before[other] for other in others}
    if name == "supervisor":
        assert now["supervisor"] == before["standby"]
    assert psutil.pid_exists(at_work[1])


def test_the_run_at_work_meanwhile_ends_well_and_once(stack: Stack, at_work: tuple[str, int, str]) -> None:
    run, pid, mlflow_run = at_work
    lease = stack.api.request("GET", f"flow_runs/{run}")["state"]["state_details"]["deployment_concurrency_lease_id"]
    stack.api.request(
        "POST", f"v2/concurrency_limits/leases/{lease}/renew", {"lease_duration": 300}
    )  # as the run does every 225 s
    stack.go()
    wait_for(lambda: stack.state(run)[0] == "Completed", seconds=120)
    assert stack.state(run)[1] == "a has waited"
    printed = (stack.checkout.home / "logs" / "runs.log").read_text()
    assert "Traceback" not in printed, printed  # of Prefect's server, which was killed and came back
    assert stack.lines("begin") == stack.lines("end") == [["a", str(pid), mlflow_run]]


@pytest.mark.parametrize("with_its_worker", [False, True])
def test_a_killed_run_is_crashed_closed_and_told_and_the_next_one_works(stack: Stack, with_its_worker: bool) -> None:
    stack.hold()
    run, pid, mlflow_run = stack.begin("wait-b")
    if with_its_worker:
        worker = stack.pids()["worker"]
        assert worker is not None
        os.kill(worker, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: stack.state(run)[0] == "Crashed", seconds=120)
    wait_for(lambda: stack.mlflow_status(mlflow_run) == "KILLED", seconds=120)
    wait_for(lambda: stack.was_told("the run `wait b` has failed"), seconds=30)
    stack.receiver.requests.clear()
    before = len(stack.lines("begin"))
    time.sleep(3)
    assert len(stack.lines("begin")) == before  # nothing tries it again by itself
    stack.go()
    again = stack.start("wait-b")
    wait_for(lambda: stack.state(again)[0] == "Completed", seconds=150)


# ---------------------------------------------------------------- queues, missed runs, telling


def test_runs_of_one_workspace_queue_and_never_interleave(stack: Stack) -> None:
    stack.hold()
    stack.waited.unlink(missing_ok=True)
    runs = [stack.begin("wait-a")[0], stack.start("wait-b"), stack.start("wait-a")]
    wait_for(lambda: stack.state(runs[1])[0] == "Running", seconds=120)
    wait_for(lambda: "wait b waits: `wait a`" in messages(stack, runs[1]), seconds=60)
    assert len(stack.lines("begin")) == 1
    stack.go()
    wait_for(lambda: {stack.state(run)[0] for run in runs} == {"Completed"}, seconds=240)
    words = [line.split()[:3] for line in stack.waited.read_text().splitlines()]
    assert [word for word, _, _ in words] == ["begin", "end"] * 3
    assert all(words[i][1:] == words[i + 1][1:] for i in range(0, 6, 2))


def messages(stack: Stack, run: str) -> str:
    logs = stack.api.request("POST", "logs/filter", {"logs": {"flow_run_id": {"any_": [run]}}})
    return "\n".join(line["message"] for line in logs)


def test_of_the_runs_that_were_missed_one_is_made(stack: Stack) -> None:
    stack.go()
    worker = psutil.Process(stack.pids()["worker"])
    worker.suspend()  # as if there were none
    try:
        deployment, now = stack.deployments()["wait-often"]["id"], datetime.now(UTC)
        span = {
            "start_time": (now - timedelta(hours=40)).isoformat(),
            "end_time": now.isoformat(),
            "min_runs": 40,
            "max_runs": 40,
        }
        stack.api.request("POST", f"deployments/{deployment}/schedule", span)

        def missed() -> list[dict[str, Any]]:
            mine = {"deployment_id": {"any_": [deployment]}, "expected_start_time": {"before_": now.isoformat()}}
            return stack.api.flow_runs(mine)

        wait_for(lambda: len(missed()) == 1, seconds=90)
    finally:
        worker.resume()
    wait_for(lambda: missed()[0]["state"]["name"] == "Completed", seconds=150)
    assert len([line for line in stack.lines("begin") if line[0] == "often"]) == 1


def test_a_run_that_fails_is_told_with_its_message_and_an_alarm_is_on_the_status(stack: Stack) -> None:
    stack.go("fail")
    stack.start("wait-a")
    wait_for(lambda: stack.was_told("waiting of a has failed", "as it was told to"), seconds=150)

    place = stack.checkout.home / "monitoring" / "digits"
    place.mkdir(parents=True)
    signal_ = {"name": "alarm rate", "verdict": "alarm", "says": "3.1 % of 400 flagged; 1 % promised"}
    (place / "verdict.json").write_text(json.dumps({"as_of": datetime.now(UTC).isoformat(), "signals": [signal_]}))
    assert [(row["recipe"], row["signal"]) for row in read_stack_status(stack.project)["alarms"]] == [("digits", "alarm rate")]


def test_where_both_supervisors_are_killed_status_says_so_and_up_mends_it(stack: Stack) -> None:
    before = stack.pids()
    for name in ("standby", "supervisor"):
        killed = before.pop(name)
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
    told = stack.checkout.ae("status")
    assert (told.returncode, "not healthy: supervisor" in told.stdout) == (5, True)
    done = stack.checkout.ae("up", timeout=400)
    assert done.returncode == 0, done.stderr
    wait_for(lambda: None not in stack.pids().values(), seconds=60)
    assert {name: stack.pids()[name] for name in before} == before


def test_in_the_foreground_sigterm_leaves_no_process_and_no_port(stack: Stack) -> None:
    foreground = stack.checkout.start("up", "--foreground")
    wait_for(lambda: "`ae down` to stop it" in (stack.checkout.root / "started.log").read_text(), seconds=120)
    started = {process.pid for group in stack_processes(stack.project).values() for process in group}
    assert len(started) > 6
    foreground.send_signal(signal.SIGTERM)
    assert foreground.wait(timeout=120) == 0
    wait_for(lambda: not [pid for pid in started if is_alive(pid)], seconds=20)
    assert read_service_records(stack.project) == []
    for port in stack.ports.values():
        with closing(socket.create_server(("127.0.0.1", port))):
            pass
    again = stack.checkout.ae("down")
    assert (again.returncode, again.stdout) == (0, "nothing runs here\n")
    assert "does not run" in stack.checkout.ae("status").stdout


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
