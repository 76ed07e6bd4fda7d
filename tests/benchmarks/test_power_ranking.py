"""benchmarks/power_ranking.py at its smallest size, and the section of docs/power.md that quotes its record."""

import json
from pathlib import Path
from typing import Any

import labelled_sets
import power_ranking
import pytest

from ae_models.spec import FAULT_NAMES

SIZES = ["--sets", "digits, 5 is new", power_ranking.TRAINED, "--normals", "6", "--seeds", "2", "--epochs", "1"]


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MAX_TRAIN", "MAX_CALIBRATION", "MAX_NOVELTY"):
        monkeypatch.setattr(labelled_sets, name, 120)


@pytest.mark.long
def test_detectors_are_ranked_and_a_stored_set_is_not_measured_again(
    few_rows: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seeds, train = [], power_ranking.train_score_function

    def train_and_note(*arguments: Any) -> Any:
        seeds.append(arguments[-1])
        return train(*arguments)

    monkeypatch.setattr(power_ranking, "train_score_function", train_and_note)
    out = tmp_path / "ranking.json"
    power_ranking.main([*SIZES, "--out", str(out)])
    record = json.loads(out.read_text(encoding="utf-8"))
    cell = record["cells"]["digits, 5 is new"]
    assert (cell["train"], cell["calibration"], cell["novelty"], cell["rate"]) == (120, 120, 120, 0.01)
    constant, noise, knn = (cell["detectors"][name] for name in ("constant", "noise", "kNN-5"))
    assert (constant["auroc"], constant["mean_power"], constant["separation"]) == (0.5, 0, 0.5)
    assert abs(noise["separation"] - 0.5) < 0.2
    assert knn["separation"] > 0.5
    assert set(cell["faults"]) == set(FAULT_NAMES["image"])
    assert -1 <= cell["faults"]["rotation"]["separation"] <= 1
    assert knn["auroc"] > 0.6
    trained = record["cells"][power_ranking.TRAINED]["detectors"]
    assert set(trained) == {"seed 0", "seed 1"}
    assert seeds == [0, 1]
    assert 0.5 < trained["seed 0"]["separation"] < 1
    assert "2 trainings of `recipes/digits.yaml`" in power_ranking.summarize(record)
    capsys.readouterr()
    power_ranking.main([*SIZES, "--out", str(out)])
    assert not capsys.readouterr().out.startswith("digits")
    assert json.loads(out.read_text(encoding="utf-8")) == record


def made_up_cell(powers: list[float]) -> dict:
    aurocs = [0.9, 0.8, 0.7, 0.5]
    names = ["kNN-5", "PCA-8", "PCA-2", "constant"]
    detectors = {}
    for name, auroc, power in zip(names, aurocs, powers, strict=True):
        detectors[name] = {"auroc": auroc, "mean_power": power, "separation": power}
    correlation = power_ranking.rank_correlation(powers[:3], aurocs[:3])
    faults = {name: {"share": correlation, "separation": correlation} for name in FAULT_NAMES["series"]}
    return {"kind": "series", "detectors": detectors, "faults": faults}


def test_the_correlation_is_of_ranks_and_the_loss_that_of_the_chosen_detector() -> None:
    cell = made_up_cell([0.3, 0.6, 0.1, 0.0])
    every, useful = (power_ranking.rank_detectors(cell, lambda row: row["mean_power"], useless) for useless in (True, False))
    assert every.correlation == pytest.approx(0.8)
    assert useful.correlation == pytest.approx(0.5)
    assert every.lost == pytest.approx(0.1)
    nothing = power_ranking.rank_detectors(made_up_cell([0.0] * 4), lambda row: row["mean_power"], useless=True)
    assert nothing.correlation is None


def test_the_section_says_where_power_does_not_predict() -> None:
    record = {"cells": {"nab, one": made_up_cell([0.3, 0.6, 0.1, 0.0]), "nab, two": made_up_cell([0.1, 0.2, 0.3, 0.0])}}
    section = power_ranking.summarize(record)
    assert "2 sets, up to 4 detectors" in section
    assert "| nab (2) |" in section
    assert "-0.25 (-1.00)" in section
    assert "| series | spike | -0.25 (-1.00) | -0.25 (-1.00) | 1 of 2 |" in section


@pytest.mark.slow
@pytest.mark.parametrize("name", ["magnetic tiles", "cifar10, 3 is normal", "nab, nyc_taxi", "bbc, sport is new"])
def test_the_sets_of_the_sources_have_normals_for_three_uses_and_novelty_in_range(name: str) -> None:
    readers = labelled_sets.list_sets()
    if name not in readers:
        pytest.skip(f"the files of {name} are not at hand")
    labelled = readers[name]()
    for samples in (labelled.train, labelled.calibration, labelled.test, labelled.novelty):
        assert samples.shape[1:] == labelled.spec.shape
        assert len(samples) >= 5
        assert labelled.spec.low <= samples.min()
        assert samples.max() <= labelled.spec.high


def test_the_page_quotes_the_record() -> None:
    text = power_ranking.DOCS.read_text(encoding="utf-8")
    record = None
    if power_ranking.RECORD.is_file():
        record = json.loads(power_ranking.RECORD.read_text(encoding="utf-8"))
    assert power_ranking.update_page(text, record) == text
