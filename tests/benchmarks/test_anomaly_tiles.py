"""benchmarks/anomaly_tiles.py at its smallest size, its task, and the section of docs/defects.md that quotes its record."""

import dataclasses
import json
from pathlib import Path

import anomaly_tiles
import numpy as np
import pytest
import yaml
from benchmark_tools import ROOT
from data_project import shared_data

from aeops.project import find_project
from aeops.recipe.reader import read_recipe


@pytest.fixture
def quick_recipe(tmp_path: Path) -> Path:
    """The recipe tiles with a training of seconds."""
    shared_data("magnetic_tile")
    shared_data("cifar10")
    recipe = yaml.safe_load((ROOT / "recipes" / "tiles.yaml").read_text(encoding="utf-8"))
    recipe["model"]["encode"]["widths"], recipe["model"]["decode"]["widths"] = [4, 4], [4, 4]
    recipe["train"] |= {"epochs": 1, "members": 1}
    recipe["score"] = recipe["score"]["scores"][0]  # a choice by power would take seconds
    file = tmp_path / "tiles.yaml"
    file.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return file


@pytest.mark.slow
def test_no_defect_is_trained_on_and_a_group_is_in_one_part(quick_recipe: Path) -> None:
    task = anomaly_tiles.read_task(read_recipe(quick_recipe), find_project(ROOT))
    assert int(task.is_novel.sum()) == 392
    assert len(task.train) + len(task.validation) + len(task.calibration) + int((~task.is_novel).sum()) == 500
    assert not task.masks[~task.is_novel].any()
    assert int((~task.is_known).sum()) == 5


@pytest.mark.long
def test_each_cell_is_measured_once_and_the_table_quotes_them(
    quick_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = anomaly_tiles.read_task(read_recipe(quick_recipe), find_project(ROOT))
    test = np.r_[np.flatnonzero(whole.is_novel)[::20], np.flatnonzero(~whole.is_novel)[:20]]
    small = anomaly_tiles.TileTask(
        whole.train[:60], whole.validation[:30], whole.calibration[:40], whole.test[test], whole.is_novel[test], whole.masks[test]
    )
    monkeypatch.setattr(anomaly_tiles, "read_task", lambda recipe, project: dataclasses.replace(small))
    sizes = ["--seeds", "1", "--recipe", str(quick_recipe), "--backbone-steps", "3", "--cells", str(tmp_path / "cells")]
    anomaly_tiles.main([*sizes, "--out", str(tmp_path / "record.json")])
    assert capsys.readouterr().out.count("auroc") > 0
    assert len(list((tmp_path / "cells").iterdir())) == 3
    record = json.loads((tmp_path / "record.json").read_text(encoding="utf-8"))
    by_name = {cell["detector"]: cell for cell in record["cells"]}
    assert by_name["isolation_forest"]["aupro"] is None
    for name in (anomaly_tiles.MODEL, anomaly_tiles.FROZEN, "pca_residual", "local_hull_20"):
        assert 0 < by_name[name]["aupro"] < 1, name
        assert 0 < by_name[name]["auroc"] < 1, name
    table = anomaly_tiles.results_table(record)
    assert f"| isolation_forest | {by_name['isolation_forest']['auroc']:.3f} | - | - |" in table
    anomaly_tiles.main([*sizes, "--out", str(tmp_path / "record.json")])
    assert "auroc" not in capsys.readouterr().out  # nothing is measured again


def test_docs_quote_the_record() -> None:
    text = anomaly_tiles.DOCS.read_text(encoding="utf-8")
    record = json.loads(anomaly_tiles.RECORD.read_text(encoding="utf-8")) if anomaly_tiles.RECORD.is_file() else None
    assert anomaly_tiles.update_page(text, record) == text
