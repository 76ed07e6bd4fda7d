"""A whole look: what it writes, what it keeps with the champion in MLflow, and that its pages load nothing."""

import json
import os
import re
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from monitored_project import on_day, promotion_of, scoring

from aeops.cli import monitor
from aeops.monitoring import check_steps, history, paths, retrains
from aeops.monitoring.check import run_check
from aeops.project import Project
from aeops.recipe.reader import Recipe
from aeops.registry.store import open_store

pytestmark = pytest.mark.timeout(900)  # seconds: a registry is made and Evidently imported, on a busy machine
# Python imports it in each process that begins, and tells an audit hook of every connection, before it is made.
SITECUSTOMIZE = """
import os, sys

def note(text):
    with open(os.environ["EVENTS"], "a") as file:
        print(text, file=file)

note(" ".join(sys.orig_argv))
sys.addaudithook(lambda event, _: note(event) if event in ("socket.connect", "socket.getaddrinfo") else None)
"""


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a process whose home is empty: `home`, and `events` with what it was and what it connected to."""
    folder = tmp_path_factory.mktemp("watched")
    (folder / "home").mkdir()
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(SITECUSTOMIZE)
    return folder


@pytest.fixture(scope="module")
def looked(registered: Project, linear_bundle: Path, digits: np.ndarray, recipe: Recipe, watched: Path) -> Project:
    """Looked at before anything was scored, and after twelve days that are dark from the ninth, with a retrain on the second.

    The process that draws the report is watched.
    """
    promoted, score = promotion_of(registered), scoring(registered, linear_bundle)
    run_check(registered, recipe, promoted + timedelta(minutes=1))
    for day in range(1, 13):
        shown = digits[1200 + 60 * day : 1260 + 60 * day]
        score(day, (shown * (0.6 if day > 8 else 1)).astype(np.uint8), channel="batch")
    begun = retrains.begin_retrain(registered, "digits", on_day(promoted, 2), "1", ("codes",))
    retrains.finish_retrain(registered, "digits", begun, "0a1b2c")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("XDG") or name == "DO_NOT_TRACK"]:
            patch.delenv(name)
        patch.setenv("HOME", str(watched / "home"))
        patch.setenv("EVENTS", str(watched / "events"))
        patch.setenv("PYTHONPATH", str(watched / "site"))
        run_check(registered, recipe, on_day(promoted, 13))
    return registered


def read(project: Project) -> dict:
    return json.loads(paths.verdict_file(project, "digits").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_a_look_writes_its_verdict_history_pages_and_what_it_decided(looked: Project) -> None:
    found = read(looked)
    alarms = {one["name"] for one in found["signals"] if one["verdict"] == "alarm"}
    assert {"scores", "codes", "inputs"} <= alarms
    assert found["decision"]["retrain"]
    assert set(found["decision"]["signals"]) == alarms
    assert found["drift"]["rows"] == 7 * 60
    table = history.read_history(paths.history_file(looked, "digits"))
    assert table.num_rows == 2 * 6
    assert table["verdict"].to_pylist()[:6] == [*["unknown"] * 4, "quiet", "unknown"]


def test_the_page_tells_signals_decision_champion_and_retrain_and_loads_nothing(looked: Project) -> None:
    page = paths.page_file(looked, "digits").read_text(encoding="utf-8")
    for words in (
        "A retrain is due.",
        "version 1",
        "0a1b2c",
        "✗ alarm",
        "✓ quiet",
        'href="drift.html"',
        "promised 4.98",
        "ae run digits",
    ):
        assert words in page
    assert page.count("<svg") == 3
    assert not re.findall(r'(?:src|href)="(?!#|drift\.html)[^"]*"', page)
    assert "url(http" not in page


def test_evidentlys_report_names_no_other_host_and_forbids_itself_to_load_anything(looked: Project) -> None:
    drift = paths.drift_file(looked, "digits").read_text(encoding="utf-8")
    assert set(re.findall(r"https?://([\w.-]+)", drift)) <= {"www.w3.org"}
    assert "default-src 'none'" in drift[:3000]
    for column in ("score", "mean", "std", "code 1", "code 16"):
        assert column in drift
    scores = [float(score) for score in re.findall(r'"drift_score": ([0-9.e-]+)', drift)]
    assert len(scores) > 3
    assert scores == sorted(scores, reverse=True), "what has drifted most stands first"


def test_what_was_found_lies_with_the_champions_run_once_however_often_one_looks(looked: Project) -> None:
    store = open_store(looked)
    run = store.version("digits", "champion").run_id
    kept = [f"monitoring/{name}" for name in ("drift.html", "page.html", "reference.parquet", "verdict.json")]
    assert sorted(store.files(run, "monitoring")) == kept


def test_the_reference_is_fetched_once(looked: Project, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is new, a look asks MLflow for nothing."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # where nothing answers
    assert run_check(looked, recipe, on_day(promotion_of(looked), 14))["drift"] == read(looked)["drift"]


@pytest.mark.slow
def test_a_champion_without_predictions_opens_mlflow_once(
    project: Project, recipe: Recipe, promoted: datetime, score: Callable[..., None], normal: np.ndarray, monkeypatch
) -> None:
    opened = []
    monkeypatch.setattr(check_steps, "open_store", opened.append)
    monkeypatch.setattr(check_steps, "log_results", lambda *_: None)
    for minutes in (1, 2, 3):
        assert run_check(project, recipe, promoted + timedelta(minutes=minutes))["drift"] is None
    assert opened == [project]
    score(2, normal[:120])
    assert run_check(project, recipe, on_day(promoted, 3))["drift"]["rows"] == 120
    run_check(project, recipe, on_day(promoted, 3) + timedelta(minutes=1))
    assert opened == [project] * 2
    assert run_check(project, recipe, on_day(promoted, 20))["drift"] is None, "the last samples are eighteen days old"
    run_check(project, recipe, on_day(promoted, 20) + timedelta(minutes=1))
    assert opened == [project] * 3


def test_a_champion_that_was_registered_without_a_reference_is_unknown(
    registered: Project, recipe: Recipe, tmp_path: Path
) -> None:
    bare = Project(root=registered.root, home=tmp_path / "home")
    shutil.copytree(registered.home / "ledger", bare.home / "ledger")
    shutil.copytree(registered.mlflow, bare.mlflow)
    store = open_store(bare)
    run = store.start_run("digits", {}, {}, {"dataset": "digits", "content_sha256": "c" * 64})
    store.set_tags("digits", "1", {"run_id": run})
    found = run_check(bare, recipe, on_day(promotion_of(bare), 1))
    assert [one["verdict"] for one in found["signals"][:4]] == ["unknown"] * 4
    assert "registered without a reference" in found["signals"][0]["says"]
    assert found["drift"] is None


def test_the_verb_prints_the_signals_and_what_to_type(looked: Project, capsys: pytest.CaptureFixture[str]) -> None:
    monitor.print_signals(read(looked), looked)
    told = capsys.readouterr().out
    for words in ("scores", "alarm", "retrain    due", "type       ae run digits", "page.html"):
        assert words in told


def test_evidently_writes_nothing_to_the_home_folder_and_reaches_no_host(looked: Project, watched: Path) -> None:
    [process] = (watched / "events").read_text().splitlines()
    assert "aeops.monitoring.drift" in process
    assert paths.drift_file(looked, "digits").is_file()
    assert not list((watched / "home").rglob("*"))
