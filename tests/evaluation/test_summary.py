import json

import pytest

from aeops.summary import false_alarm_line, metric_rows


@pytest.fixture(scope="module")
def metrics(evaluated) -> dict:
    return json.loads((evaluated.report / "metrics.json").read_text(encoding="utf-8"))


def test_a_baseline_has_one_column_for_reconstruction_and_ranking(metrics):
    rows = {row["metric"]: row for row in metric_rows(metrics)}
    assert list(rows["AUROC"]) == ["metric", "model", "PCA-16", "kNN-5", "note"]
    assert rows["MSE"]["PCA-16"] == f"{metrics['reconstruction']['pca']['mse']:.5f}"
    assert rows["MSE"]["note"].endswith("below PCA-16")
    assert rows["AUROC"]["note"].startswith("95 % interval")


def test_a_study_adds_what_it_says_of_the_model(metrics):
    rows = metric_rows(metrics | {"sparsity": {"active_share": 0.05, "pca": {"mse": 1.0}}})
    assert rows[-1] == {"metric": "sparsity: active share", "model": "0.05"}


def test_what_was_not_measured_has_no_row(metrics):
    bare = {key: value for key, value in metrics.items() if key != "detection"} | {"novelty_flagged": None}
    bare["reconstruction"] = {"model": {"token_accuracy": 0.5, "token_similarity": 0.6, "exact": 0.1}}
    assert [row["metric"] for row in metric_rows(bare)] == ["tokens right in place", "1 - edit distance", "texts without a fault"]
    assert "novelty" not in false_alarm_line(bare)
