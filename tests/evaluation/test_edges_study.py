"""The study of edges: its arithmetic beside scikit-learn's, a model that is perfect, and real photographs."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, precision_recall_curve, precision_score, recall_score

from aeops.data.sources.edges import append_edges
from aeops.errors import UsageError
from aeops.evaluation import model_input
from aeops.evaluation.prepared import PreparedSamples
from aeops.evaluation.studies import edges
from aeops.evaluation.study import EvaluationContext
from aeops.project import find_project
from aeops.recipe.reader import read_recipe
from aeops.recipe.studies import EdgesStudy

RECIPES = Path(__file__).parents[2] / "recipes"
PHOTOS = RECIPES.parents[1] / "shared" / "data" / "photos"


class Canny:
    """A detector that answers with the true edges: the best that a model can be."""

    def __init__(self, recipe) -> None:
        self.recipe = recipe

    def score(self, samples: np.ndarray, reconstruction: bool) -> dict[str, np.ndarray]:
        found = append_edges(samples, self.recipe.data.source.edges, self.recipe.fit.input)
        return {"reconstruction": found[:, -1:].astype(np.float32)} if reconstruction else {}


def scene_of(folder: Path, train: np.ndarray, test: np.ndarray) -> EvaluationContext:
    """A scene of images (n, 3, h, w) whose model is perfect."""
    recipe = read_recipe(RECIPES / "cifar-edges.yaml")
    source, spec = recipe.fit.input, recipe.data.source.edges
    train, test = (append_edges(images, spec, source) for images in (train, test))
    table = pd.DataFrame({"id": [f"image-{i}" for i in range(len(test))], "label": pd.NA, "novelty": False})
    data = PreparedSamples(folder, train, test, table, {"train": len(train)}, 0.0, 255.0)
    given, detector = model_input.served_inputs(recipe.fit, test, model_input.TEST_SEED), Canny(recipe)
    said = detector.score(given, reconstruction=True)
    target = model_input.scaled_targets(source, data, test)
    return EvaluationContext(recipe, data, detector, given, target, said, find_project(RECIPES), folder, folder)


@pytest.fixture(scope="module")
def squares() -> np.ndarray:
    """Bright squares on dark ground with a little noise, (60, 3, 32, 32)."""
    draw = np.random.default_rng(0)
    images = draw.normal(60, 12, (60, 1, 32, 32))
    for image, (top, left) in zip(images, draw.integers(4, 18, (60, 2)), strict=True):
        image[0, top : top + 10, left : left + 10] += 90
    return images.clip(0, 255).astype(np.uint8).repeat(3, axis=1)


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """How sure one is, with many equal values, and what is true, (5, 12, 12) each."""
    draw = np.random.default_rng(3)
    true = draw.random((5, 12, 12)) < 0.2
    return np.round(0.4 * true + draw.random(true.shape), 1), true


def test_the_threshold_is_that_of_the_largest_f1(drawn):
    sure, true = drawn
    precision, recall, _ = precision_recall_curve(true.ravel(), sure.ravel())
    best = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))
    assert f1_score(true.ravel(), (sure >= edges.best_threshold(sure, true)).ravel()) == pytest.approx(best)


def test_agreement_is_that_of_scikit_learn(drawn):
    sure, true = drawn
    found = sure >= 0.7
    said = edges.edge_agreement(found, true)
    assert said.precision == pytest.approx(precision_score(true.ravel(), found.ravel()))
    assert said.recall == pytest.approx(recall_score(true.ravel(), found.ravel()))
    assert said.f1 == pytest.approx(f1_score(true.ravel(), found.ravel()))


def test_a_pixel_off_is_wrong_and_near_and_two_are_wrong():
    true = np.zeros((2, 9, 9), bool)
    true[0, 2:7, 4] = True
    beside, far, in_the_next_image = np.roll(true, 1, axis=2), np.roll(true, 2, axis=2), np.roll(true, 1, axis=0)
    assert (edges.edge_agreement(beside, true).f1, edges.edge_agreement(beside, true).f1_near) == (0.0, 1.0)
    assert edges.edge_agreement(far, true).f1_near == 0.0
    assert edges.edge_agreement(in_the_next_image, true).f1_near == 0.0


def test_no_edge_found_is_no_agreement():
    true = np.ones((1, 4, 4), bool)
    assert edges.edge_agreement(~true, true) == edges.EdgeAgreement(0.0, 0.0, 0.0, 0.0)


def test_a_perfect_model_has_an_f1_of_one_and_leads_by_what_sobel_lacks(squares, tmp_path):
    found = edges.run_edges_study(EdgesStudy(), scene_of(tmp_path, squares[:40], squares[40:]), tmp_path).metrics
    assert found["model"]["f1"] == 1.0
    assert 0.2 < found["sobel"]["f1"] < 0.95
    assert found["lead"] == pytest.approx(1.0 - found["sobel"]["f1"])


def test_thresholds_know_nothing_of_the_test_samples(squares, tmp_path):
    first, second = (
        edges.run_edges_study(EdgesStudy(), scene_of(tmp_path, squares[:30], test), tmp_path).metrics
        for test in (squares[30:45], squares[45:] // 3)
    )
    assert first["sobel"]["threshold"] == second["sobel"]["threshold"]
    assert first["sobel"]["f1"] != second["sobel"]["f1"]


def test_the_strips_are_small(squares, tmp_path):
    finding = edges.run_edges_study(EdgesStudy(), scene_of(tmp_path, squares[:20], squares[20:]), tmp_path)
    assert finding.figures
    assert all((tmp_path / name).stat().st_size < 60_000 for name, _ in finding.figures)


def test_edges_without_a_channel_for_them_are_refused(tmp_path):
    text = (RECIPES / "cifar-edges.yaml").read_text(encoding="utf-8")
    file = tmp_path / "cifar-edges.yaml"
    file.write_text(text.replace(", target_channels: 1", ""), encoding="utf-8")
    with pytest.raises(UsageError, match=r"edges: .* input.target_channels must be 1"):
        read_recipe(file)


@pytest.mark.skipif(not PHOTOS.is_dir(), reason=f"needs {PHOTOS.name} of the shared data")
def test_sobel_finds_half_of_what_canny_finds_in_photographs(tmp_path):
    from PIL import Image

    patches = {}
    for name in ("chelsea.png", "coffee.png"):
        photo = np.asarray(Image.open(PHOTOS / name).convert("RGB"))
        corners = [(top, left) for top in range(0, 256, 32) for left in range(0, 384, 32)]
        patches[name] = np.stack([photo[top : top + 32, left : left + 32].transpose(2, 0, 1) for top, left in corners])
    found = edges.run_edges_study(
        EdgesStudy(), scene_of(tmp_path, patches["chelsea.png"], patches["coffee.png"]), tmp_path
    ).metrics
    assert 0.35 < found["sobel"]["f1"] < 0.75
    assert found["model"]["f1"] == 1.0
