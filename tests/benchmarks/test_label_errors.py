"""benchmarks/label_errors.py at its smallest size, the rivals' formulas, and the section of docs/audit.md about them."""

import json
from pathlib import Path

import label_errors
import numpy as np
import pytest
from data_project import shared_data


@pytest.mark.long
def test_every_ranking_is_measured_on_the_same_probabilities(tmp_path: Path) -> None:
    shared_data("mnist")
    out = tmp_path / "labels.json"
    label_errors.main(["--seeds", "1", "--samples", "600", "--out", str(out)])
    record = json.loads(out.read_text(encoding="utf-8"))
    [seed] = record["seeds"]
    assert seed["flipped"] == 30
    assert len(seed["precision"]) == 6
    assert all(0.3 < precision <= 1 for precision in seed["precision"].values())
    record["seeds"].append(seed | {"precision": {name: value - 0.02 for name, value in seed["precision"].items()}})
    table = label_errors.results_table(record)
    assert f"| {label_errors.OURS} | {seed['precision'][label_errors.OURS] - 0.01:.1%} ± 1.4% |" in table


def test_as_many_labels_are_flipped_as_asked_for_and_none_to_itself() -> None:
    labels = np.arange(1000) % 10
    given = label_errors.flip_labels(labels, 0.05, 3)
    assert (given != labels).sum() == 50
    assert set(given) <= set(range(10))


def test_the_rivals_formulas_are_those_of_a_worked_example() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.3, 0.7], [0.1, 0.9]])
    targets = np.array([0, 0, 0, 1, 1])
    # Thresholds: 1.9 / 3 and 0.8. Counted: rows 0 and 1 as 0, row 2 as 1, row 4 as 1; row 3 reaches neither.
    joint = label_errors.confident_joint(probabilities, targets)
    np.testing.assert_allclose(joint, [[2, 1], [0, 2]])
    pruned = label_errors.prune(probabilities, targets)
    assert pruned["prune by class"].tolist() == [False, False, True, False, False]
    assert pruned["prune by noise rate"].tolist() == [False, False, True, False, False]
    rankings = label_errors.rank_by_formulas(probabilities, targets)
    assert {name: int(scores.argmin()) for name, scores in rankings.items()} == dict.fromkeys(rankings, 2)
    np.testing.assert_allclose(rankings["normalised margin"], [0.8, 0.6, -0.6, 0.4, 0.8])


def test_docs_quote_the_record() -> None:
    text = label_errors.DOCS.read_text(encoding="utf-8")
    record = json.loads(label_errors.RECORD.read_text(encoding="utf-8")) if label_errors.RECORD.is_file() else None
    assert label_errors.update_page(text, record) == text
