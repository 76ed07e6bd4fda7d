"""`ae new` on readings over time: a series where their times are regular, and a recipe that reads the very readings."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data_project import accept_unjudged, shared_data
from intake_project import NewProject

from ae_models.spec import KnnScoreSpec, LocalHullScoreSpec, single_scores
from aeops.errors import DataError
from aeops.evaluation.before_training import require_enough_samples
from aeops.recipe.sources import SeriesSource
from aeops.stages.ingest import ingest
from aeops.stages.prepare import prepare


def readings(count: int = 3000, machines: int = 1, seconds: int = 60) -> pd.DataFrame:
    """A wave and its square of some machines, with an anomaly in the last tenth of each."""
    draw, frames = np.random.default_rng(0), []
    for machine in range(machines):
        phase = np.arange(count) / 20
        state = np.full(count, "normal")
        state[-count // 20 : -count // 30] = "fault"
        frames.append(
            pd.DataFrame(
                {
                    "time": pd.Timestamp("2026-01-01") + pd.to_timedelta(np.arange(count) * seconds, unit="s"),
                    "machine": f"press-{machine}",
                    "current": np.sin(phase) + draw.normal(0, 0.05, count),
                    "power": np.sin(phase) ** 2 * 100,
                    "state": state,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def write(frame: pd.DataFrame, path: Path) -> Path:
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
def test_regular_readings_of_machines_are_a_series_by_channel(project: NewProject, tmp_path: Path, suffix: str) -> None:
    path = write(readings(machines=2), tmp_path / f"presses{suffix}")
    code, printed, errors = project.new("presses", path)
    assert (code, errors) == (0, ""), errors
    for told in (
        "series: 6,000 readings of 2 machines (machine) of 2 channels",
        "every 60 s, 2026-01-01 00:00 to 2026-01-03 01:59 UTC",
        "column state: normal (5,900), fault (100)",
    ):
        assert told in printed
    recipe = project.recipe("presses")
    assert isinstance(recipe.data.source, SeriesSource)
    assert [channel.name for channel in recipe.fit.input.channels] == ["current", "power"]
    steps = recipe.fit.input.steps
    assert steps is not None
    assert (steps.every, steps.length, steps.stride, steps.machine) == (60, 32, 2, "machine")
    assert (recipe.label_names, recipe.data.novelty) == (("normal", "fault"), (1,))
    assert recipe.data.split.by == "time"
    knn, hull, residual = single_scores(recipe.fit.score).values()  # those of docs/series.md
    assert isinstance(knn, KnnScoreSpec)
    assert isinstance(hull, LocalHullScoreSpec)
    assert (knn.level, hull.level, residual.kind) == (0.75, 0.75, "normalised-residual")
    samples = project.samples("presses")
    assert len(samples.array) == 6000
    assert samples.labels is not None
    assert int(samples.labels.sum()) == 100


@pytest.mark.parametrize(("count", "length", "is_compared"), [(6000, 32, True), (2500, 16, True), (600, 8, False)])
def test_a_proposed_gate_asks_for_no_more_test_windows_than_there_are(
    project: NewProject, tmp_path: Path, count: int, length: int, is_compared: bool
) -> None:
    """Or else the proposed recipe is refused by its first run."""
    path = write(readings(count)[["time", "current"]], tmp_path / "waves.csv")
    assert project.new("waves", path, "--readings", "yes")[0] == 0
    recipe, incoming, dataset = project.recipe("waves"), project.root / "incoming", project.root / "dataset"
    assert recipe.fit.input.steps is not None
    assert recipe.fit.input.steps.length == length
    ingest(recipe, project.project, incoming)
    accept_unjudged(incoming, dataset)
    prepare(recipe, dataset, project.root / "prepared")
    require_enough_samples(recipe, project.project, project.root / "prepared")
    assert ("not_worse_than_champion" not in project.keys("waves")["gate"]) == is_compared


def test_the_long_form_is_a_series_of_the_channels_it_names(project: NewProject, tmp_path: Path) -> None:
    long = readings().melt(["time"], ["current", "power"], var_name="channel").sort_values("time", kind="stable")
    code, printed, errors = project.new("long", write(long, tmp_path / "long.csv"))
    assert code == 0, errors
    assert [channel.name for channel in project.recipe("long").fit.input.channels] == ["current", "power"]
    assert len(project.samples("long").array) == 3000
    assert "0 repeated" not in printed


@pytest.mark.slow
def test_gaps_repeats_and_steps_back_are_said_and_read(project: NewProject, tmp_path: Path) -> None:
    frame = readings().drop(columns="machine").drop(index=range(1000, 1100))
    frame = pd.concat([frame.iloc[:500], frame.iloc[[499]], frame.iloc[500:]])
    order = np.arange(len(frame))
    order[[700, 701]] = order[[701, 700]]
    code, printed, errors = project.new("gaps", write(frame.iloc[order], tmp_path / "gaps.csv"))
    assert code == 0, errors
    assert "1 gap is longer than 1.5 steps" in printed
    assert "time: 1 step back, 1 repeated: readings are put in order" in printed
    assert len(project.samples("gaps").array) == 3000 - 100


def test_events_without_a_usual_step_stay_a_table_and_say_why(project: NewProject, tmp_path: Path) -> None:
    frame = readings(600).drop(columns="machine")
    frame["time"] = pd.Timestamp("2026-01-01") + pd.to_timedelta(
        np.cumsum(np.random.default_rng(1).exponential(300, 600)), unit="s"
    )
    path = write(frame, tmp_path / "events.csv")
    code, printed, _ = project.new("events", path)
    assert code == 0
    assert "proposed as a table" in printed
    assert "of the steps in time take the usual" in printed
    assert project.recipe("events").fit.input.kind == "table"
    code, _, errors = project.new("forced", path, "--readings", "yes")
    assert code == 3
    assert "of the steps in time take the usual" in errors


def test_a_person_may_say_that_rows_in_order_are_a_table(project: NewProject, tmp_path: Path) -> None:
    path = write(readings(), tmp_path / "rows.csv")
    assert project.new("rows", path, "--readings", "no")[0] == 0
    assert project.recipe("rows").fit.input.kind == "table"


def test_rows_without_a_time_are_no_series(project: NewProject, tmp_path: Path) -> None:
    path = write(readings().drop(columns="time"), tmp_path / "rows.csv")
    code, _, errors = project.new("rows", path, "--readings", "yes")
    assert code == 3
    assert "expected a column of dates in whose order the rows are" in errors


def test_a_file_that_the_source_does_not_read_is_a_table_that_says_how_to_save_it(project: NewProject, tmp_path: Path) -> None:
    path = tmp_path / "german.tsv"
    readings().to_csv(path, index=False, sep="\t", decimal=",")
    code, printed, errors = project.new("german", path)
    assert code == 0, errors
    assert "A series is read out of one local .csv, .csv.gz or .parquet file: save it so" in printed


def test_too_few_steps_are_a_table_and_no_series(project: NewProject, tmp_path: Path) -> None:
    path = write(readings(150), tmp_path / "short.csv")
    code, printed, errors = project.new("short", path)
    assert code == 0, errors
    assert "A series needs at least 320 steps, got 150" in printed
    code, _, errors = project.new("short", path, "--readings", "yes", "--force")
    assert code == 3
    assert "a series needs at least 320 steps, got 150" in errors


@pytest.mark.slow
def test_a_real_series_is_taken_in(project: NewProject) -> None:
    path = shared_data("timeseries/nab/realKnownCause/machine_temperature_system_failure.csv.gz")
    code, printed, errors = project.new("temperature", path)
    assert code == 0, errors
    assert "series: 22,695 readings of 1 channel," in printed
    assert "every 300 s, 2013-12-02 21:15 to 2014-02-19 15:25 UTC" in printed
    assert project.samples("temperature").array["value"].max() == pytest.approx(108.51, abs=0.01)


def test_readings_of_an_export_with_commas_and_dates_of_its_own_are_a_series(project: NewProject, tmp_path: Path) -> None:
    rows = readings(2000)
    rows["time"] = rows["time"].dt.strftime("%d.%m.%Y %H:%M")
    text = "Messdaten Öfen\n\n" + rows.drop(columns=["machine", "state"]).to_csv(sep=";", decimal=",", index=False)
    (tmp_path / "export.csv").write_bytes(text.encode("cp1252"))
    code, printed, errors = project.new("export", tmp_path / "export.csv", "--yes")
    assert (code, errors) == (0, ""), errors
    assert "series: 2,000 readings of 2 channels" in printed
    source = project.recipe("export").data.source
    assert (source.text.encoding, source.text.decimal, source.time_format) == ("cp1252", ",", "%d.%m.%Y %H:%M")
    samples = project.samples("export")
    assert len(samples.array) == 2000
    assert samples.ids is not None
    assert samples.ids[1] == "2026-01-01T00:01:00Z"
    np.testing.assert_allclose(samples.array[:]["power"], rows["power"])


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_a_row_of_another_length_is_set_aside_by_name_and_the_others_are_read(
    project: NewProject, tmp_path: Path, delimiter: str
) -> None:
    path = tmp_path / "export.csv"
    text = readings(2000).drop(columns=["machine", "state"]).to_csv(sep=delimiter, index=False)
    path.write_text(text)
    assert project.new("export", path, "--yes")[0] == 0
    lines = text.splitlines()
    lines[7] += f"{delimiter}7"
    lines[2000] = lines[2000].rpartition(delimiter)[0]  # which is half written
    path.write_text("\n".join(lines))
    samples = project.samples("export")
    assert {name: reason[:19] for name, reason in samples.set_aside.items()} == {
        "row 7": "4 cells, expected 3",
        "row 2000": "2 cells, expected 3",
    }
    assert len(samples.array) == 1999  # the gap of row 7 is filled


def test_a_channel_that_never_changes_is_left_out_and_one_that_rests_at_a_machine_is_accepted(
    project: NewProject, tmp_path: Path
) -> None:
    rows = readings(1500, machines=2).rename(columns={"power": "mode"}).drop(columns="state")
    rows["mode"] = rows["mode"].round(0)
    rows.loc[rows["machine"] == "press-1", "mode"] = 1.0
    rows["speed"] = 5.0
    long = rows.melt(id_vars=["time", "machine"], var_name="channel")
    code, printed, _ = project.new("modes", write(long.sort_values("time"), tmp_path / "modes.csv"), "--yes")
    assert code == 0
    assert "speed is left out: it is constant" in printed
    assert "mode never changes at press-1: accepted" in printed
    assert "--group machine" not in printed  # it is the machine of the series already
    recipe = project.recipe("modes")
    assert [channel.name for channel in recipe.fit.input.channels] == ["current", "mode"]
    assert recipe.validate.blank == "accept"


def test_the_slowest_channel_gives_the_step_and_what_lacks_a_channel_the_budget(project: NewProject, tmp_path: Path) -> None:
    rows = readings(5000).drop(columns=["machine", "state"])
    long = rows.melt(id_vars="time", var_name="channel")
    is_slow = long["channel"] == "power"
    long = long[~is_slow | (long["time"].dt.minute % 5 == 0)].reset_index(drop=True)
    gap = (long["channel"] == "power") & (long["time"].dt.day == 2) & (long["time"].dt.hour < 3)
    path = write(long[~gap].sort_values("time", kind="stable"), tmp_path / "rates.csv")
    code, printed, _ = project.new("rates", path, "--yes")
    assert code == 0
    assert "power is read every 300 s, others more often" in printed
    assert "3.7% of the steps lack a reading of a channel, and will be set aside" in printed
    recipe = project.recipe("rates")
    assert recipe.fit.input.steps is not None
    assert recipe.fit.input.steps.every == 300
    assert recipe.validate.quarantine_budget == 0.074
    assert np.isnan(project.samples("rates").array[:]["power"]).mean() == pytest.approx(0.037, abs=1e-3)


def test_rows_that_share_their_times_are_no_series_of_their_means(project: NewProject, tmp_path: Path) -> None:
    rows = readings(1000, machines=3).rename(columns={"machine": "Maschine"}).sort_values("time")
    code, printed, _ = project.new("mixed", write(rows, tmp_path / "mixed.csv"), "--yes")
    assert code == 0
    assert "67% of the rows have the time of another. If they are of several machines, say --group COLUMN" in printed
    assert project.new("machines", tmp_path / "mixed.csv", "--yes", "--group", "Maschine")[0] == 0
    steps = project.recipe("machines").fit.input.steps
    assert steps is not None
    assert steps.machine == "Maschine"


def test_a_few_times_that_are_none_are_set_aside_by_row_and_the_others_are_a_series(project: NewProject, tmp_path: Path) -> None:
    rows = readings(600).astype({"time": str})
    rows.loc[9, "time"], rows.loc[20, "time"] = "yesterday", ""
    path = write(rows, tmp_path / "orders.csv")
    code, printed, errors = project.new("orders", path, "--yes", "--readings", "yes")
    assert (code, errors) == (0, "")
    assert "2 rows without a time will be set aside: column time: expected a time stamp such as" in printed
    samples = project.samples("orders")
    assert list(samples.set_aside) == ["row 10", "row 21"]
    assert "got 'yesterday'" in samples.set_aside["row 10"]
    assert len(samples.array) == 600  # both gaps are filled


def test_a_file_without_any_time_is_refused(project: NewProject, tmp_path: Path) -> None:
    path = write(readings(600), tmp_path / "orders.csv")
    assert project.new("orders", path, "--yes", "--readings", "yes")[0] == 0
    write(readings(600).assign(time="soon"), path)
    with pytest.raises(DataError, match=r"row 0, column time: .*got 'soon' \(and in 599 other rows\)"):
        project.samples("orders")


@pytest.mark.parametrize(("unit", "per_second"), [("s", 1), ("ms", 1e3), ("us", 1e6), ("ns", 1e9)])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_numbers_since_1970_are_times_of_their_unit(
    project: NewProject, tmp_path: Path, unit: str, per_second: float, suffix: str
) -> None:
    rows = readings(600).drop(columns=["machine", "state"])
    seconds = (rows.pop("time") - pd.Timestamp(0)).dt.total_seconds()
    rows.insert(0, "ts", (seconds * per_second).astype("int64"))
    path = write(rows, tmp_path / f"epochs{suffix}")
    code, printed, errors = project.new("epochs", path, "--yes")
    assert (code, errors) == (0, ""), errors
    assert f"column ts, {unit} since 1970: every 60 s, 2026-01-01 00:00 to 2026-01-01 09:59 UTC" in printed
    recipe = project.recipe("epochs")
    assert recipe.fit.input.steps is not None
    assert (recipe.fit.input.steps.time, recipe.fit.input.steps.time_unit) == ("ts", unit)
    assert [channel.name for channel in recipe.fit.input.channels] == ["current", "power"]
    samples = project.samples("epochs")
    assert samples.ids is not None
    assert (samples.ids[0], samples.ids[-1]) == ("2026-01-01T00:00:00Z", "2026-01-01T09:59:00Z")
    wrong = (1_767_225_600, 1_767_225_600 * 1e6, -1.0, -8_520_336_000 * per_second, 10_413_792_000 * per_second, np.nan)
    if unit == "s":
        wrong = wrong[1:]
    rows["ts"] = rows["ts"].astype(float)
    rows.loc[range(10, 10 + len(wrong)), "ts"] = wrong
    write(rows, path)
    samples = project.samples("epochs")  # another unit, below 1971, the years 1700 and 2300, none
    expected = {f"row {11 + place}" for place in range(len(wrong))}
    if unit == "us":
        expected.discard("row 12")  # the second value is of this very unit
    assert set(samples.set_aside) == expected
    assert f"expected {unit} since 1970, of the years 1971 to 2261" in samples.set_aside["row 11"]


def test_seconds_with_decimals_are_times_and_those_of_a_counter_are_none(project: NewProject, tmp_path: Path) -> None:
    rows = readings(600).drop(columns=["machine", "state"])
    seconds = (rows.pop("time") - pd.Timestamp(0)).dt.total_seconds()
    rows["eventTime"] = seconds + 0.25
    assert project.new("decimals", write(rows, tmp_path / "decimals.csv"), "--yes")[0] == 0
    samples = project.samples("decimals")
    assert samples.ids is not None
    assert samples.ids[0] == "2026-01-01T00:00:00.250000Z"
    rows["eventTime"] = seconds - 1_767_225_600  # since the start, which says nothing of a date
    assert project.new("counter", write(rows, tmp_path / "counter.csv"), "--yes")[0] == 0
    assert project.recipe("counter").fit.input.kind == "table"


@pytest.mark.parametrize(
    ("suffix", "day_format", "clock_format", "time_format"),
    [
        (".csv", "%Y-%m-%d", "%H:%M:%S", None),
        (".csv", "%d.%m.%Y", "%H:%M", "%d.%m.%Y %H:%M"),
        (".csv", "%m/%d/%Y", "%I:%M:%S %p", "%m/%d/%Y %I:%M:%S %p"),
        (".parquet", "", "", None),
    ],
)
def test_a_date_and_a_time_of_day_in_two_columns_are_one_time(
    project: NewProject, tmp_path: Path, suffix: str, day_format: str, clock_format: str, time_format: str | None
) -> None:
    rows = readings(1500, seconds=120).drop(columns=["machine", "state"])
    times = rows.pop("time") + pd.Timedelta(days=20)  # so that no month is meant
    rows["day"] = times.dt.strftime(day_format) if day_format else times.dt.date
    rows["clock"] = times.dt.strftime(clock_format) if clock_format else times.dt.time
    path = write(rows, tmp_path / f"split{suffix}")
    code, printed, errors = project.new("split", path, "--yes")
    assert (code, errors) == (0, ""), errors
    assert "columns day and clock: every 120 s, 2026-01-21 00:00 to 2026-01-23 01:58 UTC" in printed
    recipe = project.recipe("split")
    assert recipe.fit.input.steps is not None
    assert recipe.fit.input.steps.time_columns == ("day", "clock")
    assert recipe.data.source.time_format == time_format
    samples = project.samples("split")
    assert samples.ids is not None
    assert samples.ids[-1] == "2026-01-23T01:58:00Z"
    rows = rows.astype({"day": object, "clock": object})
    rows.loc[10, "clock"], rows.loc[20, "day"] = None, None
    write(rows, path)
    assert set(project.samples("split").set_aside) == {"row 11", "row 21"}
    write(rows.assign(clock=None), path)
    with pytest.raises(DataError, match="columns day and clock: expected a date such as"):
        project.samples("split")
    write(rows.drop(columns="clock"), path)
    with pytest.raises(DataError, match="with the column clock"):
        project.samples("split")


def test_fields_of_a_struct_are_channels(project: NewProject, tmp_path: Path) -> None:
    rows = readings(1000).drop(columns=["machine", "state"])
    struct = [{"power": power} for power in rows.pop("power")]
    path = write(rows.assign(drive=struct), tmp_path / "drive.parquet")
    assert project.new("drive", path, "--yes")[0] == 0
    assert [channel.name for channel in project.recipe("drive").fit.input.channels] == ["current", "drive.power"]
    assert len(project.samples("drive").array) == 1000


def test_gaps_in_the_part_that_calibrates_leave_windows_enough_for_the_rate_that_is_proposed(
    project: NewProject, tmp_path: Path
) -> None:
    rows = readings(1920, seconds=3600).drop(columns=["machine", "state"])
    for first in (1200, 1290, 1400, 1500):
        rows = rows.drop(index=range(first, first + 12))
    assert project.new("gaps", write(rows, tmp_path / "gaps.csv"), "--yes")[0] == 0
    recipe, incoming, dataset = project.recipe("gaps"), project.root / "incoming", project.root / "dataset"
    ingest(recipe, project.project, incoming)
    accept_unjudged(incoming, dataset)
    prepare(recipe, dataset, project.root / "prepared")
    require_enough_samples(recipe, project.project, project.root / "prepared")
