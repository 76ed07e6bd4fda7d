"""The study `codec`: its bytes are those of real files, and its rivals what Pillow really writes."""

import dataclasses
import io
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ae_models.spec import GreyCorruptionSpec, IdentityBottleneckSpec
from aeops.bundle.detector import Detector
from aeops.codec.baselines import encode_images
from aeops.codec.merging import choose_representatives, load_codebooks, merge_counts, merge_entries, replace_indices
from aeops.evaluation.prepared import PreparedSamples
from aeops.evaluation.studies import codec
from aeops.evaluation.studies.codec import CodecPoint, psnr_at_bytes, run_codec_study
from aeops.evaluation.study import EvaluationContext, StudyResult
from aeops.project import Project
from aeops.recipe.reader import Recipe
from aeops.recipe.studies import CodecStudy


@pytest.fixture(scope="module")
def scene(empty_project: Project, recipe: Recipe, codec_bundle: Path, digits: np.ndarray) -> EvaluationContext:
    """60 normal test digits, and 20 of novelty."""
    test, detector = digits[1500:1580], Detector(codec_bundle)
    table = pd.DataFrame({"id": [str(i) for i in range(80)], "label": [0] * 60 + [5] * 20, "novelty": [False] * 60 + [True] * 20})
    data = PreparedSamples(codec_bundle, digits[:300], test, table, {}, 0.0, 255.0)
    said = detector.score(test, reconstruction=True, code=True)
    return EvaluationContext(recipe, data, detector, test, data.scale(test), said, empty_project, codec_bundle, codec_bundle)


@pytest.fixture(scope="module")
def found(scene: EvaluationContext, tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyResult, Path]:
    figures = tmp_path_factory.mktemp("figures")
    return run_codec_study(CodecStudy(qualities=(0, 50)), scene, figures), figures


@pytest.mark.slow
def test_the_models_bytes_and_error_are_those_of_its_words(
    found: tuple[StudyResult, Path], scene: EvaluationContext, digits: np.ndarray
) -> None:
    model, counts = found[0].metrics, scene.detector.word_counts
    assert counts is not None
    shares = (counts + 0.5) / (counts + 0.5).sum(axis=1, keepdims=True)
    needed = -np.log2(shares[np.arange(8), scene.predictions["code"][:60]]).sum() / 8 / 60
    assert needed < model["bytes"] < needed + 12 / 60
    assert model["bytes"] < model["bytes_in_a_set"] < model["bytes"] + 90 / 60
    assert 60 < model["bytes_alone"] < 100
    error = np.square(scene.predictions["reconstruction"][:60].round() - digits[1500:1560]).mean() / 255**2
    assert model["psnr"] == pytest.approx(-10 * math.log10(error), abs=1e-4)


def test_fewer_words_a_slot_take_fewer_bytes_and_give_a_larger_error(found: tuple[StudyResult, Path]) -> None:
    rows = found[0].rows
    assert [row[0] for row in rows[:5]] == ["model", *(f"model, {words} words a slot" for words in (16, 8, 4, 2))]
    assert [row[0] for row in rows[10:]] == ["JPEG 0", "JPEG 50", "WebP 0", "WebP 50", "PNG"]
    for column in (1, 3):
        values = [float(row[column]) for row in rows[:5]]
        assert values == sorted(values, reverse=True)
    assert rows[-1][3:] == ["lossless", ""]


def test_metrics_are_json_and_figures_small_and_the_same_each_time(
    found: tuple[StudyResult, Path], scene: EvaluationContext, tmp_path: Path
) -> None:
    again = run_codec_study(CodecStudy(qualities=(0, 50)), scene, tmp_path)
    assert json.dumps(again.metrics, allow_nan=False) == json.dumps(found[0].metrics, allow_nan=False)
    for name, _ in found[0].figures:
        assert (tmp_path / name).read_bytes() == (found[1] / name).read_bytes()
        assert (tmp_path / name).stat().st_size < 60_000


def test_the_lead_is_over_the_better_rival_at_as_many_bytes(found: tuple[StudyResult, Path]) -> None:
    metrics = found[0].metrics
    assert metrics["lead_db"] == pytest.approx(metrics["psnr"] - max(metrics["at_like_bytes"].values()))


def test_a_linear_codec_of_the_training_samples_stands_beside_the_model_around_its_bytes(
    found: tuple[StudyResult, Path], scene: EvaluationContext
) -> None:
    result, rows = found[0], found[0].rows[5:10]
    assert [row[0] for row in rows] == [f"PCA, step x {factor}" for factor in ("0.5", "0.71", "1", "1.4", "2")]
    sizes, psnr_values = ([float(row[column]) for row in rows] for column in (1, 3))
    assert sizes == sorted(sizes, reverse=True)
    assert psnr_values == sorted(psnr_values, reverse=True)
    assert sizes[0] > result.metrics["bytes"] > sizes[-1]
    assert psnr_values[0] > result.metrics["at_like_bytes"]["pca"] > psnr_values[-1]
    assert "PCA with a uniform quantiser at as many bytes" in result.lead
    point = result.metrics["rivals"]["pca_step_x_1"]
    assert point["bytes"] == pytest.approx(sizes[2], abs=0.05)


