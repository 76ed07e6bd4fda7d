"""`ae new` on readings over time: a series where their times are regular, and a recipe that reads the very readings."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data_project import accept_unjudged, shared_data
from intake_project import NewProject

from ae_models.spec import KnnScoreSpec, LocalHullScoreSpec, single_scores
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
    assert "1 gaps are longer than 1.5 steps" in printed
    assert "time: 1 steps back, 1 repeated: readings are put in order" in printed
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
    assert "series: 22,695 readings of 1 channels" in printed
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
    assert project.new("told", tmp_path / "mixed.csv", "--yes", "--group", "Maschine")[0] == 0
    steps = project.recipe("told").fit.input.steps
    assert steps is not None
    assert steps.machine == "Maschine"


def test_a_time_that_is_none_among_others_leaves_a_table(project: NewProject, tmp_path: Path) -> None:
    rows = readings(600).astype({"time": str})
    rows.loc[9, "time"] = "yesterday"
    path = write(rows, tmp_path / "orders.csv")
    code, printed, errors = project.new("orders", path, "--yes")
    assert (code, errors) == (0, "")
    assert "table: 600 rows" in printed
    assert "Row 9, column time: expected a time stamp such as" in printed
    assert "got 'yesterday'" in printed
    code, _, errors = project.new("series", path, "--yes", "--readings", "yes")
    assert code == 3
    assert "got 'yesterday'" in errors


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
