"""Evaluation of sets that do not fit into memory: block by block, with the numbers of one that does."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_bundles import small_bundle

from aeops.bundle.detector import Detector
from aeops.evaluation import sample_blocks
from aeops.evaluation.block_scores import score_in_blocks
from aeops.evaluation.paired_scores import predict_both
from aeops.evaluation.prepared import load_prepared
from aeops.evaluation.recipe_baselines import RecipeBaselines
from aeops.evaluation.sample_blocks import map_samples, new_array, release_pages, rows_of_blocks, take_rows
from aeops.evaluation.shrinking import shrink_factor, shrink_samples, shrunk_shape
from aeops.project import find_project
from aeops.recipe.reader import read_recipe
from aeops.stages.evaluate import evaluate

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every array of 60 images of 28 x 28 is a large one, and a block holds 50 of them."""
    monkeypatch.setattr(sample_blocks, "MEMORY_BYTES", 60 * 784 * 4)
    monkeypatch.setattr(sample_blocks, "BLOCK_VALUES", 50 * 784)


@pytest.mark.slow
@pytest.mark.usefixtures("small_memory")
def test_a_set_beyond_memory_has_the_metrics_and_the_scores_of_one_in_memory(evaluated: Any, tmp_path: Path) -> None:
    places = (evaluated.prepared, evaluated.bundle, evaluated.training)
    evaluate(read_recipe(evaluated.recipe), find_project(RECIPES), *places, tmp_path / "report")
    expected, metrics = (json.loads((folder / "metrics.json").read_text()) for folder in (evaluated.report, tmp_path / "report"))
    pca, expected_pca = metrics["reconstruction"].pop("pca"), expected["reconstruction"].pop("pca")
    assert metrics["reconstruction"].pop("gain_over_pca") == pytest.approx(expected["reconstruction"].pop("gain_over_pca"))
    assert pca["mse"] == pytest.approx(expected_pca["mse"])  # the products of blocks may differ in their last digits
    assert metrics == expected
    for name in ("scores.parquet", "reference.parquet", "errors.csv", "figures/gallery_worst.svg", "figures/samples.svg"):
        assert (tmp_path / "report" / name).read_bytes() == (evaluated.report / name).read_bytes(), name


def test_two_models_are_compared_block_by_block(evaluated: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, data, detector = read_recipe(evaluated.recipe), load_prepared(evaluated.prepared), Detector(evaluated.bundle)
    expected, _ = predict_both(recipe, data, detector, detector)
    monkeypatch.setattr(sample_blocks, "MEMORY_BYTES", 60 * 784 * 4)
    for found in predict_both(recipe, data, detector, detector):
        for name, values in vars(found).items():
            np.testing.assert_array_equal(values, getattr(expected, name))


@pytest.mark.usefixtures("small_memory")
def test_a_large_array_lies_in_a_file_that_leaves_nothing_behind(tmp_path: Path) -> None:
    samples = np.arange(100 * 784, dtype=np.float32).reshape(100, 784)
    doubled = map_samples(lambda block: 2 * block, samples, tmp_path)
    assert isinstance(doubled, np.memmap)
    assert not list(tmp_path.iterdir())
    release_pages(doubled[3:7])
    np.testing.assert_array_equal(doubled, 2 * samples)
    assert not isinstance(new_array((60, 784), np.float32, tmp_path), np.memmap)
    np.testing.assert_array_equal(take_rows(samples, np.arange(0, 100, 3), tmp_path), samples[::3])


def test_a_block_is_a_multiple_of_the_rows_that_a_network_takes_at_once() -> None:
    assert list(rows_of_blocks(10, 1, multiple=3, limit=8)) == [slice(0, 6), slice(6, 10)]
    assert list(rows_of_blocks(3, 100, multiple=64, limit=8)) == [slice(0, 1), slice(1, 2), slice(2, 3)]


@pytest.mark.usefixtures("small_memory")
def test_scores_and_reconstructions_of_blocks_are_those_of_one_call(evaluated: Any, tmp_path: Path) -> None:
    detector, samples = Detector(evaluated.bundle), np.load(evaluated.prepared / "test.npy", mmap_mode="r")
    expected = detector.score(samples, reconstruction=True, code=True)
    found = score_in_blocks(detector, samples, tmp_path, reconstruction=True, code=True)
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_shrinking_takes_means_of_squares_also_at_the_edges() -> None:
    image = np.random.default_rng(0).random((2, 3, 5, 7)).astype(np.float32)
    shrunk = shrink_samples(image, 3)
    assert shrunk.shape == (2, *shrunk_shape((3, 5, 7), 3)) == (2, 3, 2, 3)
    assert shrunk.dtype == np.float32
    np.testing.assert_allclose(shrunk[:, :, 0, 0], image[:, :, :3, :3].mean(axis=(2, 3)), rtol=1e-6)
    np.testing.assert_allclose(shrunk[:, :, 1, 2], image[:, :, 3:, 6:].mean(axis=(2, 3)), rtol=1e-6)
    assert shrink_factor((1, 64, 64)) == 1
    assert shrink_factor((1, 65, 64)) == 2
    assert shrink_factor((5000, 2)) == 2


def test_baselines_of_large_images_see_them_shrunk_and_map_every_pixel(tmp_path: Path) -> None:
    """Images of 70 x 70: an odd square in some of the test images is what neighbours and PCA have to find."""
    draw = np.random.default_rng(1)
    pattern = draw.integers(60, 120, (1, 1, 70, 70))
    images = (pattern + draw.integers(0, 30, (60, 1, 70, 70))).astype(np.uint8)
    images[50:, :, 20:36, 20:36] = 250
    for name, rows in {"train": images[:40], "calibration": images[30:40], "test": images[40:]}.items():
        np.save(tmp_path / f"{name}.npy", rows)
    is_novelty = np.arange(40, 60) >= 50
    table = {"id": list("abcdefghijklmnopqrst"), "label": pd.array([0] * 20, "Int64"), "group": range(20), "novelty": is_novelty}
    pd.DataFrame(table).to_parquet(tmp_path / "test.parquet")
    facts = {"rows": {"train": 40, "validation": 5, "calibration": 10}, "low": 0, "high": 255}
    (tmp_path / "prepared.json").write_text(json.dumps(facts))
    data = load_prepared(tmp_path)
    baselines = RecipeBaselines(read_recipe(RECIPES / "digits.yaml"), data, Detector(small_bundle(tmp_path / "bundle", side=70)))
    assert baselines.searched_shape == (1, 35, 35)
    for name, scores in baselines.score(data.test).items():
        assert np.median(scores[is_novelty]) > scores[~is_novelty].max(), name
    for name, maps in baselines.pixel_maps(data.test).items():
        assert maps.shape == (20, 70, 70), name
        row, column = np.unravel_index(maps[is_novelty].mean(axis=0).argmax(), (70, 70))
        assert 20 <= row < 36, name
        assert 20 <= column < 36, name
