"""The study of colours: its formulas against known values, perfect and grey models, and real photographs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aeops.errors import UsageError
from aeops.evaluation import model_input
from aeops.evaluation.prepared import PreparedSamples
from aeops.evaluation.studies import colour
from aeops.evaluation.study import EvaluationContext
from aeops.project import find_project
from aeops.recipe.reader import read_recipe
from aeops.recipe.studies import ColourStudy

RECIPES = Path(__file__).parents[2] / "recipes"
CIFAR = RECIPES.parents[1] / "shared" / "data" / "cifar10" / "cifar10_5k.npz"


def scene_of(folder: Path, train: np.ndarray, test: np.ndarray, made: np.ndarray | None = None) -> EvaluationContext:
    """A scene whose model makes `made`, raw values; grey, where none are given."""
    recipe = read_recipe(RECIPES / "cifar-colour.yaml")
    table = pd.DataFrame({"id": [f"image-{i}" for i in range(len(test))], "label": pd.NA, "novelty": False})
    data = PreparedSamples(folder, train, test, table, {"train": len(train)}, 0.0, 255.0)
    given = model_input.served_inputs(recipe.fit, test, model_input.TEST_SEED)
    said = {"reconstruction": given.repeat(3, axis=1) if made is None else made.astype(np.float32)}
    target = model_input.scaled_targets(recipe.fit.input, data, test)
    return EvaluationContext(recipe, data, None, given, target, said, find_project(RECIPES), folder, folder)


@pytest.fixture(scope="module")
def colourful() -> np.ndarray:
    """Patches of four colours each, (40, 3, 16, 16)."""
    corners = np.random.default_rng(0).integers(0, 256, (40, 3, 2, 2), dtype=np.uint8)
    return corners.repeat(8, axis=2).repeat(8, axis=3)


def test_chromaticity_is_that_of_the_published_primaries():
    # sRGB primaries in CIE L*a*b* under D65, as tables of the standard give them
    primaries = np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1)
    known = np.array([[80.09, 67.20], [-86.18, 83.18], [79.19, -107.86]])
    np.testing.assert_allclose(colour.lab_chroma(primaries)[:, 0, 0], known, atol=0.05)


def test_a_perfect_model_is_off_by_nothing(colourful, tmp_path):
    found = colour.run_colour_study(ColourStudy(), scene_of(tmp_path, colourful, colourful, colourful), tmp_path).metrics
    assert found["model"]["ab_distance"] == pytest.approx(0, abs=1e-3)
    assert found["model"]["psnr"] == float("inf")
    assert found["model"]["chroma"] == pytest.approx(found["true"]["chroma"])


def test_a_model_that_stays_grey_is_the_grey_baseline_and_gains_nothing(colourful, tmp_path):
    found = colour.run_colour_study(ColourStudy(), scene_of(tmp_path, colourful, colourful), tmp_path).metrics
    assert found["model"] == pytest.approx(found["grey"])
    assert found["gain_db"] <= 0
    assert found["grey"]["ab_distance"] == pytest.approx(found["true"]["chroma"], rel=1e-3)


def test_the_mean_colour_is_exact_where_all_images_have_one_tint(tmp_path):
    grey = np.random.default_rng(1).integers(60, 150, (20, 1, 16, 16))
    tinted = (grey + np.array([40, 0, -30]).reshape(1, 3, 1, 1)).astype(np.uint8)
    found = colour.run_colour_study(ColourStudy(), scene_of(tmp_path, tinted[:10], tinted[10:]), tmp_path).metrics
    assert found["mean"]["psnr"] > 60
    assert found["gain_db"] < -20


def test_the_strips_are_small(colourful, tmp_path):
    finding = colour.run_colour_study(ColourStudy(), scene_of(tmp_path, colourful, colourful), tmp_path)
    assert finding.figures
    assert all((tmp_path / name).stat().st_size < 60_000 for name, _ in finding.figures)


def test_colours_of_a_model_that_is_not_given_grey_are_refused(tmp_path):
    text = (RECIPES / "cifar-colour.yaml").read_text(encoding="utf-8")
    file = tmp_path / "cifar-colour.yaml"
    file.write_text(text.replace("corrupt: {kind: grey}", "corrupt: {kind: none}"), encoding="utf-8")
    with pytest.raises(UsageError, match=r"colour: it gives colour to grey: expected model\.corrupt grey, got none"):
        read_recipe(file)


@pytest.mark.slow
@pytest.mark.skipif(not CIFAR.is_file(), reason=f"needs {CIFAR.name} of the shared data")
def test_photographs_are_warmer_than_grey(tmp_path):
    images = np.load(CIFAR)["x_train"][:600].transpose(0, 3, 1, 2)
    scene = scene_of(tmp_path, images[:400], images[400:])
    found = colour.run_colour_study(ColourStudy(), scene, tmp_path).metrics
    assert found["mean"]["psnr"] > found["grey"]["psnr"]
    offset = colour.mean_colour(scene).ravel()
    assert offset[0] > 0 > offset[2]  # red above the luma, blue below
    wrong = colour.mean_colour(replace(scene, data=replace(scene.data, train=images[:400, ::-1]))).ravel()
    assert wrong[0] < 0 < wrong[2]
