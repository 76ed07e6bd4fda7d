"""The report says what causes the alarms: which part of the score, where, and the nearest normal samples."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from explained_bundles import (
    DENSE,
    HULL,
    IMAGES,
    KNN,
    RESIDUAL,
    calibrated_bundle,
    edges_bundle,
    image_bundle,
    images,
    series_bundle,
    windows,
)
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from aeops.bundle.detector import Detector
from aeops.bundle.explanations import caption_scores, short_part_name
from aeops.drawing import mosaics
from aeops.evaluation.alarm_causes import NAMED_ALARMS, alarm_results, describe_score_parts
from aeops.evaluation.galleries import draw_galleries, pick_extremes, shorten_name
from aeops.evaluation.prepared import PreparedSamples
from aeops.evaluation.study import EvaluationContext
from aeops.project import find_project
from aeops.recipe.reader import read_recipe

RECIPES = Path(__file__).parents[2] / "recipes"


def context_of(detector: Detector, samples: np.ndarray, novelty: np.ndarray) -> EvaluationContext:
    """The test samples of an evaluation, scored; the recipe gives labels their names."""
    ids = [f"digit-{row}" for row in range(len(samples))]
    labels = pd.array(np.where(novelty, 5, 3), "Int64")
    labels[0] = pd.NA
    table = pd.DataFrame({"id": ids, "label": labels, "group": ids, "novelty": novelty})
    data = PreparedSamples(Path(), samples[:0], samples, table, {}, detector.low, detector.high)
    predictions = detector.score(samples, reconstruction=True, code=True)
    target = detector.to_measured(samples)
    project = find_project(RECIPES)
    recipe = read_recipe(RECIPES / "digits.yaml")
    return EvaluationContext(recipe, data, detector, samples, target, predictions, project, detector.folder, Path())


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> EvaluationContext:
    """Forty normals, of which a few are flagged, and twenty bright squares."""
    detector = Detector(image_bundle(tmp_path_factory.mktemp("alarms")))
    squares = np.random.default_rng(1).integers(0, 255, (20, 1, 8, 8), dtype=np.uint8)
    samples = np.concatenate([images(160)[120:], squares])
    return context_of(detector, samples, np.arange(60) >= 40)


def test_each_flagged_sample_counts_for_the_part_that_says_most(context: EvaluationContext) -> None:
    result = alarm_results(context)["parts"]
    flagged, novelty = context.predictions["is_anomaly"], context.data.novelty
    leading = context.detector.score(context.inputs, explanation=True)["part_scores"].argmax(1)
    for row, name in enumerate(context.detector.part_names):
        [cells] = [cells for cells in result.rows if cells[0] == short_part_name(name)]
        is_first = flagged & (leading == row)
        assert cells[1:] == [
            str(is_first.sum()),
            f"{100 * is_first.sum() / flagged.sum():.1f} %",
            str((is_first & novelty).sum()),
            str((is_first & ~novelty).sum()),
        ]
    assert sum(int(cells[1]) for cells in result.rows) == flagged.sum() > 0
    assert f"the {flagged.sum()} flagged test samples" in result.lead
    assert result.lead.startswith("The score is made of residual, local-hull, knn of inputs and knn of codes. The table")


def test_it_says_which_parts_of_the_recipe_are_not_in_the_score(tmp_path: Path) -> None:
    score = {"kind": "combined", "scores": [RESIDUAL, HULL, KNN | {"space": "code"}], "choose": "by-power"}
    detector = Detector(calibrated_bundle(tmp_path, IMAGES, DENSE, score, images(120)))
    kinds = {part["kind"]: part["chosen"] for part in detector.bundle["score_facts"]["parts"]}
    assert kinds == {"normalised-residual": False, "local-hull": True, "knn": True}
    assert describe_score_parts(detector.part_names, detector.left_out_part_names) == (
        "The score is made of local-hull and knn. Left out, by what finds injected faults (docs/scores.md): residual."
    )
    assert describe_score_parts(["knn"], ["normalised-residual", "disagreement"]) == (
        "The score is made of knn. Left out, by what finds injected faults (docs/scores.md): residual and disagreement."
    )
    assert describe_score_parts(["knn"], []) == "The score is made of knn."


def test_without_labels_no_alarm_counts_as_false(context: EvaluationContext) -> None:
    data = replace(context.recipe.data, labels=(), novelty=())
    unlabelled = replace(context, recipe=replace(context.recipe, data=data))
    result = alarm_results(unlabelled)["parts"]
    assert result.head == ["part", "flagged samples", "share"]
    assert result.rows == [cells[:3] for cells in alarm_results(context)["parts"].rows]


def test_the_strongest_alarms_are_explained(context: EvaluationContext) -> None:
    result = alarm_results(context)["alarms"]
    order = np.argsort(-np.where(context.predictions["is_anomaly"], context.predictions["score"], -np.inf))
    assert [cells[0] for cells in result.rows] == [f"digit-{index}" for index in order[:NAMED_ALARMS]]
    for cells in result.rows:
        assert re.search(r"[+-]\d+\.\d, .* % of the error; nearest normal sample: row \d+$", cells[3])
    assert {cells[1] for cells in result.rows} <= {"3", "5", ""}


def test_without_an_alarm_there_is_nothing_to_explain(context: EvaluationContext) -> None:
    calm = np.flatnonzero(~context.predictions["is_anomaly"])[:5]
    samples = context.inputs[calm]
    assert alarm_results(context_of(context.detector, samples, np.zeros(len(calm), bool))) == {}


def test_captions_name_the_part_that_says_most() -> None:
    part_scores = np.array([[3.0, 1.0, 0.0], [0.0, 1.0, 0.5], [0.0, 1.0, 2.0]])
    names = ["normalised-residual", "local-hull", "knn (code)"]
    captions = caption_scores(np.array([1.25, -0.5, 12.0]), names, part_scores)
    assert captions == ["1.25\nresidual", "-0.500\nlocal-\nhull", "12.0\nknn\nof codes"]
    assert caption_scores(np.array([1.25]), [], None) == ["1.25"]


def test_the_galleries_of_errors_show_them(context: EvaluationContext, tmp_path: Path) -> None:
    draw_galleries(tmp_path, context)
    drawn = {file.stem: file.read_text(encoding="utf-8") for file in tmp_path.iterdir()}
    assert drawn.keys() >= {"gallery_best", "errors_flagged_novelty"}
    for name, svg in drawn.items():
        assert (">nearest<" in svg) == name.startswith("errors_"), name


def test_a_gallery_shows_what_is_farthest_from_the_threshold_then_what_is_nearest() -> None:
    assert pick_extremes(np.array([3.0, 9, 1, 7, 5, 0, 8, 2]), 5).tolist() == [1, 6, 5, 2, 7]
    assert pick_extremes(np.array([3.0, 9, 1]), 6).tolist() == [1, 0, 2]
    assert pick_extremes(np.zeros(0), 6).tolist() == []


def test_samples_in_a_gallery_have_their_ids(context: EvaluationContext, tmp_path: Path) -> None:
    draw_galleries(tmp_path, context)
    svg = (tmp_path / "errors_flagged_novelty.svg").read_text(encoding="utf-8")
    flagged = np.flatnonzero(context.predictions["is_anomaly"] & context.data.novelty)
    highest = flagged[np.argmax(context.predictions["score"][flagged])]
    assert f">digit-{highest}<" in svg
    assert shorten_name("scratch/2026/001.png") == "…/2026/001"
    assert shorten_name("three 100.png") == "three 100"
    assert shorten_name("reading 1.5") == "…ading 1.5"
    assert shorten_name(17) == "17"


def test_the_map_of_errors_lies_over_the_sample(tmp_path: Path) -> None:
    sample = np.zeros((1, 1, 8, 8))
    sample[..., :4] = 1
    output = sample.copy()
    output[..., 7] = 1
    [tile] = mosaics._error_tiles(np.abs(sample - output), sample)
    assert tile.shape == (8, 8, 3)
    assert (tile[:, 0] == mosaics.UNDER_ERRORS).all()  # no error: the sample shows
    assert (tile[:, 5] == 0).all()
    assert tile[:, 7].mean() > 0.7  # an error as large as the range: its colour alone


@pytest.mark.parametrize("make", [series_bundle, edges_bundle])
def test_series_and_what_cannot_be_compared_are_explained_too(make: Callable[[Path], Path], tmp_path: Path) -> None:
    detector = Detector(make(tmp_path))
    samples = windows(20)[:, ::-1] if make is series_bundle else np.full((20, 3, 8, 8), 255, np.uint8)
    context = context_of(detector, np.ascontiguousarray(samples), np.arange(20) >= 4)
    assert context.predictions["is_anomaly"].any()
    [*_, first] = alarm_results(context)["alarms"].rows
    assert "nearest normal sample: row" in first[3]
    draw_galleries(tmp_path, context)
    assert ">nearest<" in (tmp_path / "errors_flagged_novelty.svg").read_text(encoding="utf-8")


def test_a_map_of_pixels_is_a_row_of_the_strip(tmp_path: Path) -> None:
    tiles = np.zeros((2, 1, 8, 8))
    for distances in (np.zeros((2, 8, 8)), np.random.default_rng(0).random((2, 8, 8))):
        mosaics.draw_error_strip(tmp_path / "strip.svg", tiles, tiles, None, ["1", "2"], distances=distances)
        assert ">map<" in (tmp_path / "strip.svg").read_text(encoding="utf-8")


def test_a_long_caption_is_set_smaller(tmp_path: Path) -> None:
    tiles = np.zeros((6, 1, 8, 8))
    sizes = []
    for caption in ("1.00", "1.00\ndisagreement"):
        mosaics.draw_error_strip(tmp_path / "strip.svg", tiles, tiles, None, [caption] * 6, tiles)
        svg = (tmp_path / "strip.svg").read_text(encoding="utf-8")
        sizes.append(min(map(float, re.findall(r"font-size: ([\d.]+)px", svg))))
    assert sizes[0] > sizes[1]


def test_names_above_pictures_do_not_run_into_each_other(tmp_path: Path) -> None:
    names = [shorten_name(f"digits-00{number}") for number in (2944, 2757, 2808, 2678, 2608, 2988)]
    mosaics.draw_error_strip(tmp_path / "strip.svg", np.zeros((6, 1, 28, 28)), np.zeros((6, 1, 28, 28)), None, names)
    svg = (tmp_path / "strip.svg").read_text(encoding="utf-8")
    width = float(re.findall(r'viewBox="0 0 ([\d.]+)', svg)[0])
    edge = 0.0
    for size, centre, name in re.findall(r'font-size: ([\d.]+)px[^"]*" x="([\d.]+)"[^>]*>([^<]*)<', svg):
        if name in names:
            font = FontProperties(family="DejaVu Sans")
            half = TextPath((0, 0), name, size=float(size), prop=font).get_extents().width / 2
            assert edge < float(centre) - half, "right of the name before"
            edge = float(centre) + half
    assert 0 < edge < width
