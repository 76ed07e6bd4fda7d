"""Without labels nobody knows which alarms are false, and no text, table, figure or page says that they are."""

import html
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from machine_series import readings, series_room, write

from aeops.comparing.same_samples import FLAGGED, measure_pairs
from aeops.drawing.words import NO_LABELS
from aeops.evaluation.paired_scores import TestPredictions
from aeops.gate.flattening import flatten_numbers
from aeops.recipe.metric_names import has_labels, metric_names
from aeops.report.headline import headline
from aeops.report.model_card import describe_threshold
from aeops.report.report_page import metric_tiles, write_report
from aeops.report.summary import false_alarm_line
from aeops.stages.calibrate import calibrate_bundle
from aeops.stages.evaluate import evaluate, metrics_line
from aeops.stages.prepare import prepare
from aeops.stages.train import train

CALLED_FALSE = re.compile(r"(?i)\d[^.;]{0,40} false alarm|of them false:|the false alarms\b|normals, flagged|by mistake")


@pytest.fixture(scope="module")
def metrics(evaluated: SimpleNamespace) -> dict[str, Any]:
    """Those of digits, as if nobody had named any of them."""
    document: dict[str, Any] = json.loads((evaluated.report / "metrics.json").read_text(encoding="utf-8"))
    document.pop("detection")
    rows = document["rows"] | {"test_novelty": 0}
    return document | {"labelled": False, "novelty_flagged": None, "novelty_flagged_interval": None, "rows": rows}


def test_metrics_without_the_key_are_of_labelled_samples(evaluated: SimpleNamespace) -> None:
    document = json.loads((evaluated.report / "metrics.json").read_text(encoding="utf-8"))
    assert "labelled" not in document
    assert has_labels(document)
    assert "false alarms" in headline(document)
    assert "false alarms" in metrics_line(document)


def test_headline_card_terminal_and_tile_say_that_it_is_not_known(metrics: dict[str, Any], evaluated: SimpleNamespace) -> None:
    recipe = yaml.safe_load(evaluated.recipe.read_text(encoding="utf-8"))
    tile = metric_tiles(metrics)[-1]
    assert tile["title"] == "Alarms"
    assert tile["unit"].endswith("test samples")
    for text in (headline(metrics), false_alarm_line(metrics), describe_threshold(recipe, metrics), str(tile["note"])):
        assert NO_LABELS in text
    assert "of the test samples flagged (5.00 % requested; no labels" in headline(metrics)
    assert "flagged" in metrics_line(metrics)
    assert "false alarms" not in metrics_line(metrics)


def test_blocks_of_a_series_are_not_called_normal(metrics: dict[str, Any]) -> None:
    blocks = metrics | {"false_alarms": metrics["false_alarms"] | {"block": 4}}
    assert "of the test blocks of 4 windows flagged" in headline(blocks)
    assert "blocks of 4 windows" in false_alarm_line(blocks)
    assert "blocks of 4 windows" in str(metric_tiles(blocks)[-1]["unit"])


def test_the_report_calls_no_alarm_false(
    metrics: dict[str, Any], evaluated: SimpleNamespace, verdict: dict, comparison: dict, validation: dict, tmp_path: Path
) -> None:
    report = tmp_path / "report"
    shutil.copytree(evaluated.report, report)
    (report / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    page = write_report(
        tmp_path / "report.html",
        recipe=yaml.safe_load(evaluated.recipe.read_text(encoding="utf-8")),
        report=report,
        bundle=evaluated.bundle,
        training=evaluated.training,
        verdict=verdict,
        comparison=comparison,
        validation=validation,
        lineage={},
        timings=None,
    ).read_text(encoding="utf-8")
    text = html.unescape(re.sub(r"(?s)<(style|script|svg).*?</\1>", "", page))
    assert CALLED_FALSE.findall(text) == []
    assert "There are no labels, so which of them are false is not known." in text
    assert '<a href="#detection">Alarms</a>' in text
    assert "all samples count as normal" in text


def test_two_versions_are_compared_by_what_they_flag_and_neither_is_better() -> None:
    flags = np.arange(100) < 60
    first = TestPredictions(np.full(100, 1.0), flags.astype(float), 1 - flags / 2, flags)
    second = TestPredictions(np.full(100, 1.0), np.zeros(100), np.ones(100), np.zeros(100, bool))
    pair = measure_pairs(first, second, np.zeros(100, bool), np.arange(100), has_labels=False)[0]
    assert (pair.name, pair.better) == (FLAGGED, "")
    assert pair.interval is not None
    assert pair.interval[1] < 0


@pytest.mark.long
def test_a_series_without_labels_counts_alarms_and_calls_none_of_them_false(tmp_path: Path) -> None:
    frame = readings(400)
    frame.loc[(frame["machine"] == "press-2") & frame.index.isin(range(740, 770)), "pressure"] += 600
    room = series_room(tmp_path, train={"epochs": 20, "learning_rate": 0.01})
    write(room, frame)
    room.accept_unjudged()
    prepared, training, bundle, report = (room.root / name for name in ("prepared", "training", "bundle", "report"))
    prepare(room.recipe, room.data, prepared)
    train(room.recipe, room.project, prepared, training)
    calibrate_bundle(room.recipe, room.project, prepared, training, bundle)
    metrics = evaluate(room.recipe, room.project, prepared, bundle, training, report)
    assert metrics["labelled"] is False
    over_time = metrics["series_alarms"]
    assert over_time["alarms"] >= 1
    assert over_time["alarms_per_hour"] == pytest.approx(over_time["alarms"] / over_time["test_hours"])
    assert not [name for name in over_time if "false" in name or "known" in name]
    study = json.loads((report / "studies.json").read_text())["series_alarms"]
    assert study["lead"].startswith(f"{over_time['alarms']} alarm")
    assert "is not known" in study["lead"]
    assert "test samples (" in (report / "figures" / "histogram.svg").read_text()
    assert study["head"][-1] == "channels"
    assert all(len(row) == len(study["head"]) for row in study["rows"])
    assert "known anomaly" not in study["note"]
    names = metric_names(room.recipe.fit, room.recipe.data, room.recipe.evaluate)
    in_series = [name for name in names.numbers if name.startswith("series_alarms.")]
    assert set(in_series) <= flatten_numbers(metrics).keys()
