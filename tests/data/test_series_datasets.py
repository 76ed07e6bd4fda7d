"""Series on their way into a dataset: brought to steps by rule, judged by channel and machine, cut into windows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from data_project import Room, shared_data
from machine_series import CHANNELS, STEPS, readings, series_room, to_long, write

from ae_models.spec import ChannelSpec, StepsSpec
from aeops.data.dataset import content_sha256, read_index, read_shards
from aeops.errors import DataError, UsageError
from aeops.kinds.series_grid import Steps, to_steps
from aeops.kinds.series_readings import read_columns
from aeops.kinds.series_times import read_times
from aeops.kinds.table_rows import read_columns_file
from aeops.stages.prepare import prepare

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
ONE = (ChannelSpec("value"),)
MINUTES = StepsSpec(every=60, length=4, fill=2)


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return series_room(tmp_path)


def reasons(room: Room) -> dict[str, str]:
    """The reasons by the id of the step."""
    return {entry["id"]: "; ".join(entry["reasons"]) for entry in room.validation()["quarantined"]}


def steps_of(times: Any, values: Any, steps: StepsSpec = MINUTES) -> Steps:
    return to_steps(read_columns({"time": times, "value": np.asarray(values, float)}, ONE, steps, from_text=False), steps)


def prepared_steps(room: Room) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """The steps of the prepared series, and which of them each split's windows hold, by their times and values."""
    folder = room.root / "prepared"
    prepare(room.recipe, room.data, folder)
    return pd.read_parquet(folder / "series.parquet"), {
        name: np.load(folder / f"{name}.npy") for name in ("train", "validation", "calibration", "test")
    }


# ---------------------------------------------------------------- readings and their repair


@pytest.mark.slow
def test_a_row_without_a_time_is_set_aside_by_its_number_within_the_budget(room: Room) -> None:
    frame = readings().astype({"time": str})
    frame.loc[7, "time"] = "soon"
    write(room, frame)
    room.accept()
    reason = "column time: expected a time stamp such as 2026-11-30T12:00:00Z, or seconds since 1970, got 'soon'"
    assert room.samples().set_aside == {"row 8": reason}
    assert room.validation()["rows"]["quarantined"] == 1
    frame.loc[:300, "time"] = "soon"
    write(room, frame)
    with pytest.raises(DataError, match="quarantine_budget"):
        room.accept()


def test_repeated_stamps_are_averaged_and_counted() -> None:
    made = steps_of(np.array([0, 60, 60, 120.0]), [1, 2, 4, 8])
    assert made.values[:, 0].tolist() == [1, 3, 8]
    assert (made.facts.repeated, made.facts.late, made.facts.filled) == (1, 0, 0)


def test_a_clock_that_goes_backwards_often_is_refused_with_machine_and_row(room: Room) -> None:
    frame = readings(100)
    frame.loc[[10, 30, 50], "time"] = frame.loc[[0, 0, 0], "time"].to_numpy()
    write(room, frame)
    with pytest.raises(
        DataError, match=r"machine press-1: expected readings in the order of time.* got 3 of 100.* first in row 10"
    ):
        room.ingest()


def test_a_few_late_readings_are_sorted_and_counted(room: Room) -> None:
    frame = readings(300)
    order = np.arange(len(frame))
    order[[100, 101]] = [101, 100]
    write(room, frame.iloc[order])
    room.ingest()
    facts = json.loads((room.incoming / "dataset.json").read_text())["source"]["facts"]
    assert (facts["late"], facts["repeated"], facts["gaps"]) == (1, 0, 0)
    write(room, frame)
    swapped = pq.read_table(room.incoming / "shards" / "00000.parquet").to_pandas()
    room.ingest()
    pd.testing.assert_frame_equal(swapped, pq.read_table(room.incoming / "shards" / "00000.parquet").to_pandas())


def test_irregular_readings_go_to_the_nearest_step_by_their_mean() -> None:
    made = steps_of(np.array([0, 58, 61, 125, 178.0]), [0, 2, 4, 6, 8])
    assert made.times.tolist() == [0, 60, 120, 180]
    assert made.values[:, 0].tolist() == [0, 3, 6, 8]
    assert made.readings.tolist() == [1, 2, 1, 1]
    assert made.facts.merged == 1


