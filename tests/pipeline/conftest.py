"""Checkouts in which a run has gone through, or nothing has run yet."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkout import Checkout, make_checkout


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkout, subprocess.CompletedProcess[str]]:
    """A checkout in which `ae run small` has run once, and what that printed. Tests that change it take `fresh_copy`."""
    checkout = make_checkout(tmp_path_factory.mktemp("first") / "checkout")
    return checkout, checkout.ae("run", "small")


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
