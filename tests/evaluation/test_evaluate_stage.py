import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from aeops.bundle.detector import Detector
from aeops.errors import DataError
from aeops.evaluation import line_charts, sampling
from aeops.evaluation.baselines import FittedBaselines, ResidualTreatment
from aeops.evaluation.detection import measure_ranking
from aeops.project import find_project
from aeops.recipe.reader import read_recipe
from aeops.recipe.sections import EvaluateSpec
from aeops.stages.evaluate import evaluate

ROOT = Path(__file__).parents[2]
PROJECT = find_project(ROOT)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def different_files(one: Path, other: Path) -> list[str]:
    """The files that are not in both folders with the same bytes."""
    ours, theirs = contents(one), contents(other)
    return sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))


@pytest.fixture(scope="module")
def metrics(evaluated) -> dict:
    return json.loads((evaluated.report / "metrics.json").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_the_stage_run_as_a_process_writes_the_same_bytes_and_never_loads_torch(evaluated, tmp_path):
    watch = "import sys, runpy; runpy.run_module('aeops.stages.evaluate', run_name='__main__'); assert 'torch' not in sys.modules"
    places = {"recipe": evaluated.recipe, "prepared": evaluated.prepared, "bundle": evaluated.bundle}
    places |= {"history": evaluated.training, "out": tmp_path / "report"}
    arguments = [word for name, place in places.items() for word in (f"--{name}", str(place))]
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", watch, *arguments], cwd=ROOT, env=environment, check=True, timeout=400)
    assert different_files(tmp_path / "report", evaluated.report) == []


@pytest.mark.slow
def test_an_old_report_is_replaced_whole(evaluated, tmp_path):
    (tmp_path / "report" / "figures").mkdir(parents=True)
    (tmp_path / "report" / "figures" / "old.svg").write_text("old")
    recipe = read_recipe(evaluated.recipe)
    evaluate(recipe, PROJECT, evaluated.prepared, evaluated.bundle, evaluated.training, tmp_path / "report")
    assert different_files(tmp_path / "report", evaluated.report) == []
    assert os.listdir(tmp_path) == ["report"]


def test_metrics_are_those_of_the_detectors_own_answers(evaluated, metrics):
    test, table = np.load(evaluated.prepared / "test.npy"), pd.read_parquet(evaluated.prepared / "test.parquet")
    said = Detector(evaluated.bundle).score(test, reconstruction=True)
    normal = ~table["novelty"].to_numpy()
    error = ((test.astype(float) - said["reconstruction"]) / 255) ** 2
    assert metrics["reconstruction"]["model"]["mse"] == pytest.approx(error[normal].mean(), rel=1e-5)
    assert metrics["false_alarms"]["alarms"] == said["is_anomaly"][normal].sum()
    assert metrics["novelty_flagged"] == pytest.approx(said["is_anomaly"][~normal].mean())


def test_the_bundle_of_24_numbers_beats_pca_of_16(metrics):
    pca, model = metrics["reconstruction"]["pca"], metrics["reconstruction"]["model"]
    assert pca["components"] == 16
    assert metrics["reconstruction"]["gain_over_pca"] == pytest.approx(1 - model["mse"] / pca["mse"])
    assert metrics["reconstruction"]["gain_over_pca"] > 0.1
    assert model["psnr"] > pca["psnr"]
    assert model["ssim"] > pca["ssim"]


BASELINES = ["pca_residual", "knn", "local_hull_10", "local_hull_20", "isolation_forest"]


def test_the_lead_is_over_the_best_baseline(metrics):
    found = metrics["detection"]
    best = max(BASELINES, key=lambda name: found[name]["auroc"])
    assert found["lead"] == pytest.approx(found["model"]["auroc"] - found[best]["auroc"])
    assert found["lead_lower_bound"] == found["lead_interval"][0] <= found["lead"] <= found["lead_interval"][1]


def test_the_model_and_every_baseline_have_shares_caught_at_the_rates_that_calibration_allows(metrics):
    for name in ("model", *BASELINES):
        found = metrics["detection"][name]
        assert found["caught"]["at_0_1_percent"] is found["false_alarms"]["at_0_1_percent"] is None  # 199 of 999 samples
        for measure in ("caught", "false_alarms"):
            assert 0 <= found[measure]["at_1_percent"] <= found[measure]["at_5_percent"] <= found[measure]["at_10_percent"] <= 1
    model = metrics["detection"]["model"]
    assert model["false_alarms"]["at_requested_rate"] == model["false_alarms"]["at_5_percent"]


def test_the_models_share_is_counted_from_its_own_scores(evaluated, metrics):
    calibration = load_file(evaluated.bundle / "scorer.safetensors")["calibration_scores"]
    table = pd.read_parquet(evaluated.report / "scores.parquet")
    threshold = np.sort(calibration)[int(np.ceil(200 * 0.95)) - 1]
    caught = (table["score"][table["novelty"]] > threshold).mean()
    assert metrics["detection"]["model"]["caught"]["at_5_percent"] == pytest.approx(caught)


def test_the_baselines_read_the_training_samples_with_the_treatment_of_the_models_score(evaluated, metrics):
    train, test = (np.load(evaluated.prepared / f"{name}.npy") / np.float32(255) for name in ("train", "test"))
    found = FittedBaselines(train, 5, ResidualTreatment(blur=1.0, energy=0.5), None).score(test)
    novelty = pd.read_parquet(evaluated.prepared / "test.parquet")["novelty"].to_numpy()
    for name, score in found.items():
        assert metrics["detection"][name]["auroc"] == pytest.approx(measure_ranking(score, novelty).auroc)
    assert metrics["detection"]["baseline_rows"] == metrics["reconstruction"]["pca"]["rows"] == len(train)


@pytest.mark.slow
def test_many_training_samples_are_a_subsample_whose_number_is_recorded(evaluated, tmp_path, monkeypatch):
    monkeypatch.setattr(sampling, "MAX_BASELINE_ROWS", 15)
    recipe = read_recipe(evaluated.recipe)
    recipe = replace(recipe, evaluate=EvaluateSpec(pca_components=3, neighbours=5))
    found = evaluate(recipe, PROJECT, evaluated.prepared, evaluated.bundle, evaluated.training, tmp_path / "report")
    assert found["detection"]["baseline_rows"] == found["reconstruction"]["pca"]["rows"] == 15
    assert [found["detection"][name]["neighbours"] for name in ("knn", "local_hull_10", "local_hull_20")] == [5, 10, 15]


def test_rows_count_every_split(metrics):
    assert metrics["rows"] == {"train": 700, "validation": 60, "calibration": 199, "test_normal": 260, "test_novelty": 100}


def test_scores_hold_a_row_a_test_sample_in_order(evaluated):
    scores = pd.read_parquet(evaluated.report / "scores.parquet")
    table = pd.read_parquet(evaluated.prepared / "test.parquet")
    assert list(scores.columns) == ["id", "label", "novelty", "score", "p_value", "is_anomaly", "mse", "error"]
    assert scores["id"].tolist() == table["id"].tolist()
    assert ((scores["p_value"] > 0) & (scores["p_value"] <= 1)).all()


def test_every_figure_is_well_formed_and_loads_nothing(evaluated):
    figures = list((evaluated.report / "figures").iterdir())
    assert {"training.svg", "histogram.svg", "roc.svg", "codes.svg", "gallery_worst.svg"} <= {file.name for file in figures}
    for file in figures:
        links = [value for node in ElementTree.parse(file).iter() for key, value in node.attrib.items() if key.endswith("href")]
        assert all(link.startswith(("#", "data:image/png;base64,")) for link in links)


def test_a_map_of_codes_is_drawn_only_where_groups_lie_apart(tmp_path):
    rng = np.random.default_rng(0)
    code, novelty = rng.normal(size=(400, 3)).astype(np.float32), np.zeros(400, bool)
    labels = pd.Series(np.repeat(["a", "b"], 200))
    line_charts.draw_codes(tmp_path / "mixed.svg", code, labels, novelty)
    line_charts.draw_codes(tmp_path / "unlabelled.svg", code, pd.Series([pd.NA] * 400), novelty)
    line_charts.draw_codes(tmp_path / "constant.svg", np.zeros((400, 3), np.float32), labels, novelty)
    code[200:] += 3
    line_charts.draw_codes(tmp_path / "apart.svg", code, labels, novelty)
    assert [file.name for file in tmp_path.iterdir()] == ["apart.svg"]
    assert line_charts.share_between(code[:, :2], labels.to_numpy()) > 0.5


@pytest.mark.slow
def test_without_novelty_there_is_nothing_to_detect(evaluated, digits, writers, tmp_path):
    writers.prepared(tmp_path / "prepared", *digits, novelty=None)
    recipe = read_recipe(evaluated.recipe)
    found = evaluate(recipe, PROJECT, tmp_path / "prepared", evaluated.bundle, evaluated.training, tmp_path / "report")
    assert "detection" not in found
    assert found["novelty_flagged"] is None
    assert not (tmp_path / "report" / "figures" / "roc.svg").exists()


@pytest.mark.slow
def test_what_the_recipe_does_not_ask_for_is_left_out(evaluated, tmp_path):
    recipe = replace(read_recipe(evaluated.recipe), evaluate=EvaluateSpec())
    found = evaluate(recipe, PROJECT, evaluated.prepared, evaluated.bundle, evaluated.training, tmp_path / "report")
    assert list(found["reconstruction"]) == ["model"]
    assert "detection" not in found
    assert found["novelty_flagged"] > 0
    assert json.loads((tmp_path / "report" / "studies.json").read_text()).keys() == {"alarms"}


@pytest.mark.slow
def test_without_pca_the_lead_is_over_the_others(evaluated, tmp_path):
    recipe = replace(read_recipe(evaluated.recipe), evaluate=EvaluateSpec(neighbours=5))
    found = evaluate(recipe, PROJECT, evaluated.prepared, evaluated.bundle, evaluated.training, tmp_path / "report")["detection"]
    assert set(BASELINES) - set(found) == {"pca_residual"}
    best = max(found[name]["auroc"] for name in BASELINES if name in found)
    assert found["lead"] == pytest.approx(found["model"]["auroc"] - best)


def test_a_test_set_of_novelty_alone_is_refused(evaluated, tmp_path):
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    for file in evaluated.prepared.iterdir():
        (prepared / file.name).write_bytes(file.read_bytes())
    table = pd.read_parquet(prepared / "test.parquet")
    table.assign(novelty=True).to_parquet(prepared / "test.parquet")
    with pytest.raises(DataError, match="no normal sample in test"):
        evaluate(read_recipe(evaluated.recipe), PROJECT, prepared, evaluated.bundle, evaluated.training, tmp_path / "report")
    assert not (tmp_path / "report").exists()
