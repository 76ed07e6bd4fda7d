"""`ae ui`: says where the stack's page is, or serves one until it is told to stop."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from checkout import Checkout, wait_for
from forked import Fork, start_ae
from stack_processes import record_service

from aeops.project import Project

from .conftest import Served, write


@pytest.fixture
def empty(tmp_path: Path) -> Checkout:
    """A folder that is a project without a recipe."""
    (tmp_path / "recipes").mkdir()
    write(tmp_path / "dvc.yaml", "stages: {}\n")
    return Checkout(tmp_path)


@pytest.fixture
def start(empty: Checkout) -> Iterator[Callable[..., Fork]]:
    started: list[Fork] = []

    def begin(*arguments: str) -> Fork:
        log = empty.root / "started.log"
        started.append(start_ae(*arguments, cwd=empty.root, env=empty.environment(), log=log))
        return started[-1]

    yield begin
    for child in started:
        child.kill()
        child.wait()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_the_page_until_it_is_told_to_stop(empty: Checkout, start: Callable[..., Fork], number: signal.Signals) -> None:
    child = start("ui", "--port", "0")
    log = empty.root / "started.log"
    wait_for(lambda: child.poll() is not None or "Ctrl-C" in log.read_text())
    address = log.read_text().split(" is at ")[1].split(";")[0]
    wait_for(lambda: is_up(address))
    assert "There is no recipe here yet" in httpx.get(address, timeout=60).text
    taken = empty.ae_in_process("ui", "--port", address.rpartition(":")[2])
    assert taken.returncode == 5
    assert f"process {child.pid}" in taken.stderr
    child.send_signal(number)
    assert child.wait(timeout=60) == 0, log.read_text()
    assert not is_up(address)


def is_up(address: str) -> bool:
    try:
        return httpx.get(f"{address}/healthz", timeout=30).status_code == 200
    except httpx.TransportError:
        return False


def test_where_the_stack_serves_the_page_its_address_is_printed_and_nothing_is_started(empty: Checkout, served: Served) -> None:
    record_service(Project(empty.root, empty.home), "page", address=served.address, health=f"{served.address}/healthz")
    done = empty.ae_in_process("ui")
    assert (done.returncode, served.address in done.stdout) == (0, True), done.stderr


def test_another_host_without_a_password_and_a_port_that_cannot_be_are_usage_errors(empty: Checkout) -> None:
    open_to_all = empty.ae_in_process("ui", "--host", "0.0.0.0", "--port", "0")
    assert (open_to_all.returncode, "--password-file" in open_to_all.stderr) == (2, True)
    no_port = empty.ae_in_process("ui", "--port", "70000")
    assert (no_port.returncode, "0 to 65535" in no_port.stderr) == (2, True)


def test_the_module_that_the_stack_starts_takes_the_same_options(empty: Checkout) -> None:
    command = [sys.executable, "-m", "aeops.page", "--port", "0", "--host", "0.0.0.0"]
    done = subprocess.run(
        command, cwd=empty.root, env=empty.environment(), capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, "--password-file" in done.stderr) == (2, True), done.stderr
