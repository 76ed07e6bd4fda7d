"""The first sentence of report, card and terminal."""

import json
from pathlib import Path

import pytest

from aeops.report.headline import headline
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


def test_it_says_what_is_flagged_what_is_caught_and_what_the_best_baseline_catches():
    assert headline(METRICS | {"detection": DETECTION}) == (
        "Of 930 normal test samples 12 are flagged (1.29 %; requested 1.00 %), and of 500 samples of the known novelty 130 are "
        "caught (26.0 %). At this rate the best baseline, the hull-20 residual, catches 19.2 % of the novelty."
    )


def test_injected_faults_are_told_where_they_were_measured():
    assert headline(METRICS | {"power": {"mean_caught": 0.413}}) == (
        "Of 930 normal test samples 12 are flagged (1.29 %; requested 1.00 %), of 500 samples of the known novelty 130 are "
        "caught (26.0 %), and of injected faults 41.3 % are caught."
    )


def test_without_novelty_and_faults_it_says_that_nobody_knows_what_is_caught():
    bare = METRICS | {"novelty_flagged": None, "false_alarms": ALARMS | {"requested": None}}
    assert headline(bare) == (
        "Of 930 normal test samples 12 are flagged (1.29 %); nothing was measured of what it catches: no novelty is known."
    )


@pytest.mark.parametrize("file", ["benchmarks/records/models/digits.json", "benchmarks/records/models/mnist-adversarial.json"])
def test_metrics_of_an_older_version_have_a_sentence_and_no_table_of_rates(file):
    metrics = json.loads((ROOT / file).read_text(encoding="utf-8"))["metrics"]
    assert headline(metrics).startswith("Of ")
    if "caught" not in metrics["detection"]["model"]:
        assert rate_table(metrics) is None
        assert describe_lead(metrics) == ""


def test_the_table_marks_the_best_of_each_rate_and_says_which_rate_needs_more_calibration_samples():
    table = rate_table(METRICS | {"detection": DETECTION})
    assert table.head == ["caught at false alarms of", "0.1 %", "1 %", "5 %", "10 %"]
    assert [cell.text for cell in table.rows["autoencoder"]][:2] == ["–", "26.0 % (1.2 %)"]
    best = [name for name, cells in table.rows.items() if cells[1].is_best]
    assert best == ["autoencoder"]
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
