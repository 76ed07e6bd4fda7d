"""The first sentence of report, card and terminal."""

import json
import re
from pathlib import Path

import pytest

from aeops.gate import comparison as comparison_module
from aeops.recipe.gate_rules import NEEDS_BETTER
from aeops.report.headline import WORSE, headline, verdict_sentence
from aeops.report.summary import result_line
from aeops.report.tables import describe_lead, rate_table

ROOT = Path(__file__).parents[2]
ALARMS = {"normals": 930, "alarms": 12, "measured": 12 / 930, "requested": 0.01}
METRICS = {
    "rows": {"calibration": 882, "test_normal": 930, "test_novelty": 500},
    "reconstruction": {"pca": {"components": 16}},
    "false_alarms": ALARMS,
    "novelty_flagged": 0.26,
}


def detector(auroc: float, caught: float) -> dict:
    shares = {"at_0_1_percent": None, "at_1_percent": caught, "at_5_percent": 0.5, "at_10_percent": 0.6}
    false_alarms = shares | {"at_1_percent": 0.0118, "at_requested_rate": 0.0118}
    return {
        "auroc": auroc,
        "auroc_interval": [auroc - 0.01, auroc + 0.01],
        "average_precision": auroc,
        "caught": shares | {"at_requested_rate": caught},
        "false_alarms": false_alarms,
    }


DETECTION = {
    "baseline_rows": 2494,
    "model": detector(0.95, 0.26),
    "pca_residual": detector(0.86, 0.03),
    "knn": detector(0.928, 0.024) | {"neighbours": 5},
    "local_hull_20": detector(0.9525, 0.192) | {"neighbours": 20},
    "lead": -0.0025,
    "lead_interval": [-0.012, 0.007],
    "lead_lower_bound": -0.012,
}


NONE_BEFORE = {"champion": None, "verdict": "first", "rules": [], "reasons": ["digits has no champion yet"]}


def compared(**changes) -> dict:
    """A comparison with champion 3 that found an error larger by two thirds."""
    rule = {
        "name": "keeps_its_error",
        "metric": "error",
        "slice": "all",
        "champion": 0.0127,
        "challenger": 0.0212,
        "difference": -0.669,
        "verdict": "worse",
        "needs": "not-worse",
        "says": "keeps_its_error: error is 0.0212, the champion's 0.0127: -66.9 % (-70 % to -60 %); worse by more than 5 %",
    }
    return {"champion": {"version": "3"}, "verdict": "not worse", "rules": [rule | changes]}


def test_it_says_what_is_caught_what_passes_and_what_the_best_baseline_catches():
    assert headline(METRICS | {"detection": DETECTION}) == (
        "It catches 26.0 % of the known novelty and lets 74.0 % through, with 1.29 % false alarms (1.00 % requested); the best "
        "baseline, hull-20 residual, catches 19.2 % of the novelty."
    )


def test_injected_faults_stand_beside_the_novelty_or_in_its_place():
    power = {"mean_caught": 0.413, "baselines": {"knn": {"mean_caught": 0.3}, "local_hull_20": {"mean_caught": 0.35}}}
    assert headline(METRICS | {"power": power}) == (
        "It catches 26.0 % of the known novelty and lets 74.0 % through (injected faults: 41.3 % and 58.7 %), with 1.29 % false "
        "alarms (1.00 % requested); the best baseline, hull-20 residual, catches 35.0 % of the faults."
    )
    assert headline(METRICS | {"novelty_flagged": None, "power": power}).startswith(
        "It catches 41.3 % of injected faults and lets 58.7 % through, with "
    )


def test_without_novelty_and_faults_it_says_that_nobody_knows_what_is_caught():
    reconstruction = {"model": {"mse": 0.0062}, "pca": {"components": 16, "mse": 0.02538}}
    bare = METRICS | {"novelty_flagged": None, "false_alarms": ALARMS | {"requested": None}, "reconstruction": reconstruction}
    assert headline(bare) == (
        "It reconstructs with MSE 0.00620 (PCA-16: 0.02538) and 1.29 % false alarms; what it would catch was not measured: no "
        "novelty is known."
    )


