"""Windows of a series are counted by blocks, so that the promise of monitoring holds where scores depend on each other."""

import importlib.util
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import machine_series
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from monitored_project import ROOT
from scipy.signal import lfilter

from aeops.bundle.detector import Detector
from aeops.evaluation.reference import CalibrationReference, read_reference, write_reference
from aeops.kinds.series_blocks import BlockRule
from aeops.kinds.series_windows import SeriesWindows, run_bounds, spread_starts, step_name
from aeops.machine.stored_json import read_json
from aeops.monitoring import paths
from aeops.monitoring.champion_period import ChampionPeriod
from aeops.monitoring.check_steps import CheckResult, build_result_verdict, evaluate_signals, page_content
from aeops.monitoring.history import read_history
from aeops.monitoring.monitoring_page import write_page
from aeops.monitoring.reference_bins import correlation_time, find_thinning, make_test_bins
from aeops.predictions import prediction_store
from aeops.predictions.arrow_rows import build_rows
from aeops.predictions.rows import scorer_of
from aeops.project import Project
from aeops.recipe.reader import load_recipe
from aeops.registry import ledger

STEPS = 1600  # of each machine, a day and some hours
WINDOWS = 4  # of a block
Record = Callable[..., None]


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    return Detector(machine_series.fit_bundle(tmp_path_factory.mktemp("press")))


