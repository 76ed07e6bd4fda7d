"""benchmarks/all_novelties.py: its record and table, and (make test-long) two digits at their smallest size."""

import json
from pathlib import Path

import all_novelties
import pytest
from checkout import make_checkout

from aeops.errors import UsageError

METRICS = {
    3: {
        "detection.model.auroc": [0.9, 0.8],
        "detection.knn.auroc": [0.7, 0.7],
        "detection.lead": [0.2, 0.1],
        "novelty_flagged": [0.2, 0.4],
        "false_alarms.measured": [0.01, 0.02],
    },
    5: {
        "detection.model.auroc": [0.96, 0.98],
        "detection.knn.auroc": [0.9, 0.9],
        "novelty_flagged": [0.5, 0.5],
        "false_alarms.measured": [0.01, 0.01],
    },
}


def test_the_mean_over_digits_is_taken_with_each_seed_and_its_deviation_is_that_over_seeds() -> None:
    record = all_novelties.build_record(METRICS, [0, 1])
    assert record["mean"]["detection.model.auroc"]["values"] == [0.93, 0.89]
    assert record["mean"]["detection.model.auroc"]["sd"] == pytest.approx(0.04 / 2**0.5, rel=1e-4)
    assert record["digits"]["3"]["detection.model.auroc"]["mean"] == pytest.approx(0.85)
    assert "detection.lead" not in record["mean"]  # one digit lacks it
    table = all_novelties.summarize(record)
    assert "| mean of 2 | 0.910 ± 0.028 | 0.800 | 40.0 % ± 7.1 % | 1.2 % ± 0.4 % |" in table
    assert "| novelty | AUROC model | AUROC knn | caught | false alarms |" in table


def test_the_readme_says_what_the_record_says() -> None:
    record = json.loads(all_novelties.RECORD.read_text()) if all_novelties.RECORD.is_file() else None
    text = all_novelties.DOCS.read_text(encoding="utf-8")
    assert all_novelties.update_page(text, record) == text, "python benchmarks/all_novelties.py --docs-only"


@pytest.mark.long
def test_a_digit_is_measured_once_with_each_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkout = make_checkout(tmp_path / "checkout")
    out = tmp_path / "novelties.json"
    typed = ["--recipe", "small", "--digits", "4", "--seeds", "2", "--out", str(out)]
    with checkout.entered(), pytest.raises(UsageError, match="type `ae run small` first"):
        all_novelties.main(typed)
    assert checkout.ae("run", "small").returncode == 0
    with checkout.entered():
        all_novelties.main(typed)
        first = json.loads(out.read_text())
        assert "seed 1: train ..." in capsys.readouterr().err
        all_novelties.main(typed)
        assert "train" not in capsys.readouterr().err
        with pytest.raises(UsageError, match="expected some of 0, 1, 2"):
            all_novelties.main([*typed[:3], "11"])
        all_novelties.main([*typed[:3], "1", *typed[4:]])
    assert list(json.loads(out.read_text())["digits"]) == ["1", "4"]
    assert first["digits"]["4"]["detection.model.auroc"]["sd"] > 0
    assert first["digits"]["4"]["detection.knn.auroc"]["sd"] == 0