def test_the_verdict_stands_first_with_the_champion_or_the_reason():
    assert verdict_sentence(METRICS, NONE_BEFORE, []).startswith(
        "Accepted, with no champion to compare it with. It catches 26.0 %"
    )
    relations = {
        "not worse": "not worse than",
        "the same": "the same as",
        "not compared": "not compared with",
        "cannot tell": "though the samples do not show whether it is worse than",
    }
    for verdict, relation in relations.items():
        sentence = verdict_sentence(METRICS, compared() | {"verdict": verdict}, [])
        assert sentence.startswith(f"Accepted, {relation} champion 3. It catches "), sentence
    reasons = ["detection.model.auroc is 0.71; at least 0.86 is needed", "two", "three"]
    assert verdict_sentence(METRICS, NONE_BEFORE, reasons).startswith(
        "Refused: detection.model.auroc is 0.71, at least 0.86 is needed, and for 2 more reasons. It catches "
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "worse than champion 3 by reconstruction error (0.0212 against 0.0127)"),
        ({"slice": "label 4"}, "worse than champion 3 by reconstruction error on label 4 (0.0212 against 0.0127)"),
        (
            {"verdict": "cannot tell"},
            "the samples do not show whether it is worse than champion 3 by reconstruction error (0.0212",
        ),
        ({"verdict": "not worse", "needs": "better"}, "not shown to be better than champion 3 by reconstruction error (0.0212"),
    ],
)
def test_a_comparison_that_refuses_is_said_without_its_statistics(changes, said):
    comparison = compared(**changes)
    assert verdict_sentence(METRICS, comparison, [comparison["rules"][0]["says"]]).startswith(f"Refused: {said}")


def test_a_comparison_that_could_not_be_made_is_said_as_it_is():
    comparison = compared(difference=None, champion=None, challenger=None, says="keeps_its_error: no sample of label 4")
    assert verdict_sentence(METRICS, comparison, ["keeps_its_error: no sample of label 4"]).startswith(
        "Refused: keeps_its_error: no sample of label 4. It catches"
    )


def test_a_run_in_one_line_says_its_state_once():
    refused = {"recipe": "strict", "version": "1", "state": "refused", "metrics": METRICS, "comparison": NONE_BEFORE}
    assert result_line(refused | {"reasons": ["keeps_its_promise: 9 %"]}).startswith(
        "strict 1: Refused: keeps_its_promise: 9 %. It catches"
    )
    champion = refused | {"state": "champion", "reasons": []}
    assert result_line(champion).startswith("strict 1 is champion. Accepted, with no champion to compare it with.")


@pytest.mark.parametrize("file", sorted((ROOT / "benchmarks" / "records" / "models").glob("*.json")), ids=lambda file: file.stem)
def test_metrics_of_every_record_have_a_sentence(file):
    metrics = json.loads(file.read_text(encoding="utf-8"))["metrics"]
    assert re.match("It (catches|reconstructs with) ", headline(metrics))
    if "caught" not in metrics.get("detection", {}).get("model", {}):
        assert rate_table(metrics) is None
        assert describe_lead(metrics) == ""


def test_a_rule_that_names_better_or_worse_is_known_to_the_comparison():
    assert (comparison_module.WORSE, comparison_module.NEEDS_BETTER) == (WORSE, NEEDS_BETTER)


def test_the_table_marks_the_best_of_each_rate_and_says_which_rate_needs_more_calibration_samples():
    table = rate_table(METRICS | {"detection": DETECTION})
    assert table.head == ["caught at false alarms of", "0.1 %", "1 %", "5 %", "10 %"]
    assert [cell.text for cell in table.rows["model"]][:2] == ["–", "26.0 % (1.2 %)"]
    best = [name for name, cells in table.rows.items() if cells[1].is_best]
    assert best == ["model"]
    assert not any(cells[0].is_best for cells in table.rows.values())
    assert all(cells[2].is_best for cells in table.rows.values()), "all catch as much"
    assert table.note.endswith("A rate of 0.1 % needs 999 of them or more.")


def test_two_hulls_of_all_training_samples_stay_two_rows():
    hulls = {name: detector(0.9, 0.1) | {"neighbours": 8} for name in ("local_hull_10", "local_hull_20")}
    assert {"hull-10 residual", "hull-20 residual"} <= set(rate_table(METRICS | {"detection": DETECTION | hulls}).rows)


def test_a_rate_of_the_recipes_own_has_a_column_in_its_place():
    metrics = METRICS | {"detection": DETECTION, "false_alarms": ALARMS | {"requested": 0.02}}
    assert rate_table(metrics).head == ["caught at false alarms of", "0.1 %", "1 %", "2 %", "5 %", "10 %"]


def test_the_lead_is_told_with_its_interval_or_without_where_samples_are_too_few():
    told = describe_lead(METRICS | {"detection": DETECTION})
    assert "Lead: -0.003 in AUROC over the best baseline (95 % interval -0.012 to +0.007, on the same samples)" in told
    few = describe_lead(METRICS | {"detection": DETECTION | {"lead_interval": None}})
    assert "too few groups of test samples for an interval" in few
