"""The study of pixels on real tiles with their masks: a perfect map, a residual beside the baselines, and its figure."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from data_project import shared_data
from scipy.ndimage import gaussian_filter

from aeops.data.sources.catalogue import read_source, source_digest
from aeops.evaluation.prepared import PreparedSamples
from aeops.evaluation.studies.pixels import choose_examples, model_maps, run_pixels_study, tint
from aeops.evaluation.study import EvaluationContext
from aeops.files import write_json
from aeops.kinds.interface import load_kind
from aeops.kinds.samples import SampleSpec
from aeops.project import Project, find_project
from aeops.recipe.reader import read_recipe
from aeops.recipe.studies import PixelsStudy

RECIPES = Path(__file__).parents[2] / "recipes"
SHAPE = (1, 48, 48)


class Smoother:
    """A detector that reconstructs by blurring, or whose score has a map of its own."""

    shape = output_shape = SHAPE
    data_kind = load_kind("image")
    spec = SampleSpec(SHAPE, SHAPE, 0.0, 255.0, SHAPE)

    def __init__(self, pixel_map: np.ndarray | None) -> None:
        self.pixel_map = pixel_map

    @property
    def has_pixel_map(self) -> bool:
        return self.pixel_map is not None

    def score(self, samples: np.ndarray, explanation: bool = False) -> dict[str, Any]:
        return {"pixel_map": self.pixel_map}


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> tuple[EvaluationContext, np.ndarray]:
    """A context of 40 good training tiles and 60 test tiles, a third of them good, and the masks of the test tiles."""
    archive = np.load(shared_data("magnetic_tile/magnetic_tile_96.npz"))
    recipe, project = read_recipe(RECIPES / "tiles.yaml"), find_project(RECIPES)
    folder = tmp_path_factory.mktemp("prepared")
    state = Project(project.root, folder / "state")
    samples = read_source(recipe, state)
    good, defects = np.flatnonzero(samples.labels == 0), np.flatnonzero(samples.labels > 0)
    unmarked = np.flatnonzero((samples.labels > 0) & ~archive["masks"].any(axis=(1, 2)))[:2]
    chosen = np.concatenate([good[40:60], defects[::10][:38], unmarked])
    table = pd.DataFrame(
        {
            "id": [f"tiles-{position:06d}" for position in chosen],
            "label": samples.labels[chosen],
            "group": [str(position) for position in chosen],
            "novelty": samples.labels[chosen] > 0,
        }
    )
    write_json(folder / "prepared.json", {"source": {"sha256": source_digest(recipe, state)}})
    data = PreparedSamples(
        folder, samples.array[good[:40]], samples.array[chosen], table, {"train": 40, "calibration": 0}, 0.0, 255.0
    )
    inputs = data.test.astype(np.float32)
    predictions = {"reconstruction": gaussian_filter(inputs, (0, 0, 3, 3))}
    recipe = replace(recipe, evaluate=replace(recipe.evaluate, pca_components=8))
    context = EvaluationContext(recipe, data, Smoother(None), inputs, data.scale(inputs), predictions, state, folder, folder)
    masks = archive["masks"][chosen].reshape(-1, 48, 2, 48, 2).any(axis=(2, 4))
    return context, masks


@pytest.mark.slow
def test_every_detector_with_a_map_is_measured_beside_the_model(
    tiles: tuple[EvaluationContext, np.ndarray], tmp_path: Path
) -> None:
    context, masks = tiles
    result = run_pixels_study(PixelsStudy(blur=1.0), context, tmp_path)
    assert set(result.metrics) >= {"model", "pca_residual", "knn", "local_hull_10", "local_hull_20", "lead"}
    assert "isolation_forest" not in result.metrics
    for name in ("model", "pca_residual", "local_hull_20"):
        assert 0.5 < result.metrics[name]["pixel_auroc"] < 1, name
        assert 0.15 < result.metrics[name]["aupro"] < 1, name
    assert result.metrics["without_mask"] == 2
    assert result.metrics["images"] == 58
    assert result.metrics["defect_share"] == pytest.approx(masks[:58].mean())
    best = max(result.metrics[name]["aupro"] for name in ("pca_residual", "knn", "local_hull_10", "local_hull_20"))
    assert result.metrics["lead"] == pytest.approx(result.metrics["model"]["aupro"] - best)
    assert "<svg" in (tmp_path / result.figures[0][0]).read_text(encoding="utf-8")
    assert "2 images of the novelty have no mask" in result.note


def test_the_map_of_the_score_is_taken_where_it_has_one(tiles: tuple[EvaluationContext, np.ndarray], tmp_path: Path) -> None:
    context, masks = tiles
    mapped = replace(context, detector=Smoother(masks.astype(np.float32)))
    mapped.__dict__["baselines"] = context.baselines
    result = run_pixels_study(PixelsStudy(blur=0.0), mapped, tmp_path)
    assert result.metrics["model"] == {"pixel_auroc": pytest.approx(1.0), "aupro": pytest.approx(1.0)}
    assert "the map of its score" in result.note


def test_the_map_of_a_residual_sums_to_the_score(tiles: tuple[EvaluationContext, np.ndarray]) -> None:
    context, _ = tiles
    maps = context.baselines.pixel_maps(context.inputs)
    scores = context.baselines.score(context.inputs)
    for name, values in maps.items():
        np.testing.assert_allclose(np.log(values.sum(axis=(1, 2))), scores[name], atol=2e-3, err_msg=name)
    assert model_maps(context).shape == maps["knn"].shape


def test_examples_have_a_mask_and_a_tint_lays_colour_over(tiles: tuple[EvaluationContext, np.ndarray]) -> None:
    context, masks = tiles
    rows = choose_examples(context, masks)
    assert len(rows) == 6
    assert masks[rows].any(axis=(1, 2)).all()
    grey = np.full((1, 3, 2, 2), 0.5)
    opacity = np.array([[[0.0, 1.0], [0.5, 0.0]]])
    np.testing.assert_allclose(tint(grey, opacity, (1.0, 0.0, 0.0))[0, :, 0, 1], [1.0, 0.0, 0.0])
    np.testing.assert_allclose(tint(grey, opacity, (1.0, 0.0, 0.0))[0, :, 1, 0], [0.75, 0.25, 0.25])