def test_a_gap_is_filled_up_to_its_limit_and_left_open_beyond() -> None:
    made = steps_of(np.array([0, 180, 420.0]), [0, 3, 9])
    assert made.times.tolist() == [0, 60, 120, 180, 420]
    assert made.values[:4, 0].tolist() == [0, 1, 2, 3]
    assert made.readings.tolist() == [1, 0, 0, 1, 1]
    assert (made.facts.filled, made.facts.gaps) == (2, 1)


def test_a_channel_that_is_missing_for_long_leaves_steps_without_a_value() -> None:
    times = np.arange(8) * 60.0
    columns = {"time": times, "a": np.arange(8.0), "b": np.where((times >= 120) & (times <= 300), np.nan, 1.0)}
    channels = (ChannelSpec("a"), ChannelSpec("b"))
    made = to_steps(read_columns(columns, channels, MINUTES, from_text=False), MINUTES)
    assert np.isnan(made.values[:, 1]).tolist() == [False, False, True, True, True, True, False, False]
    assert not np.isnan(made.values[:, 0]).any()


def test_the_hour_that_a_clock_shows_twice_is_told_apart_where_it_goes_back() -> None:
    stamps = ["2026-10-25T02:30:00", "2026-10-25T02:45:00", "2026-10-25T02:00:00", "2026-10-25T02:15:00", "2026-10-25T03:00:00"]
    berlin = StepsSpec(every=900, length=4, timezone="Europe/Berlin")
    times = read_times(stamps, np.full(5, ""), berlin)
    assert np.diff(times).tolist() == [900, 900, 900, 2700]
    assert times[0] == pd.Timestamp("2026-10-25T00:30:00Z").timestamp()
    aware = read_times(["2026-10-25T02:30:00+02:00"], np.full(1, ""), berlin)
    assert aware[0] == times[0]


@pytest.mark.parametrize(
    ("columns", "steps"),
    [
        ({"time": ["1612120812345", "1612120872345"]}, {"time_unit": "ms"}),  # the year 1612 as ISO 8601
        ({"time": [1612120812345, 1612120872345]}, {"time_unit": "ms"}),
        ({"time": np.array([1612120812345.0, 1612120872345.0])}, {"time_unit": "ms"}),
        ({"time": ["2021-01-31T19:20:12.345Z", "1612120872345"]}, {"time_unit": "ms"}),
        ({"time": ["1612120812.345", " 1.612120872345e9 "]}, {}),
        ({"day": ["2021-01-31", "2021-01-31"], "time": ["19:20:12.345", "19:21:12.345"]}, {}),
        ({"day": ["2021-01-31", "2021-01-31"], "time": ["20:20:12.345+01:00", "19:21:12.345Z"]}, {}),
        ({"day": ["2021-01-31", "2021-01-31 00:00:00"], "time": ["20:20:12.345", "20:21:12.345"]}, {"timezone": "Europe/Berlin"}),
        ({"day": np.array(["2021-01-31"] * 2, "datetime64[us]"), "time": np.array([69612.345, 69672.345])}, {}),
    ],
)
def test_times_in_each_form_are_the_same_seconds(columns: dict[str, Any], steps: dict[str, Any]) -> None:
    if "day" in columns:
        steps = {**steps, "time": "day", "time_of_day": "time"}
    spec = StepsSpec(every=60, length=4, **steps)
    found = read_columns({**columns, "value": [1.0, 2.0]}, ONE, spec, from_text=False)
    assert found.times.tolist() == [1612120812.345, 1612120872.345]


