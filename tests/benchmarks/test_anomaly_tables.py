"""The protocols of benchmarks/anomaly_tables.py at their smallest size: splits, cells, and what their summary says."""

import json
from pathlib import Path

import anomaly_detection
import anomaly_tables
import numpy as np
import pytest
from anomaly_cells import Cell

SMALL = "42_WBC"


@pytest.fixture
def table() -> tuple[np.ndarray, np.ndarray]:
    """200 numbered rows, of which 40 are anomalies."""
    return np.arange(200.0)[:, None], (np.arange(200) % 5 == 0).astype(int)


def test_half_of_the_normals_is_trained_on_and_no_row_stands_on_both_sides(table: tuple[np.ndarray, np.ndarray]) -> None:
    split = anomaly_tables.split_table(*table, contamination=0.0, seed=0)
    assert split is not None
    assert (len(split.train), len(split.test), int(split.is_novel.sum())) == (80, 120, 40)
    assert not set(split.train[:, 0]) & set(split.test[:, 0])
    assert (split.test[split.is_novel, 0] % 5 == 0).all()


def test_anomalies_are_mixed_in_up_to_the_level_and_never_tested(table: tuple[np.ndarray, np.ndarray]) -> None:
    split = anomaly_tables.split_table(*table, contamination=0.1, seed=0)
    assert split is not None
    mixed_in = split.train[split.train[:, 0] % 5 == 0, 0]
    assert len(mixed_in) / len(split.train) == pytest.approx(0.1, abs=0.01)
    assert not set(mixed_in) & set(split.test[:, 0])
    assert anomaly_tables.split_table(*table, contamination=0.3, seed=0) is None  # more than half of the anomalies


@pytest.mark.slow
def test_cells_are_measured_once_and_the_table_ranks_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if anomaly_tables.find_file("adbench") is None:
        pytest.skip("the sources have no folder adbench")
    detectors = ["MemoryDetector", "PyOD kNN", "PyOD ECOD"]
    sizes = ["--protocols", "adbench-clean", "adbench-dirty", "--tasks", SMALL, "--seeds", "2", "--detectors", *detectors]
    paths = ["--cells", str(tmp_path / "cells"), "--out", str(tmp_path / "record.json")]
    anomaly_detection.main([*sizes, *paths])
    measured = capsys.readouterr().out.count("AUROC")
    assert measured == 2 * 3 * 2  # clean and 1 %: half of 10 anomalies reach no other level
    protocols = json.loads((tmp_path / "record.json").read_text(encoding="utf-8"))["tables"]["protocols"]
    assert list(protocols) == ["adbench-clean", "adbench-dirty 1%"]
    clean = protocols["adbench-clean"]
    assert sum(figures["mean_rank"] for figures in clean.values()) == pytest.approx(1 + 2 + 3)
    assert all(figures["seeds"] == 2 and 0.5 < figures["auroc"]["mean"] <= 1 for figures in clean.values())
    lost = protocols["adbench-dirty 1%"]["PyOD kNN"]["lost"]["auroc"]
    expected = clean["PyOD kNN"]["auroc"]["mean"] - protocols["adbench-dirty 1%"]["PyOD kNN"]["auroc"]["mean"]
    assert lost == pytest.approx(expected)
    assert anomaly_tables.tables_section(protocols).count("| MemoryDetector |") == 2
    anomaly_detection.main([*sizes, *paths])
    assert "AUROC" not in capsys.readouterr().out  # nothing is measured again


def cell(detector: str, task: str, auroc: float) -> Cell:
    return Cell("adbench-clean", task, detector, 0, auroc, auroc / 2, None, None, 1.0, 0.1)


def test_a_detector_that_lacks_sets_has_no_rank_and_is_compared_on_those_it_has() -> None:
    cells = [cell("PyOD kNN", "a", 0.9), cell("PyOD kNN", "b", 0.5), cell("slow", "a", 0.8), cell("best", "a", 1.0)]
    cells.append(cell("best", "b", 0.6))
    figures = anomaly_tables.summarize_tables(cells)["adbench-clean"]
    assert figures["slow"]["partial"]
    assert figures["slow"]["missing"] == ["b"]
    assert "mean_rank" not in figures["slow"]
    assert figures["slow"]["against_reference"]["auroc"] == pytest.approx(-0.1)
    assert (figures["best"]["mean_rank"], figures["PyOD kNN"]["mean_rank"]) == (1.0, 2.0)
    assert "| 1 of 2 sets, kNN there | 80.0, +10.0 |" in anomaly_tables.tables_section({"adbench-clean": figures})
