"""benchmarks/anomaly_detection.py at its smallest size, its tasks, and the part of docs/detection.md that quotes its record."""

import json
from collections.abc import Callable
from pathlib import Path

import anomaly_detection
import numpy as np
import pytest
import yaml
from anomaly_cells import spread
from digits_recipe import DIGITS_RECIPE

from aeops.recipe.reader import read_recipe


@pytest.fixture
def quick_recipe(tmp_path: Path) -> Path:
    """The recipe digits with a training of seconds, and a score that depends on it."""
    recipe = yaml.safe_load(DIGITS_RECIPE.read_text(encoding="utf-8"))
    recipe["model"]["encode"]["widths"], recipe["model"]["decode"]["widths"] = [4, 8], [8, 4]
    recipe["train"] |= {"epochs": 1, "members": 2, "threads": 1}
    recipe["score"] = {"kind": "normalised-residual", "energy": 0.5}
    file = tmp_path / "digits.yaml"
    file.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return file


def small_task(task: anomaly_detection.Task) -> anomaly_detection.Task:
    test = np.r_[np.flatnonzero(task.is_novel)[:40], np.flatnonzero(~task.is_novel)[:40]]
    return anomaly_detection.Task(
        task.protocol,
        task.name,
        task.train[:150],
        task.validation[:60],
        task.calibration[:120],
        task.test[test],
        task.is_novel[test],
    )


@pytest.mark.long
def test_each_cell_is_measured_once_and_the_table_quotes_them(
    quick_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = anomaly_detection.digits_task("digits", read_recipe(quick_recipe), 5)
    monkeypatch.setattr(anomaly_detection, "list_tasks", lambda protocol, recipe: [small_task(whole)])
    sizes = ["--protocols", "digits", "--seeds", "2", "--recipe", str(quick_recipe), "--cells", str(tmp_path / "cells")]
    anomaly_detection.main([*sizes, "--out", str(tmp_path / "record.json")])
    printed = capsys.readouterr().out
    assert printed.count("AUROC") == 2
    assert len(list((tmp_path / "cells").iterdir())) == 3
    record = json.loads((tmp_path / "record.json").read_text(encoding="utf-8"))
    model, hull = (record["protocols"]["digits"][name] for name in ("plain", "local_hull_20"))
    assert model["seeds"] == 2
    assert 0 <= model["auroc"]["mean"] <= 1
    assert model["auroc"]["sd"] > 0
    assert hull["auroc"]["sd"] is None
    assert sum(model["parts"].values()) == 2
    assert "local_hull_20" in anomaly_detection.table_section(record)
    anomaly_detection.main([*sizes, "--out", str(tmp_path / "record.json")])
    assert "AUROC" not in capsys.readouterr().out  # nothing is measured again


@pytest.mark.slow
def test_the_digits_are_split_as_the_recipe_says_and_no_novelty_is_trained_on() -> None:
    recipe = read_recipe(DIGITS_RECIPE)
    task = anomaly_detection.digits_task("digits", recipe, recipe.data.novelty[0])
    assert len(task.train) == 2494
    assert (len(task.validation), len(task.calibration)) == (194, 882)
    assert (int(task.is_novel.sum()), int((~task.is_novel).sum())) == (500, 930)


def test_deskewed_digits_stand_upright() -> None:
    rows = np.arange(28)
    slanted = np.zeros((1, 1, 28, 28), np.uint8)
    slanted[0, 0, rows[4:24], (rows[4:24] // 2 + 4)] = 200
    [[upright]] = anomaly_detection.deskew(slanted)
    columns = np.average(np.arange(28)[None].repeat(28, 0), axis=1, weights=upright + 1e-9)[4:24]
    assert np.ptp(columns) < 2
    assert np.ptp(rows[4:24] // 2) == 9


def test_a_target_is_met_where_the_whole_interval_lies_above_it() -> None:
    assert "met" in anomaly_detection.verdict(0.97, spread([0.98, 0.981, 0.979]))
    missed = anomaly_detection.verdict(0.97, spread([0.95, 0.951, 0.949]))
    assert missed == " (target 0.97 missed)"
    wide = anomaly_detection.verdict(0.97, spread([0.96, 0.985, 0.97]))
    assert wide == " (target 0.97 within the interval: not met)"
    assert "one seed" in anomaly_detection.verdict(0.97, spread([0.99]))
    assert anomaly_detection.verdict(None, spread([0.99])) == ""
    detectors = {
        name: {"auroc": {"mean": mean}} for name, mean in (("knn", 0.9), ("local_hull_10", 0.93), ("local_hull_20", 0.92))
    }
    assert anomaly_detection.find_target("digits-all", "auroc", detectors) == 0.93
    assert anomaly_detection.find_target("digits", "caught", detectors) == 0.4


@pytest.mark.parametrize(
    ("file", "update"),
    [
        (anomaly_detection.PAGE, anomaly_detection.update_page),
        (anomaly_detection.README, anomaly_detection.update_readme),
    ],
    ids=["page", "readme"],
)
def test_page_and_readme_quote_the_record(file: Path, update: Callable[[str, object], str]) -> None:
    text = file.read_text(encoding="utf-8")
    record = None
    if anomaly_detection.RECORD.is_file():
        record = json.loads(anomaly_detection.RECORD.read_text(encoding="utf-8"))
    assert update(text, record) == text