@pytest.mark.parametrize(
    ("columns", "steps"),
    [
        ({"time": ["1612120812", "1612120812345"]}, {"time_unit": "ms"}),  # seconds, as milliseconds the year 1970
        ({"time": [-1, 1612120812345]}, {"time_unit": "ms"}),
        ({"time": [True, 1612120812345]}, {"time_unit": "ms"}),
        ({"time": ["1612120812345", "2021-01-31T19:20:12Z"]}, {}),  # milliseconds, as seconds beyond the year 9999
        ({"day": ["2021-01-31", "2021-01-31"], "time": ["", "19:20:12"]}, {}),
        ({"day": [None, "2021-01-31"], "time": ["19:20:12", "19:20:12"]}, {}),
        ({"day": ["2021-01-31T10:00", "2021-01-31"], "time": ["19:20:12", "19:20:12"]}, {}),
        ({"day": ["2021-01-31"] * 2, "time": [90_000.0, 69612.0]}, {}),  # beyond midnight
    ],
)
def test_a_time_of_another_form_is_named_by_its_row_or_skipped(columns: dict[str, Any], steps: dict[str, Any]) -> None:
    if "day" in columns:
        steps = {**steps, "time": "day", "time_of_day": "time"}
    spec = StepsSpec(every=60, length=4, **steps)
    columns = {**columns, "value": [1.0, 2.0]}
    with pytest.raises(DataError, match="row 0, column"):
        read_columns(columns, ONE, spec, from_text=False)
    found = read_columns(columns, ONE, spec, from_text=False, skip_untimed=True)
    assert (list(found.untimed), found.values.tolist()) == ([0], [[2.0]])


def test_wide_and_long_form_csv_and_parquet_give_the_same_steps(tmp_path: Path) -> None:
    frame = readings(50)
    frame.to_csv(tmp_path / "wide.csv", index=False)
    to_long(frame).to_csv(tmp_path / "long.csv.gz", index=False)
    frame.assign(time=pd.to_datetime(frame["time"])).to_parquet(tmp_path / "wide.parquet")
    channels, steps = tuple(ChannelSpec(**channel) for channel in CHANNELS), StepsSpec(**STEPS)
    made = []
    for name in ("wide.csv", "long.csv.gz", "wide.parquet"):
        columns, from_text = read_columns_file(tmp_path / name, name)
        made.append(to_steps(read_columns(columns, channels, steps, from_text), steps))
    for other in made[1:]:
        np.testing.assert_array_equal(made[0].times, other.times)
        np.testing.assert_array_equal(made[0].values, other.values)
        np.testing.assert_array_equal(made[0].machines, other.machines)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"time": ["yesterday"]}, r"row 0, column time: expected a time stamp such as .*, got 'yesterday'"),
        ({"time": [None]}, r"row 0, column time: expected a time stamp"),
        ({"temprature": [1.0], "temperature": None}, r"expected readings with the column temperature.*'temprature'|temprature"),
        ({"machine": [""]}, r"row 0, column machine: expected the name of a machine"),
        ({"time": [np.inf]}, r"row 0, column time: expected a time stamp"),
    ],
)
def test_readings_that_cannot_be_placed_are_refused_by_row_and_column(change: dict[str, Any], message: str) -> None:
    columns: dict[str, Any] = {"time": [0.0], "machine": ["m"], "temperature": [1.0], "pressure": [2.0], **change}
    columns = {name: cells for name, cells in columns.items() if cells is not None}
    channels, steps = tuple(ChannelSpec(**channel) for channel in CHANNELS), StepsSpec(**STEPS)
    with pytest.raises(DataError, match=message):
        read_columns(columns, channels, steps, from_text=False)


def test_a_time_stamp_far_away_is_refused_before_a_grid_of_it_is_made() -> None:
    with pytest.raises(DataError, match=r"make 3[0-9,]+ steps of 60 s, expected at most 100,000,000"):
        steps_of(np.array([0, 2e11]), [1, 2])


# ---------------------------------------------------------------- the dataset


def test_a_dataset_holds_steps_with_their_channels_and_no_window_length(room: Room) -> None:
    write(room, readings())
    room.accept_unjudged()
    [shard] = sorted((room.data / "shards").iterdir())
    schema = {field.name: str(field.type) for field in pq.read_schema(shard)}
    assert schema == {"(machine)": "large_string", "(time)": "timestamp[us]", "temperature": "double", "pressure": "double"}
    index = read_index(room.data)
    assert len(index) == 1200
    assert index["id"].iloc[0] == "press-1@2026-03-01T00:00:00Z"
    room.edit(input={"steps": {**STEPS, "length": 32}})
    room.ingest()
    assert content_sha256(room.incoming) == content_sha256(room.data)
    assert {block.dtype.names for _, block in read_shards(room.data, index)} == {
        ("(machine)", "(time)", "temperature", "pressure", "(mistyped)")
    }


