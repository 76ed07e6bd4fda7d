"""benchmarks/quarter.py: its first day with the whole stack (make test-long), and a day without the stack."""

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import quarter
from benchmark_checkout import make_benchmark_checkout
from benchmark_tools import ROOT
from running_service import running
from served_champion import register_champion, scratch_project

from aeops.bundle.detector import Detector
from aeops.serving.limits import RequestLimits


@pytest.mark.long
@pytest.mark.timeout(1800)  # seconds, on a busy machine
def test_the_first_day_is_played_and_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, page = tmp_path / "quarter.json", tmp_path / "quarter.html"
    monkeypatch.chdir(make_benchmark_checkout(tmp_path / "checkout").root)
    quarter.main(["--days", "1", "--out", str(out), "--page", str(page)])
    record = json.loads(out.read_text(encoding="utf-8"))
    assert (record["days"], record["samples"]) == (1, quarter.A_DAY)
    assert record["events"][0] == "promotion of 1"
    assert record["failed_requests"] == []
    assert "<html" in page.read_text(encoding="utf-8")


@pytest.fixture
def story(trained: Path, tmp_path: Path) -> quarter.Quarter:
    """The story before its first day, with a champion that no flow has trained."""
    project = scratch_project(tmp_path / "project", trained / "bundle")
    shutil.copy(ROOT / "prefect.yaml", project.root)
    quarter.write_recipe(project.root)
    for folder in ("days", "inbox"):
        (project.root / folder / quarter.RECIPE).mkdir(parents=True)
    register_champion(project, quarter.RECIPE, trained / "bundle")
    return quarter.Quarter(project.root)


@pytest.fixture
def client(story: quarter.Quarter, trained: Path) -> Iterator[quarter.Client]:
    with ExitStack() as ending:
        service = ending.enter_context(running(Detector(trained / "bundle"), RequestLimits()))
        yield quarter.Client(lambda: f"http://127.0.0.1:{service.port}", story.digits.take("known", 4))


@pytest.mark.slow
def test_a_day_is_scored_and_summed_up(story: quarter.Quarter, client: quarter.Client) -> None:
    evening = story.come_in(0)
    assert evening > story.begin
    client.sent = 10
    client.request_score(client.samples[0], "first")  # and the version, at every tenth
    summary = story.summary(client, days=1)
    assert (summary["days"], summary["samples"]) == (1, quarter.A_DAY)
    assert summary["events"] == ["promotion of 1"]
    assert summary["versions_that_answered"] == ["1"]
    assert summary["ledger"] == "stream: whole, 1 lines, champion 1"


def test_no_sample_comes_twice_and_the_new_digit_comes_with_the_change() -> None:
    days = quarter.Days()
    samples = np.concatenate([days.calm(), days.calm(), days.changed()])
    assert len(np.unique(samples, axis=0)) == 3 * quarter.A_DAY
    assert days.used == {"known": 3 * quarter.A_DAY - 5, "new": 5}
