"""Ctrl-C in the terminal of `ae run`, and a Prefect server that goes away: one line, at once, and the next run continues."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import psutil
import pytest
from checkout import EPOCHS_OF_A_KILL, RUN_STEPS, Checkout, add_databases, make_checkout, wait_for
from checkout_processes import assert_no_process_left, is_server
from stack_processes import record_service
from terminal import Terminal

from aeops.machine.lock import file_lock
from aeops.machine.network import find_free_port
from aeops.machine.prefect_access import make_login, prefect_access
from aeops.machine.servers import TEMPORARY_SERVER, is_healthy, prefect_server_command
from aeops.machine.stack_settings import Settings, write_settings
from aeops.project import Project
from aeops.registry.promotion import LEDGER_LOCK
from aeops.stack.service_manager import start_process

SECONDS = 5.0  # the promise
STOPPED = "stopped; type the same command to continue from the last finished step"


def rows(file: Path, query: str) -> list[str]:
    """The first column of a query, of a database that other processes may have open."""
    if not file.is_file():
        return []
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        return [row[0] for row in database.execute(query)]


def flow_run_states(checkout: Checkout) -> list[str]:
    return rows(checkout.home / "prefect" / "prefect.db", "select state_name from flow_run order by created")


def mlflow_states(checkout: Checkout) -> list[str]:
    return rows(checkout.home / "mlflow" / "mlflow.db", "select status from runs order by start_time")


def run_in_terminal(checkout: Checkout, *options: str) -> Terminal:
    return Terminal([sys.executable, "-m", "aeops.cli.main", "run", "small", *options], checkout.root, checkout.environment())


def assert_stopped(terminal: Terminal, step: str, lines: int = 1) -> float:
    """Press Ctrl-C a moment after a step has begun: so many lines, 130, within the promised seconds; return how many it took."""
    wait_for(lambda: f"{step} ..." in terminal.lines)
    time.sleep(0.2)
    before = len(terminal.lines)
    code, seconds = terminal.press_ctrl_c(timeout=60)
    assert (code, terminal.lines[-1]) == (130, STOPPED)
    assert len(terminal.lines) <= before + lines, terminal.lines  # the line took the place of a progress bar, or is a new one
    assert seconds < SECONDS
    return seconds


@pytest.mark.slow
def test_ctrl_c_stops_all_of_it_and_marks_the_run_cancelled(bare: Checkout, empty_prefect_database: Path) -> None:
    add_databases(bare, empty_prefect_database)
    recipe = bare.root / "recipes" / "small.yaml"
    text = recipe.read_text(encoding="utf-8")
    with run_in_terminal(bare, "--set", "train.epochs=77") as terminal:
        wait_for(lambda: "repair ..." in terminal.lines)
        assert "epochs: 77" in recipe.read_text(encoding="utf-8")
        assert_stopped(terminal, "repair", lines=2)
        assert_no_process_left(bare, seconds=2)
    assert flow_run_states(bare) == ["Cancelled"]
    assert recipe.read_text(encoding="utf-8") == text
    assert terminal.lines[-2].endswith("recipes/small.yaml is as it was before")


@pytest.mark.long
def test_ctrl_c_while_it_trains_stops_the_stage_and_closes_both_records(bare: Checkout) -> None:
    bare.edit_recipe({"train.epochs": EPOCHS_OF_A_KILL})
    with run_in_terminal(bare) as terminal:
        wait_for((bare.home / "training" / "small" / "progress.jsonl").is_file)
        assert_stopped(terminal, "train")
        assert_no_process_left(bare, seconds=2)
    assert flow_run_states(bare) == ["Cancelled"]
    assert mlflow_states(bare) == ["KILLED"]


@pytest.mark.long
def test_a_killed_server_of_its_own_ends_the_run_at_once_in_one_line(
    bare: Checkout, stopping: list[subprocess.Popen[bytes]]
) -> None:
    run = bare.start("run", "small")
    stopping.append(run)
    wait_for(lambda: "repair ..." in printed(bare))
    (server,) = filter(is_server, psutil.Process(run.pid).children())
    before = printed(bare)
    server.kill()
    assert run.wait(timeout=SECONDS) == 5
    told = printed(bare).removeprefix(before)
    assert told.count("ae: infrastructure error: the Prefect server that this run had started has ended (exit code -9)") == 1
    assert "Traceback" not in told
    assert "Error logging to API" not in told
    assert_no_process_left(bare)


def printed(checkout: Checkout) -> str:
    return (checkout.root / "started.log").read_text()


# ---------------------------------------------------------------- every step


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory, empty_prefect_database: Path) -> Checkout:
    """One checkout for all steps, in their order: each run goes on where the one before was stopped."""
    checkout = make_checkout(tmp_path_factory.mktemp("interrupted") / "checkout")
    add_databases(checkout, empty_prefect_database)
    return checkout


@pytest.mark.long
@pytest.mark.parametrize("step", RUN_STEPS)
def test_ctrl_c_at_every_step_is_one_line_and_the_next_run_continues(
    interrupted: Checkout, step: str, record_property: Callable[[str, object], None]
) -> None:
    flow_runs = len(flow_run_states(interrupted))
    with run_in_terminal(interrupted) as terminal, ExitStack() as held:
        if step == "promote":  # takes less time than a look at the terminal: it waits for somebody who writes to the ledger
            wait_for(lambda: "register ..." in terminal.lines)
            held.enter_context(file_lock(Project(interrupted.root, interrupted.home), LEDGER_LOCK))
        record_property("seconds_after_ctrl_c", f"{step} {assert_stopped(terminal, step):.2f}")
        assert_no_process_left(interrupted, seconds=2)
    if step != "starting":  # before that there is none
        assert flow_run_states(interrupted)[flow_runs:] == ["Cancelled"]
    assert "RUNNING" not in mlflow_states(interrupted)


@pytest.mark.long
def test_after_all_of_them_the_run_goes_through_with_one_version(interrupted: Checkout) -> None:
    done = interrupted.ae("run", "small")
    assert done.returncode == 0, done.stderr
    assert len(interrupted.versions()) == 1


@pytest.mark.long
def test_sigterm_to_its_whole_group_ends_it_within_seconds(bare: Checkout) -> None:
    with run_in_terminal(bare) as terminal:
        wait_for(lambda: "repair ..." in terminal.lines)
        began = time.monotonic()
        os.killpg(terminal.process.pid, signal.SIGTERM)
        assert terminal.process.wait(timeout=60) == 143
        assert time.monotonic() - began < SECONDS
        assert_no_process_left(bare, seconds=2)
    assert terminal.lines[-1] == STOPPED.replace("stopped", "stopped by SIGTERM")
    assert flow_run_states(bare) == ["Cancelled"]


# ---------------------------------------------------------------- the server of `ae up`


@pytest.fixture
def stack_server(bare: Checkout) -> Iterator[subprocess.Popen[bytes]]:
    """A Prefect server that is the stack's by record, settings and environment, so that `ae down` stops it."""
    project, port = Project(bare.root, bare.home), find_free_port()
    settings = Settings(prefect_port=port)
    write_settings(project, settings)
    make_login(project)
    secret = str(prefect_access(project, settings).credentials)
    environment = TEMPORARY_SERVER | {"PREFECT_HOME": str(project.prefect), "PREFECT_SERVER_API_AUTH_STRING": secret}
    server = start_process(project, "prefect", prefect_server_command(port), environment)
    wait_for(lambda: is_healthy(f"{settings.prefect_api}/health"), seconds=120)
    record_service(project, "prefect", pid=server.pid, api_url=settings.prefect_api)
    yield server
    server.kill()
    server.wait()


@pytest.mark.long
def test_ae_down_during_a_run_by_hand_ends_it_at_once_in_one_line(bare: Checkout, stack_server: subprocess.Popen[bytes]) -> None:
    run = bare.start("run", "small")
    wait_for(lambda: "repair ..." in printed(bare))
    before = printed(bare)
    assert bare.ae("down").returncode == 0
    assert run.wait(timeout=SECONDS) == 5
    told = printed(bare).removeprefix(before)
    assert told.count("the stack was stopped (`ae down`), and with it the Prefect server at") == 1
    assert "Traceback" not in told
    assert_no_process_left(bare)
