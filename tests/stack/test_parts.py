"""The parts of the stack by themselves: which process is meant, the lock, the ports, one service and its manager."""

import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import httpx
import pytest
from checkout import wait_for
from local_receivers import name_webhook, notices_of, receiver

from aeops.cli.main import build_parser, main
from aeops.cli.status import describe_missing_runs
from aeops.cli.up import requested_settings
from aeops.errors import InfrastructureError, UsageError
from aeops.files import write_json
from aeops.machine.lock import clear_killed_holder, file_lock, run_lock, runs_in_progress, try_flock, was_holder_killed
from aeops.machine.network import RequiredPort, require_ports_free
from aeops.machine.prefect_access import login_file, make_login
from aeops.machine.process_identity import parse_identity, this_process
from aeops.machine.service_records import ServiceRecord, read_service_record, service_record_file, write_service_record
from aeops.machine.stack_settings import Settings, read_settings, settings_file, write_settings
from aeops.project import Project
from aeops.stack import service_manager
from aeops.stack.alarms import read_alarms
from aeops.stack.leader_state import LeaderState, write_state
from aeops.stack.logs import shorten_connection_losses
from aeops.stack.maintenance import older_runs, tell_outages
from aeops.stack.service_definitions import ServiceDefinition, define_services, score_ports
from aeops.stack.service_manager import ServiceManager
from aeops.stack.service_processes import stack_processes, stop_processes
from aeops.stack.startup import migrate_databases, require_stack_ports
from aeops.stack.supervisor import StackLeader

REPOSITORY = Path(__file__).parents[2]
SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A project in an empty folder; what is started for it ends with the test."""
    for name in ("AE_HOME", "MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    (tmp_path / "recipes").mkdir()
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    made = Project(root=tmp_path, home=tmp_path / ".ae")
    monkeypatch.chdir(tmp_path)
    yield made
    for left in stack_processes(made).values():
        stop_processes(left, timeout=5)


# ---------------------------------------------------------------- which process


def test_a_process_is_known_by_its_start_and_not_by_its_number_alone() -> None:
    me = this_process()
    assert parse_identity(me.text) == me
    assert not me.is_dead()
    assert replace(me, start_id="another start").is_dead()  # as if the number had been handed on
    assert not replace(me, host="elsewhere", start_id="another start").is_dead()  # not ours to judge


def test_a_killed_process_that_nobody_has_counted_yet_is_dead() -> None:
    child = subprocess.Popen(SLEEP)
    script = "import sys; from aeops.machine.process_identity import start_id_of; print(start_id_of(int(sys.argv[1])))"
    command = [sys.executable, "-c", script, str(child.pid)]
    mark = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.strip()
    identity = replace(this_process(), pid=child.pid, start_id=mark)
    assert not identity.is_dead()
    child.kill()
    wait_for(identity.is_dead, seconds=10)  # a zombie until the next line
    child.wait()


# ---------------------------------------------------------------- the workspace

HOLD = """
import sys, time
from aeops.machine.lock import run_lock
from aeops.project import find_project
with run_lock(find_project(), "ae run held"):
    print("held", flush=True)
    time.sleep(float(sys.argv[1]))
