"""A whole series scored by its windows: the score of each step, the residual of each channel, alarms as intervals."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from machine_series import fit_bundle, readings, series_room, to_long, write

from ae_models.spec import ChannelSpec
from aeops.audit.subject import open_subject
from aeops.bundle.detector import Detector
from aeops.cli.embed import read_dataset
from aeops.cli.score import FileResult, print_result
from aeops.codec.archive import require_quantised
from aeops.errors import DataError, UsageError
from aeops.kinds.samples import FitOptions
from aeops.kinds.series_scores import score_series
from aeops.kinds.series_windows import (
    SeriesWindows,
    alarmed_steps,
    average_scores,
    average_values,
    find_intervals,
    run_bounds,
    spread_starts,
    window_starts,
)

NAMES = (ChannelSpec("a"), ChannelSpec("b"))


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    return Detector(fit_bundle(tmp_path_factory.mktemp("press")))


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """Two hours of two machines; the pressure of one holds still for half an hour."""
    frame = readings(120, ("press-1", "press-2"))
    frame.loc[160:189, "pressure"] = 2000 + 290
    file = tmp_path / "today.csv"
    frame.to_csv(file, index=False)
    return file


# ---------------------------------------------------------------- averages and intervals


@pytest.mark.parametrize("seed", range(3))
def test_the_score_of_a_step_is_the_mean_over_the_windows_that_hold_it(seed: int) -> None:
    generator = np.random.default_rng(seed)
    steps, length = 60, int(generator.integers(3, 12))
    starts = np.sort(generator.choice(steps - length, 9, replace=False))
    scores, windows = generator.normal(size=9).astype(np.float32), generator.normal(size=(9, 2, length))
    averaged, values = average_scores(scores, starts, length, steps), average_values(windows, starts, steps)
    for step in range(steps):
        own = [index for index, start in enumerate(starts) if start <= step < start + length]
        if not own:
            assert np.isnan(averaged[step])
            assert np.isnan(values[step]).all()
            continue
        assert averaged[step] == pytest.approx(np.mean(scores[own]), abs=1e-6)
        assert values[step] == pytest.approx(np.mean([windows[index, :, step - starts[index]] for index in own], axis=0))


def test_windows_cover_a_run_to_its_end_and_no_gap() -> None:
    machines = np.array(["x"] * 10 + ["y"] * 7)
    times = np.array([*range(0, 600, 60), *range(0, 240, 60), *range(600, 780, 60)], float)
    runs = run_bounds(machines, times, 60)
    assert runs == [(0, 10), (10, 14), (14, 17)]
    assert window_starts(runs, 4, 4).tolist() == [0, 4, 6, 10]
    series = SeriesWindows(machines, times, np.zeros((17, 2)), window_starts(runs, 4, 4), 4, 60.0)
    assert np.flatnonzero(series.unscored).tolist() == [14, 15, 16]


def test_windows_to_train_on_have_every_phase_of_a_period_that_the_stride_divides() -> None:
    starts = spread_starts([(0, 2000), (3000, 3010)], 16, 8)
    assert starts.max() + 16 <= 2000, "the second run is shorter than a window"
    assert np.bincount(starts % 8, minlength=8).min() > 0.1 * len(starts)
    assert (np.diff(starts // 8) == 1).all(), "one in each stride"


def test_alarms_less_than_a_window_apart_are_one_and_those_of_two_machines_are_two() -> None:
    machines = np.array(["x"] * 20 + ["y"] * 20)
    times = np.tile(np.arange(20) * 60.0, 2)
    series = SeriesWindows(machines, times, np.zeros((40, 2)), np.arange(0), 4, 60.0)
    alarmed = np.zeros(40, bool)
    alarmed[[2, 5, 12, 19, 20]] = True
    scores, residuals = np.arange(40.0), np.tile([[1.0, 9.0]], (40, 1))
    intervals = find_intervals(alarmed, scores, residuals, series, NAMES)
    assert [(one.machine, one.first, one.last) for one in intervals] == [("x", 2, 5), ("x", 12, 12), ("x", 19, 19), ("y", 20, 20)]
    assert intervals[0].peak == 300.0
    assert intervals[0].channels == (("b", 0.9),)
    assert find_intervals(np.zeros(40, bool), scores, residuals, series, NAMES) == []


def test_a_step_is_alarmed_where_all_of_its_windows_are_flagged_whatever_their_mean() -> None:
    series = SeriesWindows(np.full(6, ""), np.arange(6) * 60.0, np.zeros((6, 1)), np.array([0, 2]), 4, 60.0)
    step_scores = average_scores(np.array([0.0, 1.0]), series.starts, 4, 6)
    flagged = alarmed_steps(step_scores, np.array([True, False]), series, threshold=5.0)
    assert flagged.tolist() == [True, True, False, False, False, False]


# ---------------------------------------------------------------- a file


def test_a_file_of_readings_is_scored_by_step_and_its_alarm_names_machine_time_and_channel(
    detector: Detector, broken: Path
) -> None:
    samples = detector.read_file(broken)
    assert samples.series is not None
    assert len(samples.names) == len(samples.values) == len(samples.series.starts)
    assert samples.names[0] == "press-1@2026-03-01T00:00:00Z"
    series = score_series(detector, samples.series)
    [alarm] = [one for one in series.alarms if one.machine == "press-2"]
    hit = pd.Timestamp("2026-03-01T00:40:00Z").timestamp(), pd.Timestamp("2026-03-01T01:09:00Z").timestamp()
    assert alarm.start < hit[1]
    assert alarm.end > hit[0]
    assert hit[0] - 16 * 60 <= alarm.peak <= hit[1] + 16 * 60
    assert alarm.channels[0][0] == "pressure"
    assert np.isfinite(series.step_scores).all()
    assert series.residuals.shape == (240, 2)


def test_wide_long_and_parquet_files_give_the_same_windows(detector: Detector, broken: Path) -> None:
    frame = pd.read_csv(broken)
    to_long(frame).to_csv(broken.with_name("long.csv"), index=False)
    frame.assign(time=pd.to_datetime(frame["time"])).to_parquet(broken.with_name("today.parquet"))
    expected = detector.read_file(broken).values
    for name in ("long.csv", "today.parquet"):
        np.testing.assert_array_equal(detector.read_file(broken.with_name(name)).values, expected)


def test_ae_score_prints_alarms_and_what_was_too_short_to_score(
    detector: Detector, broken: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    frame = pd.read_csv(broken)
    frame = frame[~frame.index.isin(range(10, 20))]  # ten steps, then a gap
    frame.to_csv(broken, index=False)
    samples = detector.read_file(broken)
    scores = detector.score(samples.values, reconstruction=True, code=True)
    assert samples.series is not None
    ids = [f"id-{row}" for row in range(len(samples.names))]
    result = FileResult("press", "3", detector, samples, scores, ids, series=score_series(detector, samples.series, scores))
    print_result(result)
    printed = capsys.readouterr().out
    assert "press 3" in printed
    assert "not scored: press-1 2026-03-01T00:00:00Z to 2026-03-01T00:09:00Z: 10 steps, less than a window" in printed
    document = json.loads(result.to_json())
    assert document["unscored"] == [
        {"machine": "press-1", "start": "2026-03-01T00:00:00Z", "end": "2026-03-01T00:09:00Z", "steps": 10}
    ]
    assert document["steps"][0]["score"] is None
    assert set(document["steps"][20]["residuals"]) == {"temperature", "pressure"}
    assert any(alarm["machine"] == "press-2" for alarm in document["alarms"])
    assert len(document["samples"]) == len(samples.names)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.drop(columns="pressure"), "expected readings with the column pressure"),
        (lambda frame: frame.rename(columns={"time": "tiem"}), "expected readings with the column time.*did you mean tiem"),
        (lambda frame: frame.assign(pressure="high"), "row 0: expected numbers, got pressure: 'high'"),
        (lambda frame: frame.iloc[:10], "expected 16 steps of 60 s in a row, a window of the model, got 10 at most"),
        (lambda frame: frame.iloc[::-1], "expected readings in the order of time"),
    ],
)
def test_a_file_that_holds_no_such_series_is_refused_with_its_name(
    detector: Detector, broken: Path, change: object, message: str
) -> None:
    change(pd.read_csv(broken)).to_csv(broken, index=False)  # type: ignore[operator]
    with pytest.raises(DataError, match=f"today.csv: .*{message}"):
        detector.read_file(broken)


def test_infinite_and_missing_values_are_anomalies_of_the_windows_that_hold_them(detector: Detector, broken: Path) -> None:
    frame = readings(120, ("press-1",))
    frame.loc[50, "temperature"] = np.inf
    frame.loc[90:99, "pressure"] = np.nan
    frame.to_csv(broken, index=False)
    samples = detector.read_file(broken)
    scores = detector.score(samples.values)
    holds_infinite, holds_missing = (test(samples.values).any(axis=(1, 2)) for test in (np.isinf, np.isnan))
    assert holds_infinite.any()
    assert holds_missing.any()
    assert scores["is_anomaly"][holds_infinite | holds_missing].all()


def test_the_page_takes_csv_and_draws_each_channel_by_its_name(detector: Detector, broken: Path) -> None:
    kind, spec = detector.data_kind, detector.spec
    fitted = kind.fit_sample(broken.read_bytes(), "text/csv", spec, FitOptions(row=3))
    assert fitted.batch.shape == (1, 2, 16)
    assert "number 3, from press-1@2026-03-01T00:12:00Z, is shown" in fitted.changes[0]
    checked = detector.check(fitted.batch)
    outputs = detector.score_checked(checked, explanation=True)
    [explanation] = detector.explain(checked.model_input, outputs)
    blocks, why_not = kind.page_panels(fitted.batch, outputs["reconstruction"], spec, explanation)
    assert [block.title for block in blocks] == ["temperature", "pressure"]
    assert all(block.content.count("<polyline") == 3 for block in blocks), "given, reconstruction, nearest"
    assert not why_not
    with pytest.raises(DataError, match="expected a window from 0 to "):
        kind.fit_sample(broken.read_bytes(), "text/csv", spec, FitOptions(row=999))


def test_what_needs_samples_of_one_range_refuses_a_series_and_says_what_to_do(detector: Detector, tmp_path: Path) -> None:
    room = series_room(tmp_path)
    write(room, readings(60))
    room.accept_unjudged()
    with pytest.raises(UsageError, match="holds the steps of a series and no windows: type ae embed mine FILE"):
        next(read_dataset(room.data, room.recipe))
    with (
        pytest.raises(UsageError, match="a series that is stored step by step"),
        open_subject(room.project, "mine", from_source=False, max_samples=100),
    ):
        pass
    with pytest.raises(UsageError, match="series whose channels have ranges of their own"):
        require_quantised(detector, "press")