@pytest.mark.slow
def test_bad_steps_are_set_aside_by_machine_time_and_channel(room: Room) -> None:
    frame = readings().astype({"pressure": object})
    frame.loc[100, "temperature"] = np.inf
    frame.loc[200, "temperature"] = 900
    frame.loc[450, "pressure"] = "ERR"
    frame.loc[500:509, "temperature"] = np.nan
    write(room, frame)
    room.accept()
    found = reasons(room)
    assert "temperature: finite: expected finite numbers, got temperature: inf" in found["press-1@2026-03-01T01:40:00Z"]
    assert "temperature: range: expected -40 to 200, got temperature: 900" in found["press-1@2026-03-01T03:20:00Z"]
    assert "type: expected numbers, got pressure: 'ERR'" in found["press-2@2026-03-01T00:50:00Z"]
    missing = [name for name, reason in found.items() if "temperature: present" in reason]
    assert len(missing) == 10, "a gap of ten steps is not filled"
    folder = room.project.home / room.validation()["quarantine"]
    intervals = json.loads((folder / "intervals.json").read_text())
    assert {"machine": "press-2", "start": "2026-03-01T01:40:00Z", "end": "2026-03-01T01:49:00Z", "steps": 10} in [
        {key: entry[key] for key in ("machine", "start", "end", "steps")} for entry in intervals
    ]


@pytest.mark.long
@pytest.mark.parametrize(
    ("damage", "expectation"),
    [
        (lambda frame: frame.assign(pressure=frame["pressure"].where(frame["machine"] != "press-2", 5.0)), "constant"),
        (lambda frame: frame[(frame["machine"] != "press-2") | (np.arange(len(frame)) % 4 == 0)], "coverage"),
    ],
)
def test_a_machine_that_does_not_deliver_is_set_aside_as_a_whole(room: Room, damage: Any, expectation: str) -> None:
    room.edit(validate={"quarantine_budget": 0.5})
    write(room, damage(readings()))
    room.accept()
    assert set(read_index(room.data)["group"]) == {"press-1", "press-3"}
    assert all(expectation in reason and name.startswith("press-2@") for name, reason in reasons(room).items())


@pytest.mark.long
def test_readings_that_come_less_often_than_the_steps_are_refused_as_a_set(room: Room) -> None:
    room.edit(input={"steps": {**STEPS, "every": 10, "fill": 10}})
    write(room, readings(100))
    with pytest.raises(DataError, match=r"most frequent: sampling"):
        room.accept()


# ---------------------------------------------------------------- windows and splits


@pytest.mark.parametrize("by", ["time", "machine"])
@pytest.mark.parametrize("seed", range(3))
def test_no_step_lies_in_two_splits_and_splits_in_time_are_a_window_apart(tmp_path: Path, by: str, seed: int) -> None:
    generator = np.random.default_rng(seed)
    machines = tuple(f"m{number}" for number in range(12 if by == "machine" else 3))
    frame = readings(200, machines)
    frame = frame[generator.random(len(frame)) > 0.02]  # gaps and filled steps in any place
    length, stride = int(generator.integers(4, 20)), int(generator.integers(1, 5))
    room = series_room(tmp_path, data={"split": {"by": by, "validation": 0.2, "calibration": 0.25, "test": 0.25}})
    room.edit(input={"steps": {**STEPS, "length": length, "stride": stride, "fill": 1}})
    write(room, frame)
    room.accept_unjudged()
    steps, windows = prepared_steps(room)
    values = steps[["channel:temperature", "channel:pressure"]].to_numpy().astype(np.float32)
    place = {tuple(row): number for number, row in enumerate(values.tolist())}
    held = {}
    for name, cut in windows.items():
        assert cut.shape[1:] == (2, length)
        held[name] = {place[tuple(pair)] for window in cut for pair in window.T.tolist()}
    names = list(held)
    for index, name in enumerate(names):
        for other in names[index + 1 :]:
            assert not held[name] & held[other]
            if by == "time":
                apart = steps["time"].to_numpy()[list(held[other])].min() - steps["time"].to_numpy()[list(held[name])].max()
                assert apart > length * 60
            else:
                assert not set(steps["machine"].iloc[list(held[name])]) & set(steps["machine"].iloc[list(held[other])])
    for window in windows["train"][:20]:
        first = place[tuple(window[:, 0].tolist())]
        assert (np.diff(steps["time"].to_numpy()[first : first + length]) == 60).all(), "a window has no gap"
        assert steps["machine"].iloc[first : first + length].nunique() == 1


