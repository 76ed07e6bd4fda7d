"""The crash matrix: processes of a run are killed by SIGKILL at every step and while they start; the next run repairs it all.

    make test-long-crashes                       # 100 trials
    CRASH_TRIALS=10 make test-long-crashes       # the first 10 of them, in an order that mixes all kinds

The run that is killed consists of fresh processes. After each kill the same command runs again, in forks of a process that has
loaded the libraries, as they take a third of its time; DVC's stages are fresh processes there, too. Then the bundle equals that
of an undisturbed run, the registry holds it once, the ledger is whole, `dvc status` is clean, and no process is left.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import psutil
import pytest
from checkout import RUN_STEPS, Checkout, add_databases, copy_checkout, make_checkout
from checkout_processes import assert_no_process_left, is_server
from shared_files import make_once, shared_folder

from ae_models.checksums import bundle_sha256

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]  # seconds, with the making of the fixtures, on a busy machine
TRIALS = int(os.environ.get("CRASH_TRIALS", "100"))
SEED = 20261129
VICTIMS = ("group", "parent", "child", "server")
STARTS = tuple(index / 9 for index in range(9))  # which process, as a part of those that an undisturbed run starts
FIRST_SECONDS = 0.2  # of a process, in which it or another one is killed
STEP_SECONDS = 1.0  # after the beginning of a step
POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Trial:
    """One kill.

    Attributes:
        moment: the name of a step, or the part of a run's processes after whose start it comes.
        delay: seconds after that moment.
    """

    victim: str
    moment: str | float
    delay: float

    @property
    def name(self) -> str:
        moment = self.moment if isinstance(self.moment, str) else f"start-{self.moment:.2f}"
        return f"{self.victim}-{moment}-{self.delay * 1000:.0f}ms"


def trials() -> list[Trial]:
    """All of them, 4 x (16 + 9) = 100, mixed, and the same ones each time."""
    source = random.Random(SEED)
    made = [Trial(victim, step, source.uniform(0, STEP_SECONDS)) for victim, step in product(VICTIMS, RUN_STEPS)]
    made += [Trial(victim, part, source.uniform(0, FIRST_SECONDS)) for victim, part in product(VICTIMS, STARTS)]
    source.shuffle(made)
    return made


@dataclass(frozen=True)
class Undisturbed:
    """A checkout in which nothing has run yet but whose databases are made; the bundle and the number of processes of a run."""

    template: Checkout
    bundle: str
    processes: int


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, empty_prefect_database: Path) -> Undisturbed:
    folder = shared_folder(tmp_path_factory) / "crashes"
    template = Checkout(folder / "template")

    def run_once(file: Path) -> None:
        add_databases(make_checkout(template.root), empty_prefect_database)
        whole = copy_checkout(template, folder / "undisturbed")
        with Run(whole) as run:
            while run.process.poll() is None:
                run.look_for_processes()
                time.sleep(POLL_SECONDS)
            assert run.process.returncode == 0, run.printed()
        printed_steps = re.findall(r"^(\w+) \.\.\.$", run.printed(), flags=re.MULTILINE)
        assert tuple(printed_steps) == RUN_STEPS
        bundle = bundle_sha256(whole.root / "artifacts" / "small" / "bundle")
        file.write_text(json.dumps({"bundle": bundle, "processes": len(run.seen)}))

    folder.mkdir(exist_ok=True)
    make_once(folder / "undisturbed.json", run_once)
    return Undisturbed(template, **json.loads((folder / "undisturbed.json").read_text()))


class Run:
    """`ae run small` with the processes that it starts. Use as a context manager."""

    def __init__(self, checkout: Checkout, **settings: str) -> None:
        self.log = checkout.root / "started.log"
        command = [sys.executable, "-m", "aeops.cli.main", "run", "small"]
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=checkout.root,
                env=checkout.environment(**settings),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.seen: list[psutil.Process] = []

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def printed(self) -> str:
        return self.log.read_text(errors="replace")

    def look_for_processes(self) -> list[psutil.Process]:
        """Return the processes below the run, and add new ones to `seen`."""
        with suppress(psutil.NoSuchProcess):
            living = psutil.Process(self.process.pid).children(recursive=True)
            self.seen += [process for process in living if process not in self.seen]
            return living
        return []

    def is_at(self, moment: str | float, count: int) -> bool:
        """Return True where a step has begun, or where that part of `count` processes has been started."""
        if isinstance(moment, str):
            return f"{moment} ..." in self.printed()
        self.look_for_processes()
        return len(self.seen) > moment * count

    def kill(self, trial: Trial) -> None:
        """Kill the victim; of a trial at a start, the newest process or the parent of that."""
        living = self.look_for_processes()
        servers = [process for process in living if is_server(process)]
        others = [process for process in living if process not in servers]
        newest = max(others, key=lambda process: self.seen.index(process), default=None)
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if trial.victim == "group":
                os.killpg(self.process.pid, signal.SIGKILL)
            elif trial.victim == "server":
                for server in servers:
                    server.kill()
            elif trial.victim == "child" and newest is not None:
                newest.kill()
            elif trial.victim == "parent" and newest is not None:
                psutil.Process(newest.pid).parent().kill()  # type: ignore[union-attr]
            else:
                self.process.kill()


# A group for each: two at a time, where all other tests of a file run in one process.
EACH_TRIAL = [pytest.param(trial, id=trial.name, marks=pytest.mark.xdist_group(trial.name)) for trial in trials()[:TRIALS]]


@pytest.mark.parametrize("trial", EACH_TRIAL)
def test_the_run_after_a_kill_ends_as_one_that_was_never_killed(
    undisturbed: Undisturbed,
    prefect_address: str,
    trial: Trial,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    checkout = copy_checkout(undisturbed.template, tmp_path / "checkout")
    settings = {}
    if trial.victim != "server":  # a server of its own takes seconds
        settings["PREFECT_API_URL"] = prefect_address
    with Run(checkout, **settings) as run:
        while not run.is_at(trial.moment, undisturbed.processes) and run.process.poll() is None:
            time.sleep(POLL_SECONDS)
        time.sleep(trial.delay)
        run.kill(trial)
        exit_code = run.process.wait(timeout=300)
    assert exit_code in (0, 5, -signal.SIGKILL), run.printed()
    assert "Traceback" not in run.printed()
    assert_no_process_left(checkout)

    began = time.monotonic()
    done = checkout.ae_in_forks("run", "small", PREFECT_API_URL=prefect_address)
    seconds = time.monotonic() - began
    assert done.returncode == 0, done.stdout + done.stderr
    assert bundle_sha256(checkout.root / "artifacts" / "small" / "bundle") == undisturbed.bundle
    assert [version.get("bundle_sha256") for _, _, version in checkout.versions()] == [undisturbed.bundle]
    verified = checkout.ae_in_process("ledger", "verify", "small")
    assert (verified.returncode, "whole" in verified.stdout) == (0, True), verified.stdout + verified.stderr
    status = checkout.dvc("status", "--json")
    assert json.loads(status.stdout[status.stdout.find("{") :]) == {}, status.stdout + status.stderr
    assert_no_process_left(checkout)
    record_property("crash_trial", {"victim": trial.victim, "ended": exit_code != 0, "seconds": seconds})
    shutil.rmtree(checkout.root)
