"""The report of a series: alarms over time beside known anomalies, false alarms an hour, blocks, pictures with named channels."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from machine_series import readings, series_room, write

from ae_models.intervals import poisson_interval
from aeops.evaluation.false_alarms import count_blocks
from aeops.evaluation.prepared import load_prepared
from aeops.report.report_page import metric_tiles
from aeops.report.tables import describe_normals
from aeops.stages.calibrate import calibrate_bundle
from aeops.stages.evaluate import evaluate
from aeops.stages.prepare import prepare
from aeops.stages.train import train


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a model of three presses, one of which breaks in the test span."""
    frame = readings(600)
    frame["state"] = "good"
    broken = (frame["machine"] == "press-2") & frame.index.isin(range(1120, 1150))
    frame.loc[broken, "pressure"] += 600
    frame.loc[broken, "state"] = "broken"
    source = {"kind": "series", "path": "readings.csv", "labels": "state"}
    room = series_room(
        tmp_path_factory.mktemp("report"), data={"source": source, "labels": ["good", "broken"], "novelty": ["broken"]}
    )
    room.edit(train={"epochs": 40, "learning_rate": 0.01})
    write(room, frame)
    room.accept_unjudged()
    prepared, training, bundle = (room.root / name for name in ("prepared", "training", "bundle"))
    prepare(room.recipe, room.data, prepared)
    train(room.recipe, room.project, prepared, training)
    calibrate_bundle(room.recipe, room.project, prepared, training, bundle)
    evaluate(room.recipe, room.project, prepared, bundle, training, room.root / "report")
    return room.root / "report"


@pytest.fixture(scope="module")
def metrics(report: Path) -> dict[str, Any]:
    return dict(json.loads((report / "metrics.json").read_text()))


@pytest.mark.long
def test_the_known_anomaly_is_found_and_alarms_an_hour_stand_beside_the_promise(report: Path, metrics: dict[str, Any]) -> None:
    over_time = metrics["series_alarms"]
    assert (over_time["known_anomalies"], over_time["known_anomalies_found"]) == (1, 1)
    assert over_time["promised_per_hour"] == pytest.approx(0.2 / (4 * 4 / 60))  # a fifth of blocks of 16 minutes
    low, high = poisson_interval(over_time["false_alarms"])
    hours = over_time["normal_hours"]
    assert over_time["false_alarms_per_hour_interval"] == pytest.approx([low / hours, high / hours])
    assert 0 < hours < 3 * 600 / 60 * 0.25
    study = json.loads((report / "studies.json").read_text())["series_alarms"]
    [known] = [row for row in study["rows"] if row[-1] == "yes"]
    assert known[0] == "press-2"
    assert known[5].startswith("pressure")


@pytest.mark.long
def test_false_alarms_count_blocks_and_every_text_says_so(metrics: dict[str, Any]) -> None:
    alarms = metrics["false_alarms"]
    assert alarms["block"] == 4
    assert alarms["normals"] < metrics["rows"]["test_normal"] / 4 + 1
    assert describe_normals(alarms, "normals") == "blocks of 4 normal windows"
    assert any("blocks of 4 normal windows" in str(tile["unit"]) for tile in metric_tiles(metrics))


@pytest.mark.long
def test_pictures_name_their_channels_and_have_an_axis_of_time(report: Path) -> None:
    for name in ("series.svg", "series_alarm_1.svg"):
        svg = (report / "figures" / name).read_text()
        for text in ("temperature", "pressure", "score of a step", "threshold", "time, UTC"):
            assert f">{text}<" in svg
        assert len(svg) < 200_000


@pytest.mark.long
def test_errors_are_measured_in_lengths_of_each_channels_range(report: Path, metrics: dict[str, Any]) -> None:
    assert 0 < metrics["reconstruction"]["model"]["mse"] < 0.2
    data = load_prepared(report.parent / "prepared")
    unit = data.scale(np.asarray(data.train))
    assert unit.min(axis=(0, 2)) == pytest.approx([0, 0], abs=1e-5)
    assert unit.max(axis=(0, 2)) == pytest.approx([1, 1], abs=1e-5)


def test_blocks_lie_in_one_run_and_between_anomalies() -> None:
    flags = np.array([False, True, False, False, True, False, False, False, True])
    normal = np.array([True, True, True, False, True, True, True, True, True])
    runs = np.array([0, 0, 0, 0, 0, 0, 0, 1, 1])
    assert count_blocks(flags, normal, runs, 2) == (3, 3)
    assert count_blocks(flags, normal, np.zeros(9), 3) == (2, 2)