def test_images_of_too_many_values_have_no_linear_rival_and_the_note_says_so(
    scene: EvaluationContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec, "MAX_VALUES", 783)
    result = run_codec_study(CodecStudy(qualities=(0, 50)), scene, tmp_path)
    assert "pca" not in result.metrics["at_like_bytes"]
    assert "No linear codec: an image has more than 783 values." in result.note
    assert "PCA" not in result.lead


def test_psnr_between_two_points_lies_on_their_line() -> None:
    points = [
        CodecPoint(str(size), "WebP", 0.0, float(size), np.zeros(0), {"mse": 0.1, "psnr": psnr, "ssim": None})
        for size, psnr in ((100, 30.0), (25, 20.0))
    ]
    assert psnr_at_bytes(points, 50.0) == pytest.approx(25.0)
    assert psnr_at_bytes(points, 10.0) == 20.0


def test_words_alike_are_merged_into_the_one_nearest_to_their_mean() -> None:
    images = np.array([[0.0], [0.1], [0.2], [5.0], [5.2]])
    even, skewed = np.ones(5), np.array([1.0, 1, 50, 1, 50])
    groups = np.array([1, 1, 1, 2, 2])
    np.testing.assert_array_equal(choose_representatives(groups, images, even)[:3], [1, 1, 1])
    np.testing.assert_array_equal(choose_representatives(groups, images, skewed), [2, 2, 2, 4, 4])
    swaps = np.array([[2, 2, 2, 4, 4], [0, 0, 2, 3, 4]])
    np.testing.assert_array_equal(replace_indices(np.array([[0, 1], [3, 4]]), swaps), [[2, 0], [4, 4]])
    np.testing.assert_array_equal(merge_counts(np.array([[1, 2, 3, 4, 5]] * 2), swaps), [[0, 0, 6, 0, 9], [3, 0, 3, 4, 5]])


def test_as_many_words_are_left_as_were_asked_for(scene: EvaluationContext) -> None:
    counts = scene.detector.word_counts
    assert counts is not None
    for size, swaps in zip((16, 4), merge_entries(load_codebooks(scene.bundle), counts, [16, 4]), strict=True):
        assert {len(np.unique(row)) for row in swaps} == {size}
        np.testing.assert_array_equal(replace_indices(swaps.T, swaps), swaps.T)


def test_one_book_for_all_slots_is_merged_for_each_slots_own_use() -> None:
    book = np.array([[[0.0], [0.1], [0.3], [9.0]]])
    swaps = merge_entries(book, np.array([[9, 0, 0, 1], [0, 0, 99, 1]]), [2])
    np.testing.assert_array_equal(swaps, [[[0, 0, 0, 3], [2, 2, 2, 3]]])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("form", "quality"), [("JPEG", 0), ("JPEG", 90), ("WebP", 0), ("WebP", 90), ("PNG", None)])
def test_a_rivals_bytes_and_pixels_are_those_of_a_file(form: str, quality: int | None, channels: int, digits: np.ndarray) -> None:
    images = digits[: 3 * channels].reshape(3, channels, 28, 28)
    found = encode_images(images, form, quality)
    assert found.decoded_images.shape == images.shape
    assert found.black_size < found.file_sizes.min()
    assert found.header_free == pytest.approx(found.file_sizes.mean() - found.black_size)
    error = np.abs(found.decoded_images.astype(int) - images).mean()
    assert error == 0 if form == "PNG" else 0 < error < 40


def test_a_rivals_file_is_what_pillow_writes_by_hand(digits: np.ndarray) -> None:
    buffer = io.BytesIO()
    Image.fromarray(digits[0, 0]).save(buffer, "WebP", quality=0, method=6)
    assert encode_images(digits[:1], "WebP", 0).file_sizes.tolist() == [len(buffer.getvalue())]


def test_a_study_that_does_not_fit_the_recipe_says_why(recipe: Recipe) -> None:
    assert CodecStudy().check_fit(recipe.fit) == []
    model = dataclasses.replace(recipe.fit.model, bottleneck=IdentityBottleneckSpec(), corrupt=GreyCorruptionSpec())
    grey = dataclasses.replace(recipe.fit.input, given="corrupted", shape=(4, 28, 28))
    told = CodecStudy().check_fit(dataclasses.replace(recipe.fit, model=model, input=grey))
    assert [why.split(":")[0] for why in told] == [
        "it codes words",
        "it compares with JPEG and WebP",
        "it gives the images back that it is given",
    ]
    assert CodecStudy(qualities=()).validation_errors()
