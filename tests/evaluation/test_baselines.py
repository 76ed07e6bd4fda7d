from dataclasses import replace

import numpy as np
import pytest

from ae_models.spec import NormalisedResidualScoreSpec, SplitConformalThresholdSpec
from aeops.evaluation.studies.rivals import run_rivals_study
from aeops.project import Project
from aeops.recipe.studies import RivalsStudy


@pytest.fixture(scope="module")
def found(scene, tmp_path_factory):
    root = tmp_path_factory.mktemp("project")
    room = replace(scene(), project=Project(root, root / ".ae"))
    fit = room.recipe.fit
    two = replace(fit, model=replace(fit.model, bottleneck=replace(fit.model.bottleneck, size=2)))
    figures = tmp_path_factory.mktemp("figures")
    return room, run_rivals_study(RivalsStudy({"same": fit, "two": two}), room, figures), figures


@pytest.mark.slow
def test_a_rival_that_changes_nothing_is_the_same_model(found):
    _, finding, _ = found
    own = {key: value for key, value in finding.metrics["model"].items() if key not in ("gain", "lead")}
    assert finding.metrics["same"] == own


def test_the_error_is_that_of_the_test_normals(found):
    room, finding, _ = found
    normal = ~room.data.novelty
    error = np.square((room.data.test[normal] - room.predictions["reconstruction"][normal]) / 255).mean()
    assert finding.metrics["model"]["error"] == pytest.approx(error, rel=1e-4)


def test_gain_and_lead_are_over_the_best_rival(found):
    _, finding, _ = found
    model, two = finding.metrics["model"], finding.metrics["two"]
    assert two["error"] > model["error"]
    assert model["gain"] == 0
    assert model["lead"] == pytest.approx(model["auroc"] - max(model["auroc"], two["auroc"]))


def test_the_table_names_each_with_its_size_and_the_lead_says_who_wins(found):
    _, finding, figures = found
    assert [row[:2] for row in finding.rows] == [["the recipe's model", "8"], ["same", "8"], ["two", "2"]]
    assert finding.lead.startswith("Lowest error: the recipe's model")
    assert [file for file, _ in finding.figures] == [file.name for file in figures.iterdir()]


def test_another_score_and_threshold_train_no_rival_again_and_a_rival_that_is_gone_leaves_nothing(found, tmp_path):
    room, finding, _ = found
    trainings = room.project.training(room.recipe.name) / "rivals"
    progress = {
        file: file.read_bytes() for file in trainings.rglob("progress.jsonl")
    }  # with times: another training, other bytes
    assert len(progress) == 2
    fit = replace(room.recipe.fit, score=NormalisedResidualScoreSpec(energy=0.0), threshold=SplitConformalThresholdSpec(0.2))
    result = run_rivals_study(RivalsStudy({"same": fit}), room, tmp_path)
    assert result.metrics["same"]["error"] == finding.metrics["same"]["error"]
    assert result.metrics["same"]["auroc"] != finding.metrics["same"]["auroc"]
    [remaining] = trainings.rglob("progress.jsonl")
    assert remaining.read_bytes() == progress[remaining]
