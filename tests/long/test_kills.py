"""Days of the quarter with a retrain at work, in which one process of the stack after the other is killed by SIGKILL."""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from checkout import make_checkout, wait_for
from stack_processes import pids

from ae_models.checkpoint import CHECKPOINT_FILE
from aeops.errors import InfrastructureError
from aeops.machine.process_identity import parse_identity
from aeops.predictions import prediction_store
from aeops.registry import ledger
from aeops.stack.maintenance import PROCESS_LABEL
from aeops.stack.status import read_stack_status

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]  # seconds, on a busy machine
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


class Days:
    """The stack of the story, a client that asks all the while, and the retrains so far."""

    def __init__(self, quarter: Any, client: Any) -> None:
        self.quarter, self.client = quarter, client
        self.project = quarter.project
        self.runs: list[str] = []

    def retrain_of(self, day: int) -> str:
        """The flow run of the day's retrain; at the first question the day's samples come in, and it is started and trains."""
        if day == len(self.runs):
            self.quarter.come_in(day)
            began = time.time()
            self.runs.append(str(self.quarter.start_flow("training/retrain-stream", {"recipe": "stream"})))
            progress = self.progress
            wait_for(lambda: progress.exists() and progress.stat().st_mtime > began and progress.stat().st_size)
        return self.runs[day]

    @property
    def progress(self) -> Path:
        return Path(self.project.training("stream") / "progress.jsonl")

    def state(self, run: str) -> str:
        try:
            return str(self.quarter.prefect.request("GET", f"flow_runs/{run}")["state"]["type"])
        except InfrastructureError:
            return "no server"  # it was the one that was killed

    def end_of(self, run: str) -> str:
        wait_for(lambda: self.state(run) in ENDED)
        return self.state(run)

    def process_of(self, run: str) -> int:
        found = parse_identity(self.quarter.prefect.request("GET", f"flow_runs/{run}")["labels"][PROCESS_LABEL])
        assert found is not None
        return found.pid

    def decisions(self) -> int:
        """Lines of the ledger, each a promotion or a refusal."""
        return len(ledger.read_entries(self.project, "stream"))


@pytest.fixture(scope="module")
def days(quarter: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Days]:
    with ExitStack() as ending:
        story = quarter.Quarter(make_checkout(tmp_path_factory.mktemp("kills") / "checkout").root)
        ending.callback(story.ae, "down")
        story.start()
        story.service()
        client = quarter.Client(story.service, story.digits.take("known", 64), patience=120.0)
        ending.enter_context(client.asking())
        yield Days(story, client)


@pytest.mark.parametrize("name", ["page", "score-stream", "standby", "supervisor"])
def test_it_recovers_while_the_first_days_retrain_is_at_work(days: Days, name: str) -> None:
    days.retrain_of(0)
    kill_and_recover(days, name)


def test_the_first_days_retrain_ends_well_and_was_decided_about_once(days: Days) -> None:
    assert days.end_of(days.retrain_of(0)) == "COMPLETED"
    assert days.decisions() == 2


@pytest.mark.parametrize("name", ["mlflow", "prefect", "worker"])
def test_it_recovers_while_the_second_days_retrain_is_at_work(days: Days, name: str) -> None:
    days.retrain_of(1)
    kill_and_recover(days, name)


def test_the_second_days_retrain_ends_well_and_was_decided_about_once(days: Days) -> None:
    assert days.end_of(days.retrain_of(1)) == "COMPLETED"
    assert days.decisions() == 3


def kill_and_recover(days: Days, name: str) -> None:
    """Kills one process; all of them are well again, and the others the same as before."""
    before = pids(days.project)
    killed = before[name]
    assert killed is not None
    os.kill(killed, signal.SIGKILL)

    def recovered() -> bool:
        now = pids(days.project)
        return None not in now.values() and now[name] != killed and bool(read_stack_status(days.project)["well"])

    wait_for(recovered)
    now = pids(days.project)
    others = before.keys() - {"supervisor", "standby"} - {name}
    assert {other: now[other] for other in others} == {other: before[other] for other in others}


def test_a_killed_retrain_is_crashed_and_the_next_one_resumes_its_training(days: Days) -> None:
    run = days.retrain_of(2)
    wait_for((days.progress.parent / CHECKPOINT_FILE).exists)
    first_epoch = days.progress.read_text().splitlines()[0]  # with its speed, which is another each time
    os.kill(days.process_of(run), signal.SIGKILL)
    assert days.end_of(run) == "CRASHED"
    assert days.decisions() == 3
    days.quarter.run_flow("training/retrain-stream", {"recipe": "stream"})
    assert days.decisions() == 4
    assert days.progress.read_text().splitlines()[0] == first_epoch, "it trained again what was trained"


def test_at_the_end_nothing_is_lost_or_doubled(days: Days) -> None:
    days.quarter.settle(days.client)
    assert "whole" in days.quarter.ae("ledger", "verify", "stream")
    assert days.quarter.champion() == days.client.versions[-1]
    assert days.client.failed == []

    answered = list(days.client.answered)  # first, as the client goes on asking
    held = prediction_store.read_predictions(days.project, "stream")
    assert max(Counter(held["id"].to_pylist()).values()) == 1
    samples = held.filter(held["channel"].to_numpy() == "service")["sample"].to_pylist()
    asked = Counter(sample.partition("[")[0] for sample in samples)
    assert len(answered) > 200
    assert {name: asked[name] for name in answered} == dict.fromkeys(answered, 1)
    in_batches = held.filter(held["channel"].to_numpy() == "batch")
    assert len(in_batches) == days.quarter.scored == len(set(in_batches["sample_sha256"].to_pylist()))