@pytest.fixture(scope="module")
def series(detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> SeriesWindows:
    """Readings of two machines that nobody has trained on, each with a memory of ten steps."""
    file = tmp_path_factory.mktemp("series") / "readings.csv"
    frame = machine_series.readings(STEPS, ("press-1", "press-2"))
    noise, decay = np.random.default_rng(11).normal(size=(len(frame), 2)), np.exp(-1 / 10)
    values = lfilter([np.sqrt(1 - decay**2)], [1, -decay], noise, axis=0)
    frame["temperature"], frame["pressure"] = 60 + 5 * values[:, 0], 2000 + 90 * values[:, 1]
    frame.to_csv(file, index=False)
    series = detector.read_file(file).series
    assert series is not None
    return series


@pytest.fixture
def project(detector: Detector, series: SeriesWindows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose champion of `press` is that bundle, calibrated on the first half of the series; there is no MLflow."""
    for name in ("MLFLOW_TRACKING_URI", "AE_HOME"):
        monkeypatch.delenv(name, raising=False)
    project = Project(root=tmp_path, home=tmp_path / ".ae")
    (tmp_path / "recipes").mkdir()
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    recipe: dict[str, Any] = {
        "recipe": "press",
        "about": "Presses.",
        "purpose": "reconstruct",
        "data": {
            "dataset": "press",
            "source": {"kind": "series", "path": "readings.csv"},
            "split": {"by": "time", "validation": 0.15, "calibration": 0.25, "test": 0.25},
        },
        "validate": {"rows": {"min": 1, "max": 100000}, "mean_drift": 0.5, "quarantine_budget": 0.1},
        "input": {"kind": "series", "channels": machine_series.CHANNELS, "steps": machine_series.STEPS},
        **machine_series.SECTIONS,
        "evaluate": {},
        "gate": {"served": {"check": "served"}},
    }
    project.recipe_file("press").write_text(yaml.safe_dump(recipe, sort_keys=False))
    monkeypatch.chdir(tmp_path)
    ledger.append_entry(project, ledger.Decision("promotion", "press", "1", who="a test", why="first", to_version="1"))
    file = paths.reference_file(project, "press", "1")
    file.parent.mkdir(parents=True)
    starts = spread_starts(run_bounds(series.machines, series.times, series.every), series.length, 4)
    half = starts[series.times[starts] < series.times[STEPS // 2]]
    windows = SeriesWindows(series.machines, series.times, series.values, half, series.length, series.every)
    write_reference(file, load_recipe(project, "press").fit, windows.cut(), detector, windows.names())
    return project


@pytest.fixture
def record(project: Project, detector: Detector, series: SeriesWindows) -> Record:
    """Records the predictions of windows of the series, an hour after the promotion."""
    time = datetime.now(UTC) + timedelta(hours=1)

    def score(starts: np.ndarray, channel: str, names: list[str] | None = None) -> None:
        windows = SeriesWindows(series.machines, series.times, series.values, starts, series.length, series.every)
        if names is None and channel == "batch":
            names = windows.names()
        if names is None:
            ends = starts + series.length - 1
            names = list(map(step_name, series.machines[ends].tolist(), series.times[ends].tolist()))
        call, samples = prediction_store.new_call(project), windows.cut()
        rows = build_rows(
            scorer_of("press", "1", detector),
            call=call,
            channel=channel,
            time=time,
            names=names,
            samples=samples,
            outputs=detector.score(samples, code=True),
        )
        prediction_store.write_call(prediction_store.call_file(project, "press", time, call), [rows])

    return score


def period_of(project: Project) -> ChampionPeriod:
    [entry] = ledger.read_entries(project, "press")
    return ChampionPeriod("1", entry.time, entry.timestamp)


def check(project: Project) -> CheckResult:
    recipe, now = load_recipe(project, "press"), datetime.now(UTC) + timedelta(hours=2)
    return evaluate_signals(project, recipe, period_of(project), now)


def signals(result: CheckResult) -> dict[str, Any]:
    return {signal.name: signal.to_dict() for signal in result.signals}


def all_starts(series: SeriesWindows) -> np.ndarray:
    """The start of every window, as the service scores a growing series."""
    places = np.arange(len(series.times) - series.length + 1)
    return places[series.machines[places] == series.machines[places + series.length - 1]]


def test_the_reference_says_how_windows_are_counted(project: Project, detector: Detector) -> None:
    reference = read_reference(paths.reference_file(project, "press", "1"))
    assert reference.blocks == BlockRule(every=60, length=16, stride=4, windows=WINDOWS)
    blocks = len(reference.score) // WINDOWS
    highest = np.sort(reference.score[: blocks * WINDOWS].reshape(blocks, WINDOWS).max(axis=1))
    assert reference.rank == reference.threshold.calibration_rank(blocks)
    bins = make_test_bins(reference)
    assert bins["alarm_rate"][0].edges * bins["alarm_rate"][0].resolution == pytest.approx(highest[reference.rank - 1], rel=1e-5)
    assert detector.data_kind.block_rule(detector.spec, 1) == BlockRule(60, 16, 4, 4)  # as many as cover a window


def test_windows_count_by_blocks_however_often_and_by_whatever_door_they_were_scored(
    project: Project, record: Record, series: SeriesWindows
) -> None:
    record(all_starts(series), "service")
    online = check(project)
    blocks = 2 * STEPS // (4 * WINDOWS)
    assert blocks - 6 <= len(online.counts.blocks) <= blocks + 2
    assert {block.windows for block in online.counts.blocks.values()} >= {WINDOWS}
    assert signals(online)["scores"]["samples"] <= blocks
    assert "blocks of 4 windows" in signals(online)["alarm_rate"]["says"]
    for name in ("alarm_rate", "scores", "codes", "inputs"):
        assert signals(online)[name]["verdict"] != "alarm", signals(online)[name]["says"]
    record(series.starts, "batch")
    again = check(project)
    assert set(again.counts.blocks) >= set(online.counts.blocks)
    assert signals(again)["scores"]["samples"] == pytest.approx(signals(online)["scores"]["samples"], abs=2)


def write_checked_page(project: Project) -> str:
    """Check, write the page, and return its text."""
    result, recipe = check(project), load_recipe(project, "press")
    period, now = period_of(project), datetime.now(UTC) + timedelta(hours=2)
    verdict = build_result_verdict(project, recipe, period, result, now)
    history = read_history(paths.history_file(project, "press"))
    write_page(paths.page_file(project, "press"), page_content(project, recipe, period, result, verdict, history))
    return paths.page_file(project, "press").read_text()


def test_the_page_draws_blocks(project: Project, record: Record, series: SeriesWindows) -> None:
    record(series.starts, "batch")
    result = check(project)
    days, counts = result.counts.alarm_days(period_of(project))
    assert len(days) == 1
    assert counts[0, 1] == signals(result)["alarm_rate"]["samples"]
    assert "blocks of 4 windows" in write_checked_page(project)


def test_a_threshold_that_judges_windows_has_no_alarm_rate_to_test_and_its_page_draws_windows(
    project: Project, record: Record, series: SeriesWindows
) -> None:
    file = paths.reference_file(project, "press", "1")
    table = pq.read_table(file)
    threshold = {"kind": "split-conformal", "false_alarm_rate": 0.1}
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"threshold": json.dumps(threshold).encode()}), file)
    record(series.starts, "batch")
    page = write_checked_page(project)
    assert "the threshold judges windows, which depend on each other" in page
    assert "<svg" in page


def test_windows_without_a_time_are_not_counted_and_named(project: Project, record: Record, series: SeriesWindows) -> None:
    record(series.starts[:40], "service", names=[f"5f[{row}]" for row in range(40)])
    scores = signals(check(project))["scores"]
    assert scores["verdict"] == "unknown"
    assert "40 windows were scored without the time of their steps" in scores["says"]


def test_blocks_that_have_only_begun_wait(project: Project, record: Record, series: SeriesWindows) -> None:
    record(series.starts[:2], "batch")
    assert "blocks of 4 windows is whole yet" in signals(check(project))["scores"]["says"]


def test_a_reference_of_before_counts_each_window(project: Project, record: Record, series: SeriesWindows) -> None:
    file = paths.reference_file(project, "press", "1")
    table = pq.read_table(file)
    metadata = {key: value for key, value in table.schema.metadata.items() if key != b"blocks"}
    pq.write_table(table.replace_schema_metadata(metadata), file)
    record(series.starts, "batch")
    found = signals(check(project))
    assert found["scores"]["samples"] == len(series.starts)
    assert found["alarm_rate"]["verdict"] == "unknown"


def test_the_correlation_time_of_an_autoregression_is_that_of_its_theory() -> None:
    draw = np.random.default_rng(0)
    noise, values = draw.normal(size=20_000), np.zeros(20_000)
    for place in range(1, len(values)):
        values[place] = 0.8 * values[place - 1] + noise[place]
    assert correlation_time(values) == pytest.approx(2 * 0.8 / 0.2, rel=0.2)
    assert correlation_time(noise) < 0.1
    assert correlation_time(np.full(50, 3.0)) == 0
    assert find_thinning(np.stack([noise, values], axis=1)) == pytest.approx(1 + 3 * correlation_time(values), abs=1)


# ---------------------------------------------------------------- the simulation


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    spec = importlib.util.spec_from_file_location("monitoring_series", ROOT / "benchmarks" / "monitoring_series.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_scores_that_depend_on_each_other_raise_no_alarm_by_blocks_and_always_one_by_one(simulation: ModuleType) -> None:
    found = simulation.false_alarms(32, 12, np.random.default_rng(7))["tests"]
    assert found[simulation.NAIVE]["alarmed"] == 12
    for test in simulation.TESTS:
        assert found[test]["alarmed"] <= 1  # with a chance of less than one in a hundred were there two at the promised 1 %


def test_the_page_on_monitoring_says_what_the_record_says(simulation: ModuleType) -> None:
    recorded = read_json(simulation.RECORD) if simulation.RECORD.is_file() else None
    text = simulation.DOCS.read_text(encoding="utf-8")
    assert simulation.update_page(text, recorded) == text, "python benchmarks/monitoring_series.py --docs-only"


def test_the_record_keeps_the_promise_for_each_memory(simulation: ModuleType) -> None:
    recorded = read_json(simulation.RECORD)
    assert [entry["memory"] for entry in recorded["false_alarms"]] == list(simulation.MEMORIES)
    for entry in recorded["false_alarms"]:
        for test in simulation.TESTS:
            assert entry["tests"][test]["streams"] >= 1000
            assert entry["tests"][test]["interval"][0] <= recorded["level"]
        assert entry["tests"][simulation.NAIVE]["interval"][0] > 0.9


def test_a_reference_needs_blocks_that_the_threshold_judges(simulation: ModuleType) -> None:
    nothing = np.zeros(320)
    other = simulation.RULE.__class__(300, 32, 4, 8)
    reference = CalibrationReference(nothing, nothing, nothing, nothing[:, None], simulation.THRESHOLD, "0" * 64, blocks=other)
    assert reference.rank is None
