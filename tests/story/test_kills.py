"""Days of the quarter, each with a retrain at work; in each another process of the stack is killed by SIGKILL."""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from types import ModuleType
from typing import Any

import pytest
from checkout import make_checkout, wait_for
from living_stack import pids

from aeops import predictions
from aeops.errors import InfrastructureError
from aeops.registry import ledger
from aeops.stack.identity import parse
from aeops.stack.status import gather
from aeops.stack.tending import PROCESS

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]  # seconds, on a busy machine
SERVICES = ("page", "score-stream", "standby", "supervisor", "mlflow", "prefect", "worker")
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


class Days:
    """The stack of the story, a client that asks all the while, and the day it is."""

    def __init__(self, quarter: Any, client: Any) -> None:
        self.quarter, self.client = quarter, client
        self.project = quarter.project
        self.day = 0
        self.retrains = 0

    def retrain_at_work(self) -> str:
        """A new day's samples come in, a retrain of them starts; its flow run, once it trains."""
        self.quarter.come_in(self.day)
        self.day += 1
        began = time.time()
        run = str(self.quarter.start_flow("training/retrain-stream", {"recipe": "stream"}))
        progress = self.project.training("stream") / "progress.jsonl"
        wait_for(lambda: progress.exists() and progress.stat().st_mtime > began and progress.stat().st_size)
        self.retrains += 1
        return run

    def state(self, run: str) -> str:
        try:
            return str(self.quarter.prefect.ask("GET", f"flow_runs/{run}")["state"]["type"])
        except InfrastructureError:
            return "no server"  # it was the one that was killed

    def end_of(self, run: str) -> str:
        wait_for(lambda: self.state(run) in ENDED)
        return self.state(run)

    def process_of(self, run: str) -> int:
        found = parse(self.quarter.prefect.ask("GET", f"flow_runs/{run}")["labels"][PROCESS])
        assert found is not None
        return found.pid

    def decisions(self) -> int:
        """Lines of the ledger, each a promotion or a refusal."""
        return len(ledger.read(self.project, "stream"))


@pytest.fixture(scope="module")
def days(quarter: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Days]:
    with ExitStack() as ending:
        story = quarter.Quarter(make_checkout(tmp_path_factory.mktemp("kills") / "checkout").root)
        ending.callback(story.ae, "down")
        story.start()
        client = quarter.Client(story.service(), story.digits.take("known", 64), patience=120.0)
        ending.enter_context(client.asking())
        yield Days(story, client)


@pytest.mark.parametrize("name", SERVICES)
def test_the_stack_recovers_and_the_retrain_at_work_ends_well_and_once(days: Days, name: str) -> None:
    decided, run = days.decisions(), days.retrain_at_work()
    before = pids(days.project)
    killed = before[name]
    assert killed is not None
    os.kill(killed, signal.SIGKILL)

    def recovered() -> bool:
        now = pids(days.project)
        return None not in now.values() and now[name] != killed and bool(gather(days.project)["well"])

    wait_for(recovered)
    assert days.end_of(run) == "COMPLETED"
    assert days.decisions() == decided + 1
    now = pids(days.project)
    others = before.keys() - {"supervisor", "standby"} - {name}
    assert {other: now[other] for other in others} == {other: before[other] for other in others}


def test_a_killed_retrain_is_crashed_and_the_next_one_resumes_its_training(days: Days) -> None:
    decided, run = days.decisions(), days.retrain_at_work()
    progress = days.project.training("stream") / "progress.jsonl"
    os.kill(days.process_of(run), signal.SIGKILL)
    assert days.end_of(run) == "CRASHED"
    assert days.decisions() == decided
    kept = progress.read_text()
    days.quarter.run_flow("training/retrain-stream", {"recipe": "stream"})
    assert days.decisions() == decided + 1
    assert progress.read_text().startswith(kept), "it trained the epochs again that were done"


def test_at_the_end_nothing_is_lost_or_doubled(days: Days) -> None:
    days.quarter.settle(days.client)
    assert "whole" in days.quarter.ae("ledger", "verify", "stream")
    assert days.decisions() == 1 + days.retrains
    assert days.quarter.champion() == days.client.versions[-1]
    assert days.client.failed == []

    held = predictions.read(days.project, "stream")
    assert max(Counter(held["id"].to_pylist()).values()) == 1
    samples = held.filter(held["channel"].to_numpy() == "service")["sample"].to_pylist()
    asked = Counter(sample.partition("[")[0] for sample in samples)
    answered = list(days.client.answered)
    assert len(answered) > 200
    assert {name: asked[name] for name in answered} == dict.fromkeys(answered, 1)
    in_batches = held.filter(held["channel"].to_numpy() == "batch")
    assert len(in_batches) == days.quarter.scored == len(set(in_batches["sample_sha256"].to_pylist()))