"""


def hold(project: Project, seconds: float) -> subprocess.Popen[str]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(seconds)], cwd=project.root, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_by_hand_a_held_workspace_refuses_and_a_flow_waits_for_it_and_tells_who_holds_it(project: Project) -> None:
    assert runs_in_progress(project) == []
    holder = hold(project, 2)
    assert [run.get("purpose") for run in runs_in_progress(project)] == ["ae run held"]
    with pytest.raises(InfrastructureError, match=f"`ae run held`, process {holder.pid}"), run_lock(project, "ae run small"):
        pass
    told: list[str] = []
    with run_lock(project, "train small", wait=60, notify=told.append):
        assert holder.wait(timeout=30) == 0
        assert runs_in_progress(project) == [], "one's own lock is no reason to wait"
    assert runs_in_progress(project) == []
    assert len(told) == 1
    assert f"train small waits: `ae run held`, process {holder.pid}" in told[0]


def test_only_a_killed_holder_leaves_something_behind(project: Project) -> None:
    with run_lock(project, "ends well"):
        assert not was_holder_killed(project)
    assert not was_holder_killed(project)
    holder = hold(project, 60)
    assert not was_holder_killed(project)
    holder.kill()
    holder.wait()
    assert was_holder_killed(project)
    clear_killed_holder(project)
    assert not was_holder_killed(project)


# ---------------------------------------------------------------- what is asked


def test_taken_ports_are_named_all_at_once_with_who_has_them(project: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        ports = [taken.getsockname()[1] for taken in (one, other)]
        settings = Settings(mlflow_port=ports[0], page_port=ports[1], prefect_port=free())
        make_login(project)
        with pytest.raises(InfrastructureError) as told:
            require_stack_ports(project, settings)
    for port, option in zip(ports, ("--mlflow-port", "--page-port"), strict=True):
        assert f"port {port} of 127.0.0.1 is taken by process {os.getpid()}" in str(told.value)
        assert f"{option} PORT" in str(told.value)
    assert "--prefect-port" not in str(told.value)
    require_ports_free([RequiredPort("127.0.0.1", port, "--port") for port in ports])


def free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_database_that_cannot_be_made_is_named_with_the_reason(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")  # Prefect's is elsewhere
    project.home.mkdir()
    project.mlflow.write_text("where a folder should be")
    refused = pytest.raises(InfrastructureError, match=r"(?s)cannot be brought up to date\. MLflow's: .*mlflow")
    with file_lock(project, "up") as lock, refused:
        migrate_databases(project, lock)


def test_a_lock_is_held_by_the_migration_that_a_killed_up_has_left(project: Project) -> None:
    killed = (
        "import os, subprocess; from aeops.machine.lock import file_lock; from aeops.project import find_project\n"
        "with file_lock(find_project(), 'up') as lock:\n"
        "    print(subprocess.Popen(['sleep', '60'], pass_fds=(lock,), stdout=subprocess.DEVNULL).pid); os.kill(os.getpid(), 9)"
    )
    started = subprocess.run([sys.executable, "-uc", killed], stdout=subprocess.PIPE, check=False)
    with (project.locks_folder / "up.lock").open("a") as lock:
        assert not try_flock(lock)
        os.kill(int(started.stdout), signal.SIGKILL)
        wait_for(lambda: try_flock(lock), seconds=10)


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["--host", "0.0.0.0"], "give --password-file FILE"),
        (["--host", "0.0.0.0", "--password-file", "none"], "No such file"),
        (["--host", "0.0.0.0", "--password-file", "empty"], "its first line is empty"),
        (["--host", "0.0.0.0", "--password-file", "open"], "can be read by others"),
        (["--page-port", "5000"], "expected four different ports, got"),
        (["--page-port", "70000"], "expected a port from 1 to 65535, got 70000"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_before_anything_starts(project: Project, typed: list[str], told: str) -> None:
    for name, text, mode in (("empty", "\n", 0o600), ("open", "secret\n", 0o644)):
        (project.root / name).write_text(text)
        (project.root / name).chmod(mode)
    with pytest.raises(UsageError, match=told):
        requested_settings(project, build_parser().parse_args(["up", *typed]))
    assert not settings_file(project).exists()


def test_a_stack_that_runs_is_asked_for_again_as_it_is_and_not_otherwise(project: Project) -> None:
    write_settings(project, Settings(page_port=8181))
    assert settings_file(project).stat().st_mode & 0o077 == 0
    again = requested_settings(project, build_parser().parse_args(["up"]))
    assert again.page_port == 8181
    with pytest.raises(UsageError, match=r"page-port 8181, not 8282.*ae down"):
        requested_settings(project, build_parser().parse_args(["up", "--page-port", "8282"]))
    assert read_settings(project) == Settings(page_port=8181)


def test_the_address_that_an_earlier_version_was_told_is_dropped_and_its_variable_is_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = {**asdict(Settings(page_port=8181)), "notify_url": "https://example.org/secret"}
    write_json(settings_file(project), document)
    assert read_settings(project) == Settings(page_port=8181)
    monkeypatch.setenv("AE_NOTIFY_URL", "https://example.org/secret")
    with pytest.raises(UsageError, match=r"AE_NOTIFY_URL is no longer read.*ae\.yaml"):
        requested_settings(project, build_parser().parse_args(["up"]))


def test_a_recipes_scoring_port_stays_its_own(project: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        used_port = server.getsockname()[1]
        settings = Settings(score_port=used_port - 2)
        first = score_ports(project, settings, ["b"], skip_used_ports=False)
        assert first == {"b": used_port - 2}
        later = score_ports(project, settings, ["a", "b"], skip_used_ports=False)
        assert later == {"a": used_port - 1, "b": used_port - 2}
        # Other programs may have taken the ports after it, too.
        assert score_ports(project, settings, ["c"], skip_used_ports=True)["c"] > used_port


def test_of_the_missed_runs_of_each_schedule_the_newest_is_kept() -> None:
    newest_first = [{"deployment_id": "a", "n": 5}, {"deployment_id": "b", "n": 4}, {"deployment_id": "a", "n": 3}]
    assert list(older_runs(newest_first)) == [{"deployment_id": "a", "n": 3}]


def test_only_signals_in_alarm_are_alarms(project: Project) -> None:
    place = project.home / "monitoring" / "small"
    place.mkdir(parents=True)
    signals = [
        {"name": "alarm rate", "verdict": "alarm", "says": "too many"},
        {"name": "drift", "verdict": "quiet", "says": "none"},
    ]
    (place / "verdict.json").write_text(json.dumps({"as_of": "2026-01-01T00:00:00+00:00", "signals": signals}))
    assert [(alarm.recipe, alarm.signal) for alarm in read_alarms(project)] == [("small", "alarm rate")]


# ---------------------------------------------------------------- one service


def service(*command: str) -> ServiceDefinition:
    return ServiceDefinition("tried", [sys.executable, "-c", *command])


def update_until(manager: ServiceManager, kept: ServiceDefinition, question: Callable[[], bool]) -> None:
    def look() -> bool:
        manager.update(kept)
        return question()

    wait_for(look, seconds=60)


def test_what_dies_is_started_again_and_what_keeps_dying_is_failing(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_manager, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(service_manager, "LONGEST_WAIT", 0.1)
    said: list[str] = []
    manager = ServiceManager(project, said.append)
    kept = service("raise SystemExit(3)")
    update_until(manager, kept, lambda: manager.state == "failing")
    starts = manager.starts
    assert starts >= service_manager.FAILING_AFTER
    update_until(manager, kept, lambda: manager.starts > starts)  # slowly, but for ever
    assert manager.state == "failing"
    assert (project.logs / "tried.log").exists()
    assert (project.logs / "tried.log.1").exists()


def test_a_service_outlives_its_supervisor_and_is_adopted_by_the_next(project: Project) -> None:
    first, kept = ServiceManager(project, lambda message: None), service("import time; time.sleep(60)")
    update_until(first, kept, lambda: first.state == "running")
    assert first.process is not None
    said: list[str] = []
    second = ServiceManager(project, said.append)
    second.update(kept)
    assert second.process == first.process
    assert said == [f"tried is process {first.process.pid}, adopted"]
    assert (second.starts, second.state) == (0, "running")
    first.process.send_signal(signal.SIGKILL)
    pid = first.process.pid
    update_until(second, kept, lambda: second.process is not None and second.process.pid != pid)


def test_two_supervisors_that_start_a_service_at_once_get_one(project: Project) -> None:
    kept = service("import time; time.sleep(60)")
    asked_for = json.dumps({"name": "tried", "command": kept.command, "address": None, "health": None, "api_url": None})
    command = [sys.executable, "-m", "aeops.stack.launch"]
    starts = [service_manager.start_process(project, "tried", command, {}, stdin_text=asked_for) for _ in range(3)]
    wait_for(lambda: sum(start.poll() is not None for start in starts) == 2, seconds=30)
    note = read_service_record(project, "tried")
    assert note is not None
    assert [start.pid for start in starts if start.poll() is None] == [note.pid]


def test_what_a_dead_service_left_is_cleared_away_and_nothing_else(project: Project) -> None:
    stranger = subprocess.Popen(SLEEP)
    parent = (
        "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); time.sleep(60)"
    )
    manager, kept = ServiceManager(project, lambda message: None), service(parent)
    update_until(manager, kept, lambda: len(stack_processes(project).get("tried", [])) == 2)
    old = {process.pid for process in stack_processes(project)["tried"]}
    assert manager.process is not None
    manager.process.kill()
    update_until(manager, kept, lambda: len({process.pid for process in stack_processes(project).get("tried", [])} - old) == 2)
    assert not {process.pid for process in stack_processes(project)["tried"]} & old
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_a_note_of_a_number_that_was_handed_on_names_no_process(project: Project) -> None:
    stranger = subprocess.Popen(SLEEP)
    note = ServiceRecord("tried", stranger.pid, 0.0, "another start", None, None, str(project.logs / "log"), SLEEP)
    write_service_record(project, note)
    read = read_service_record(project, "tried")
    assert read == note
    assert read.process is None
    assert stack_processes(project) == {}
    with suppress(ProcessLookupError):
        stranger.kill()
    stranger.wait()


def test_down_stops_what_the_stack_started_and_nothing_else(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    stranger = subprocess.Popen(SLEEP)
    manager, kept = ServiceManager(project, lambda message: None), service("import time; time.sleep(60)")
    update_until(manager, kept, lambda: manager.state == "running")
    write_settings(project, Settings())
    assert main(["down"]) == 0
    assert capsys.readouterr().out == "stopped    tried\n"
    assert stack_processes(project) == {}
    assert read_service_record(project, "tried") is None
    assert read_settings(project) is None
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_with_a_password_everything_but_mlflow_listens_to_others_and_asks_for_it(project: Project) -> None:
    secret = project.root / "secret"
    secret.write_text("open sesame\n")
    secret.chmod(0o600)
    settings = Settings(host="0.0.0.0", password_file=str(secret))
    made = {one.name: one for one in define_services(project, settings, ["small"], skip_used_ports=False)}
    assert "--host" not in made["mlflow"].command  # it listens at loopback alone
    assert made["prefect"].command[-1] == "--any-name"
    assert made["prefect"].environment["PREFECT_SERVER_API_HOST"] == "0.0.0.0"
    assert made["prefect"].environment["PREFECT_SERVER_API_AUTH_STRING"] == "ae:open sesame"
    assert made["worker"].environment["PREFECT_API_AUTH_STRING"] == "ae:open sesame"
    for name in ("score-small", "page"):
        assert made[name].command[-4:] == ["--host", "0.0.0.0", "--password-file", str(secret)]
    assert not [one for one in made.values() if "sesame" in " ".join(one.command)]


def test_a_leader_goes_on_where_secret_or_settings_cannot_be_read(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    updated: list[str] = []
    monkeypatch.setattr(ServiceManager, "update", lambda manager, service: updated.append(service.name))
    write_settings(project, Settings(request_id="1"))
    make_login(project)
    leader = StackLeader(project)
    leader.update()
    assert updated == ["mlflow", "prefect", "page"]  # the worker waits for the deployments
    assert capsys.readouterr().out == ""
    login_file(project).chmod(0o644)
    leader.update()
    leader.update()
    assert updated == ["mlflow", "prefect", "page"] * 3
    assert capsys.readouterr().out.count("chmod 600") == 1
    settings_file(project).write_text("{")
    leader.update()
    assert "settings.json is damaged" in capsys.readouterr().out
    settings_file(project).unlink()
    leader.update()  # or `ae down` would see services start again
    assert updated == ["mlflow", "prefect", "page"] * 4


def test_a_service_record_with_missing_unknown_or_wrong_keys_ends_nothing(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    record = ServiceRecord("tried", 1, 0.0, "a start", None, None, str(project.logs / "tried.log"), SLEEP)
    write_service_record(project, record)
    file = service_record_file(project, "tried")
    whole = json.loads(file.read_text())
    file.write_text(json.dumps(whole | {"of_a_newer_version": 1}))
    assert read_service_record(project, "tried") == record
    for key in whole:
        file.write_text(json.dumps({name: value for name, value in whole.items() if name != key}))
        assert read_service_record(project, "tried") is None
        assert f"it lacks {key}" in capsys.readouterr().err
    for key in ("pid", "started", "mark", "log", "command"):
        file.write_text(json.dumps(whole | {key: {}}))
        assert read_service_record(project, "tried") is None
        assert f"{key} is {{}}" in capsys.readouterr().err


# ---------------------------------------------------------------- outages


def test_a_service_that_does_not_stay_up_is_told_once(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    with receiver(200) as seen:
        name_webhook(project.root, seen.address)
        for state in ("running", "failing", "failing", "running", "failing"):
            write_state(project, LeaderState({"page": {"state": state, "quick_deaths": 0, "starts": 1}}))  # type: ignore[typeddict-item]
            tell_outages(project)
    assert [(one["event"], one["title"]) for one in notices_of(seen)] == [("outage", "the service page does not stay up")]
    assert capsys.readouterr().err == "notify: ops was notified: the service page does not stay up\n", (
        "the second time within hours"
    )


# ---------------------------------------------------------------- what is logged of a lost connection


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[BaseException], str]]:
    """What is printed where an error is logged with its traceback, by a handler with the filter."""
    printed = io.StringIO()
    handler = logging.StreamHandler(printed)
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    shorten_connection_losses()

    def log(error: BaseException) -> str:
        logging.getLogger("observer").warning("The %s failed. Switching to polling.", "websocket", exc_info=error)
        return printed.getvalue()

    return log


def test_a_lost_connection_is_logged_in_one_line_with_its_reason(logged: Callable[[BaseException], str]) -> None:
    with pytest.raises(httpx.ConnectError) as refused:  # caused by a ConnectionRefusedError
        httpx.get(f"http://127.0.0.1:{free()}/api/health", trust_env=False)
    assert logged(refused.value) == "The websocket failed. Switching to polling. ([Errno 111] Connection refused)\n"


def test_any_other_error_keeps_its_traceback(logged: Callable[[BaseException], str]) -> None:
    assert "FileNotFoundError: no such file" in logged(FileNotFoundError("no such file"))


def test_without_a_stack_the_status_says_where_the_runs_stand(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 0
    printed = capsys.readouterr().out
    assert "unknown" not in printed
    assert "runs: Prefect has them, and it does not run: `ae runs` lists those that are recorded in MLflow" in printed
    assert "next runs: none while the stack does not run: `ae up` starts it with the schedules" in printed
    assert "see .ae/logs/prefect.log" in describe_missing_runs("runs", is_started=True)
