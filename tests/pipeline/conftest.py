"""Checkouts in which a run has gone through, or nothing has run yet."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkout import Checkout, copy_checkout, make_checkout


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkout, subprocess.CompletedProcess[str]]:
    """A checkout in which `ae run small` has run once, and what that printed. Tests that change it take a copy.

    The run is made once for all processes of pytest-xdist; each has a copy of its own.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # which all of them share
    original, printed = Checkout(folder / "first-run"), folder / "first-run.json"
    with (folder / "first-run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not printed.is_file():
            shutil.rmtree(original.root, ignore_errors=True)
            done = make_checkout(original.root).ae_in_forks("run", "small")
            printed.write_text(json.dumps([done.returncode, done.stdout, done.stderr]))
    code, output, errors = json.loads(printed.read_text())
    done = subprocess.CompletedProcess(["ae", "run", "small"], code, output, errors)
    return copy_checkout(original, tmp_path_factory.mktemp("first") / "checkout"), done


@pytest.fixture
def ran(first_run: tuple[Checkout, subprocess.CompletedProcess[str]]) -> Checkout:
    checkout, done = first_run
    assert done.returncode == 0, done.stderr
    return checkout


@pytest.fixture
def bare(tmp_path: Path) -> Checkout:
    """A checkout in which nothing has run."""
    return make_checkout(tmp_path / "checkout")


@pytest.fixture
def stopping() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes put in this list are ended, with their group where they lead one, when the test ends."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for child in started:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(timeout=20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
