"""A run that a signal or a problem ends: at once, with its children, in one line, wherever the main thread is at that moment."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import psutil
import pytest
from checkout import wait_for
from terminal import Terminal

from aeops.machine import servers
from aeops.machine.prefect_access import PrefectAccess
from aeops.machine.run_watch import RunWatch
from aeops.machine.servers import PrefectServer
from aeops.machine.stack_settings import Settings, remove_settings, write_settings
from aeops.project import Project

SECONDS = 5.0  # the promise
RUN = """
import atexit, sqlite3, subprocess, sys, threading, time
from pathlib import Path
from aeops.machine.child_process import ChildProcess
from aeops.machine.run_watch import RunWatch, closing_step

with RunWatch() as watch:
    child = ChildProcess(["http.server", "0"], root=Path.cwd(), home=Path.cwd(), log=Path("log"))
    print(child.process.pid, flush=True)
{block}
print("went on")
"""
# Where the main thread may be when the signal comes, libraries that swallow exceptions or wait in C code among them.
PLACES = {
    "asleep": "time.sleep(60)",
    "waiting for a child": "child.wait()",
    "waiting for a lock": "lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "waiting in SQLite": """
    first, second = (sqlite3.connect("database", timeout=60, isolation_level=None) for _ in range(2))
    first.execute("begin immediate")
    second.execute("begin immediate")""",
    "in code that swallows it": """
    while True:
        try:
            time.sleep(60)
        except BaseException:
            print("swallowed it")""",
    "in code that cleans up for long": """
    try:
        time.sleep(60)
    finally:
        time.sleep(60)""",
    "in an exit handler of a library": "atexit.register(time.sleep, 60); time.sleep(60)",
    "with a closing step that fails": """
    def fail():
        raise ValueError("of any class")
    with closing_step(fail), closing_step(lambda: Path("closed").touch()):
        time.sleep(60)""",
    "with a closing step that hangs": """
    with closing_step(lambda: time.sleep(60)), closing_step(lambda: Path("closed").touch()):
        time.sleep(60)""",
}


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., tuple[subprocess.Popen[str], psutil.Process]]:
    def start_run(block: str, **options: object) -> tuple[subprocess.Popen[str], psutil.Process]:
        """The run, and its child."""
        indented = block if block.startswith("\n") else f"    {block}"
        command = [sys.executable, "-c", RUN.format(block=indented)]
        run = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload]
        return run, psutil.Process(int(run.stdout.readline()))

    return start_run


@pytest.mark.parametrize("place", PLACES)
def test_a_signal_ends_it_within_seconds_with_its_child_and_one_line(
    start: Callable[..., tuple[subprocess.Popen[str], psutil.Process]], place: str, tmp_path: Path
) -> None:
    run, child = start(PLACES[place])
    time.sleep(0.3)
    began = time.monotonic()
    run.send_signal(signal.SIGINT)
    output, errors = run.communicate(timeout=SECONDS)
    assert time.monotonic() - began < SECONDS
    assert (run.returncode, output) == (130, "")
    assert errors == "stopped; type the same command to continue from the last finished step\n"
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert (tmp_path / "closed").exists() == ("closing step" in place)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_sigterm_and_a_closed_terminal_end_it_too(
    start: Callable[..., tuple[subprocess.Popen[str], psutil.Process]], number: signal.Signals, code: int
) -> None:
    run, _ = start("time.sleep(60)")
    run.send_signal(number)
    _, errors = run.communicate(timeout=SECONDS)
    assert (run.returncode, errors.count("\n")) == (code, 1)
    assert f"stopped by {number.name}" in errors


def test_a_closed_terminal_ends_it_though_nothing_can_be_printed(tmp_path: Path) -> None:
    with Terminal([sys.executable, "-c", RUN.format(block="    time.sleep(60)")], tmp_path, dict(os.environ)) as terminal:
        wait_for(lambda: terminal.lines, seconds=30)
        assert terminal.close(timeout=SECONDS) == 129


def test_a_signal_that_its_starter_ignores_is_ignored(
    start: Callable[..., tuple[subprocess.Popen[str], psutil.Process]],
) -> None:
    run, _ = start("time.sleep(60)", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))  # as `nohup` does
    run.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        run.wait(timeout=1)
    run.send_signal(signal.SIGTERM)
    run.communicate(timeout=SECONDS)
    assert run.returncode == 143


def test_a_problem_ends_it_with_its_message_and_exit_code(
    start: Callable[..., tuple[subprocess.Popen[str], psutil.Process]],
) -> None:
    run, _ = start("\n    with watch.checking(lambda: 'the server is gone'):\n        time.sleep(60)")
    _, errors = run.communicate(timeout=SECONDS)
    assert (run.returncode, errors) == (5, "ae: infrastructure error: the server is gone\n")


def test_a_run_that_ends_by_itself_leaves_no_handler(capfd: pytest.CaptureFixture[str]) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with RunWatch() as watch, watch.checking(lambda: None):
        assert signal.getsignal(signal.SIGINT) is not before[0]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
    assert signal.set_wakeup_fd(-1) == -1
    assert capfd.readouterr().err == ""


# ---------------------------------------------------------------- the Prefect server of a run


class Healthy(BaseHTTPRequestHandler):
    """Responds to every address with 200."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def test_a_server_that_ae_down_has_stopped_is_a_problem_at_once_and_one_that_died_is_none_yet(tmp_path: Path) -> None:
    project, responder = Project(tmp_path, tmp_path / "home"), ThreadingHTTPServer(("127.0.0.1", 0), Healthy)
    Thread(target=responder.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{responder.server_port}/api"
    write_settings(project, Settings(prefect_port=responder.server_port))
    server = PrefectServer(project, PrefectAccess(address, None), is_of_stack=True)
    assert server.find_problem() is None
    responder.shutdown()
    responder.server_close()
    assert server.find_problem() is None  # the supervisor starts it again
    remove_settings(project)
    problem = server.find_problem()
    assert problem is not None
    assert problem.startswith(f"the stack was stopped (`ae down`), and with it the Prefect server at {address}; ")


def test_a_server_that_listens_and_is_too_busy_to_respond_is_no_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "_GONE_TIMEOUT", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        access = PrefectAccess(f"http://127.0.0.1:{silent.getsockname()[1]}/api", None)
        server = PrefectServer(Project(tmp_path, tmp_path), access)
        assert server.find_problem() is None
    assert "has been gone for" in (server.find_problem() or "")


def test_a_temporary_server_that_has_ended_is_a_problem_at_once(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    server = PrefectServer(Project(tmp_path, tmp_path), PrefectAccess("http://127.0.0.1:1/api", None), process=process)
    assert server.find_problem() is None
    process.kill()
    wait_for(lambda: "has ended (exit code -9)" in (server.find_problem() or ""), seconds=5)


def test_a_server_elsewhere_is_left_to_prefects_client_which_may_use_a_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "_GONE_TIMEOUT", 0.0)
    monkeypatch.setattr(servers, "accepts_connections", lambda address: False)  # only the proxy reaches it
    server = PrefectServer(Project(tmp_path, tmp_path), PrefectAccess("https://prefect.example/api", None))
    assert server.find_problem() is None
    assert server.is_listening