def test_a_window_longer_than_the_series_is_an_error_before_training(room: Room) -> None:
    room.edit(input={"steps": {**STEPS, "length": 200}})
    write(room, readings())
    room.accept_unjudged()
    with pytest.raises(
        DataError, match=r"0 normal windows of 200 steps in validation, expected 2 or more: its longest unbroken run"
    ):
        prepare(room.recipe, room.data, room.root / "prepared")


def test_ranges_are_learnt_of_training_windows_alone(room: Room) -> None:
    frame = readings()
    late = frame["time"] >= frame["time"].iloc[350]
    frame.loc[late, "temperature"] += 50
    write(room, frame)
    room.accept_unjudged()
    prepared_steps(room)
    low, high = json.loads((room.root / "prepared" / "prepared.json").read_text())["ranges"]["temperature"]
    assert 45 < low < 55
    assert 65 < high < 75


def test_known_anomalies_are_tested_on_and_never_trained_on(room: Room) -> None:
    frame = readings()
    broken = (frame["machine"] == "press-1") & frame.index.isin([*range(50, 60), *range(360, 370)])
    frame["state"] = np.where(broken, "broken", "good")
    room.edit(data={"labels": ["good", "broken"], "novelty": ["broken"]})
    room.edit(data={"source": {"kind": "series", "path": "readings.csv", "labels": "state"}})
    write(room, frame)
    room.accept_unjudged()
    steps, windows = prepared_steps(room)
    table = pd.read_parquet(room.root / "prepared" / "test.parquet")
    holds = [steps["novelty"].iloc[start : start + 16].any() for start in table["start"]]
    assert table["novelty"].tolist() == holds
    assert table["novelty"].any()
    novel_values = set(steps.loc[steps["novelty"], "channel:temperature"].astype(np.float32))
    assert not novel_values & set(windows["train"][:, 0].reshape(-1).tolist())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"split": {"validation": 0.1, "calibration": 0.2, "test": 0.2}}}, r"data.split.by: expected time or machine"),
        ({"input": {"channels": []}}, r"channels is empty"),
        ({"input": {"steps": {**STEPS, "stride": 17}}}, r"stride is 17 and length is 16"),
        ({"input": {"steps": {**STEPS, "timezone": "Mars"}}}, r"timezone: expected a zone such as UTC"),
        ({"input": {"shape": [2, 8]}}, r"shape is \[2, 8\], expected \[2, 16\]"),
        ({"input": {"low": 3, "high": 9}}, r"a channel has its own range"),
        ({"input": {"channels": [{"name": "time"}]}}, r"channels names time, which steps reads"),
        ({"data": {"source": {"kind": "npy", "path": "images.npy"}}}, r"expected a source of kind series with channels, got npy"),
        ({"validate": {"sample_mean": {"min": 0, "max": 1}}}, r"expected no such bound with input.kind series with channels"),
        ({"data": {"source": {"kind": "series", "path": "a.txt"}}}, r"path: expected a .csv, .csv.gz or .parquet file"),
    ],
)
def test_mistakes_in_a_recipe_are_found_before_anything_runs(room: Room, changes: dict[str, Any], message: str) -> None:
    room.edit(**changes)
    with pytest.raises(UsageError, match=message):
        assert room.recipe


def test_machine_temperature_is_repaired_where_its_clock_goes_back_an_hour() -> None:
    path = shared_data("timeseries/nab/realKnownCause/machine_temperature_system_failure.csv.gz")
    columns, from_text = read_columns_file(path, path.name)
    steps = StepsSpec(every=300, length=64, time="timestamp")
    made = to_steps(read_columns(columns, ONE, steps, from_text), steps)
    assert (made.facts.readings, made.facts.late, made.facts.repeated) == (22695, 11, 12)
    assert (np.diff(made.times) == 300).all()
    assert len(made.times) == 22683
