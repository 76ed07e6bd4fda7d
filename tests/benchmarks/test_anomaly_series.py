"""benchmarks/anomaly_series.py at its smallest size, its measures, and the section of docs/series.md that quotes its record."""

import json
from pathlib import Path

import anomaly_series
import numpy as np
import pytest
import yaml
from benchmark_tools import ROOT
from data_project import shared_data
from series_metrics import best_nab_score, find_detections, nab_score, range_auc_pr, vus_pr
from sklearn.metrics import average_precision_score

NAME = "realAdExchange/exchange-2_cpc_results"


@pytest.fixture
def quick_recipe(tmp_path: Path) -> Path:
    """The recipe nab with a training of a second."""
    shared_data("timeseries/nab")
    recipe = yaml.safe_load((ROOT / "recipes" / "nab.yaml").read_text(encoding="utf-8"))
    recipe["train"]["epochs"] = 1
    recipe["score"] = recipe["score"]["scores"][0]
    file = tmp_path / "nab.yaml"
    file.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return file


def labels_of(count: int, *windows: tuple[int, int]) -> np.ndarray:
    labels = np.zeros(count, int)
    for first, end in windows:
        labels[first:end] = 1
    return labels


def test_without_a_buffer_the_area_is_near_the_average_precision_where_each_window_is_met_at_once() -> None:
    labels = labels_of(400, (100, 130))
    scores = np.random.default_rng(0).normal(size=400) + 4 * labels
    assert range_auc_pr(scores, labels, 0) == pytest.approx(average_precision_score(labels, scores), abs=0.03)


def test_an_alarm_just_before_a_window_counts_by_its_buffer_alone() -> None:
    labels = labels_of(400, (100, 130))
    early = np.zeros(400)
    early[90:100] = 1.0
    late = np.roll(early, 200)
    assert vus_pr(early, labels, 40) > vus_pr(late, labels, 40)
    assert vus_pr(labels.astype(float), labels, 0) == 1.0


def test_nabs_score_is_100_for_the_first_step_of_each_window_and_0_without_detections() -> None:
    labels = labels_of(600, (200, 260), (400, 440))
    perfect = np.zeros(600)
    perfect[[200, 400]] = 1.0
    assert best_nab_score([{"scores": perfect, "labels": labels, "first": 90}]) == pytest.approx(100, abs=1e-6)
    assert best_nab_score([{"scores": np.zeros(600), "labels": labels, "first": 90}]) == pytest.approx(0, abs=1e-9)
    wrong = np.zeros(600)
    wrong[100] = 1.0
    assert nab_score(wrong, labels, 0.5, 90) == pytest.approx(-2 - 0.11)
    assert nab_score(wrong, labels, 0.5, 150) == -2, "nothing counts in the probationary period"
    late = np.zeros(600)
    late[259] = 1.0
    assert 0 < nab_score(late, labels_of(600, (200, 260)), 0.5, 90) < 0.1


def test_alarmed_steps_less_than_a_window_apart_are_one_detection() -> None:
    scores = np.zeros(600)
    scores[[20, 100, 105, 114, 130]] = 1.0
    assert find_detections(scores, 0.5, 90, 10).tolist() == [100, 130]  # 114 is less than 10 steps behind 105
    assert find_detections(scores, 0.5, 90, 1).tolist() == [100, 105, 114, 130]
    nothing = labels_of(600)
    assert nab_score(scores, nothing, 0.5, 90, apart=10) == pytest.approx(-0.22)
    assert nab_score(scores, nothing, 0.5, 90) == pytest.approx(-0.44)
    perfect = labels_of(600, (200, 300)).astype(float)
    series = {"scores": perfect, "labels": labels_of(600, (200, 300)), "first": 90, "apart": 50}
    assert best_nab_score([series]) == pytest.approx(100, abs=1e-6)


def test_a_cell_holds_the_ranks_of_the_scored_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    series = anomaly_series.NabSeries("one", np.arange(40.0), labels_of(40, (30, 34)), 8, 4)
    monkeypatch.setitem(anomaly_series.SCORES, "robust z-score", lambda series, spec: np.r_[np.full(20, 100.0), np.full(20, 7.0)])
    cell = anomaly_series.measure_cell(series, "robust z-score", None)  # type: ignore[arg-type]
    assert cell["scores"][:8] == [0.0] * 8
    assert set(cell["scores"][20:]) == {round(10.5 / 32, 6)}, "ties share their mean rank"
    assert cell["scores"][8] == round(26.5 / 32, 6)


def test_series_keep_their_order_and_short_ones_get_short_windows() -> None:
    shared_data("timeseries/nab")
    all_series = anomaly_series.read_series(None)
    assert len(all_series) == 30
    assert sum(bool(series.labels[series.trained :].any()) for series in all_series) == 29
    assert all(series.trained >= 2 * series.length for series in all_series)
    assert {series.length for series in all_series if len(series.values) > 2000} == {64}


@pytest.mark.long
def test_each_cell_is_measured_once_and_the_table_quotes_them(
    quick_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["ours (recipe nab)", "sub-sequence PCA", "robust z-score"]
    sizes = ["--series", NAME, "--recipe", str(quick_recipe), "--cells", str(tmp_path / "cells"), "--detectors", *names]
    anomaly_series.main([*sizes, "--out", str(tmp_path / "record.json")])
    record = json.loads((tmp_path / "record.json").read_text())
    assert list(record["detectors"]) == names
    for figures in record["detectors"].values():
        assert 0 < figures["vus_pr"] < 1
        assert figures["series"] == figures["labelled"] == 1
    monkeypatch.setattr(anomaly_series, "measure_cell", lambda *cell: pytest.fail("it is measured already"))
    anomaly_series.main([*sizes, "--out", str(tmp_path / "again.json")])
    assert json.loads((tmp_path / "again.json").read_text())["detectors"] == record["detectors"]
    table = anomaly_series.results_table(record)
    assert "| robust z-score | 1 |" in table
    assert "Not measured yet: sub-sequence kNN, matrix profile" in table


def test_the_page_quotes_the_record() -> None:
    text = anomaly_series.DOCS.read_text(encoding="utf-8")
    record = json.loads(anomaly_series.RECORD.read_text()) if anomaly_series.RECORD.is_file() else None
    assert anomaly_series.update_page(text, record) == text
