"""benchmarks/choose_novelty.py at its smallest size."""

import json
from pathlib import Path

import choose_novelty
import pytest


@pytest.mark.long
def test_it_recommends_one_of_the_candidates_and_trains_it_in_full(tmp_path: Path) -> None:
    out = tmp_path / "novelty.json"
    sizes = ["--digits", "5", "--samples", "800", "--epochs", "1", "--full-epochs", "1", "--seeds", "2"]
    choose_novelty.main([*sizes, "--out", str(out)])
    record = json.loads(out.read_text(encoding="utf-8"))
    assert record["recommended"] == 5
    baselines = {"pca_residual", "knn", "local_hull_10", "local_hull_20", "isolation_forest"}
    assert set(record["auroc"]["5"]) == {"model", *baselines}
    first, second = record["full_trainings"]["model"]
    assert first == record["auroc"]["5"]["model"]  # the same epochs and seed
    assert record["full_trainings"]["lowest"] == min(first, second)


def test_the_digit_furthest_ahead_among_the_real_tasks_is_recommended() -> None:
    aurocs = {
        3: {"pca_residual": 0.80, "knn": 0.90, "model": 0.93},
        5: {"pca_residual": 0.79, "knn": 0.87, "model": 0.92},
        1: {"pca_residual": 0.38, "knn": 0.41, "model": 0.99},  # the baselines fail
    }
    assert choose_novelty.recommend_digit(aurocs) == 5
    assert choose_novelty.recommend_digit({1: aurocs[1]}) == 1
