import json

import pytest

from aeops.drawing.words import format_share
from aeops.report.summary import comparison_lines, comparison_markdown, false_alarm_line, metric_rows, next_commands


@pytest.fixture(scope="module")
def metrics(evaluated) -> dict:
    return json.loads((evaluated.report / "metrics.json").read_text(encoding="utf-8"))


def test_a_baseline_has_one_column_for_reconstruction_and_ranking(metrics):
    rows = {row["metric"]: row for row in metric_rows(metrics)}
    baselines = ["PCA-16", "kNN-5", "hull-10", "hull-20", "IsolationForest"]
    assert list(rows["AUROC"]) == list(rows["caught at 5.00 %"]) == ["metric", "model", *baselines, "note"]
    assert rows["caught at 5.00 %"]["kNN-5"] == format_share(metrics["detection"]["knn"]["caught"]["at_requested_rate"])
    assert rows["caught at 5.00 %"]["note"].startswith(f"AUROC {metrics['detection']['lead']:+.3f} beside the best baseline (")
    assert rows["MSE"]["PCA-16"] == f"{metrics['reconstruction']['pca']['mse']:.5f}"
    assert rows["MSE"]["note"].endswith("below PCA-16")
    assert rows["AUROC"]["note"].startswith("95 % interval")


def test_a_study_adds_what_it_says_of_the_model(metrics):
    rows = metric_rows(metrics | {"sparsity": {"active_share": 0.05, "pca": {"mse": 1.0}}})
    assert {"metric": "sparsity: active share", "model": "0.05"} in rows
    assert [row["metric"] for row in rows[-4:]] == [
        *("power: mean caught", "power: mean separation", "power: lead", "power: lead lower bound")
    ]


def test_what_was_not_measured_has_no_row(metrics):
    bare = {key: value for key, value in metrics.items() if key not in ("detection", "power")} | {"novelty_flagged": None}
    bare["reconstruction"] = {"model": {"token_accuracy": 0.5, "token_similarity": 0.6, "exact": 0.1}}
    assert [row["metric"] for row in metric_rows(bare)] == ["tokens right in place", "1 - edit distance", "texts without a fault"]
    assert "novelty" not in false_alarm_line(bare)


COMPARISON = {
    "recipe": "digits",
    "verdict": "cannot tell",
    "accepted": False,
    "champion": {"version": "3", "bundle_sha256": "a" * 64},
    "holdout": {"sha256": "b" * 64, "rows": 1200, "judged": 30, "chance_of_luck": 0.53, "worn": True},
    "rules": [{"name": "keeps_error", "says": "0.02 beside the champion's 0.01", "verdict": "cannot tell", "passed": False}],
    "reasons": ["0.02 beside the champion's 0.01"],
    "warnings": ["this holdout is worn"],
}


def test_a_comparison_is_told_with_its_champion_its_reasons_and_what_warns():
    relation = "the samples do not show whether it is worse than champion 3"
    assert comparison_lines(COMPARISON) == [relation, *COMPARISON["reasons"], "this holdout is worn"]
    assert comparison_lines(COMPARISON, COMPARISON["reasons"]) == [relation, "this holdout is worn"], "printed with the verdict"
    page = comparison_markdown(COMPARISON)
    assert f"## digits: {relation}\n" in page
    assert "| keeps_error | 0.02 beside the champion's 0.01 | cannot tell | **no** |" in page
    assert "On 1,200 test samples (bbbbbbbbbbbb), on which 30 candidates have been compared so far." in page
    assert "this holdout is worn" in page


def test_the_first_version_has_no_table_of_rules():
    first = COMPARISON | {"verdict": "first", "champion": None, "rules": [], "reasons": ["no champion yet"], "warnings": []}
    assert comparison_lines(first) == ["no champion yet"]
    page = comparison_markdown(first)
    assert "|" not in page
    assert "no champion yet" in page


def test_what_waits_for_a_person_says_what_to_type():
    assert "ae approve digits 4 --by NAME --why TEXT" in next_commands("digits", "4", "waits for approval")
    assert "ae reject digits 4" in next_commands("digits", "4", "waits for approval")
    assert "approve" not in next_commands("digits", "4", "champion")


@pytest.mark.parametrize("state", ["refused", "not champion: that is 3"])
def test_a_version_that_is_not_champion_is_not_proposed_to_be_served(state: str):
    assert "ae serve digits" in next_commands("digits", "4", "champion")
    assert "ae serve" not in next_commands("digits", "4", state)
    assert next_commands("digits", "4", state) == "ae why digits@4 | ae show digits | ae score digits FILE --version 4"
