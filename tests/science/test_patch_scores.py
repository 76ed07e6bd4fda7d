"""The score patch-bank against PatchCore in numpy, on the maps of a conv encoder and of a frozen network; and its bank."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from frozen_backbone import write_backbone
from onnx_export import by_onnxruntime
from scipy.ndimage import gaussian_filter, uniform_filter
from scipy.spatial.distance import cdist
from torch.nn import functional as F

from ae_models.autoencoder import Autoencoder
from ae_models.combined_score import CombinedScore
from ae_models.errors import SpecError
from ae_models.model_output import ModelOutput
from ae_models.patch_scores import PatchBankScore
from ae_models.sample_sets import ArraySampleSet
from ae_models.score_samples import ScoreSamples
from ae_models.spec import (
    DenseEncoderSpec,
    FitSpec,
    NormalisedResidualScoreSpec,
    OnnxEncoderSpec,
    PatchBankScoreSpec,
)

ALL_PATCHES = {"rows": 20_000, "coreset": "random", "neighbours": 5, "blur": 1.0}
TRAIN, VALIDATION = slice(0, 12), slice(320, 336)
ROUNDING = 1e-3  # of a distance: of rows that are about equally near, 32 bits may take another than the nearest


@pytest.fixture(scope="module", params=["conv", "onnx"])
def autoencoder(request: pytest.FixtureRequest, spec: FitSpec, tmp_path_factory: pytest.TempPathFactory) -> Autoencoder:
    encode: Any = spec.model.encode
    if request.param == "onnx":
        encode = OnnxEncoderSpec(str(write_backbone(tmp_path_factory.mktemp("backbone") / "backbone.onnx")))
    torch.manual_seed(0)
    return Autoencoder(dataclasses.replace(spec.model, encode=encode), spec.input).eval()


@pytest.fixture(scope="module")
def samples(autoencoder: Autoencoder, spec: FitSpec, digits: np.ndarray) -> ScoreSamples:
    return ScoreSamples(autoencoder, spec.input, ArraySampleSet(digits[TRAIN]), ArraySampleSet(digits[VALIDATION]), seed=3)


def validation_output(samples: ScoreSamples) -> ModelOutput:
    [output] = samples.outputs("validation")
    return output


def fitted_score(samples: ScoreSamples, **settings: Any) -> PatchBankScore:
    score = PatchBankScore(**{**ALL_PATCHES, **settings})
    score.fit(samples)
    return score


# ---------------------------------------------------------------- the formula in numpy


def numpy_patches(output: ModelOutput) -> np.ndarray:
    """Means of 3 x 3 positions of the map, of those that it has, (n, h, w, c)."""
    assert output.features is not None
    features = output.features.numpy().astype(np.float64)
    size = (1, 1, 3, 3)
    share_inside = uniform_filter(np.ones_like(features), size, mode="constant")
    return np.asarray(uniform_filter(features, size, mode="constant") / share_inside).transpose(0, 2, 3, 1)


def numpy_patchcore(patches: np.ndarray, bank: np.ndarray, neighbours: int) -> tuple[np.ndarray, np.ndarray]:
    """Image scores (n,) by equation 7, and the distances of all patches, (n, h, w)."""
    n, height, width, channels = patches.shape
    distances = np.empty((n, height * width))
    scores = np.empty(n)
    for image, vectors in enumerate(patches.reshape(n, -1, channels)):
        to_bank = cdist(vectors, bank)
        distances[image] = to_bank.min(1)
        patch = distances[image].argmax()
        nearest = to_bank[patch].argmin()
        near_rows = np.argsort(((bank - bank[nearest]) ** 2).sum(1), kind="stable")[:neighbours]
        weight = 1 - np.exp(to_bank[patch, nearest]) / np.exp(to_bank[patch, near_rows]).sum()
        scores[image] = weight * distances[image, patch]
    return scores, distances.reshape(n, height, width)


@torch.no_grad()
def test_score_and_map_are_those_of_patchcore_in_numpy(samples: ScoreSamples) -> None:
    score, output = fitted_score(samples), validation_output(samples)
    bank = np.concatenate([numpy_patches(batch).reshape(-1, output.features.shape[1]) for batch in samples.outputs("train")])
    assert len(score.bank) == len(bank)
    expected, distances = numpy_patchcore(numpy_patches(output), bank, 5)
    np.testing.assert_allclose(score(output).numpy(), np.log(expected + 1e-6), atol=1e-4)
    upsampled = F.interpolate(torch.from_numpy(distances)[:, None], [28, 28], mode="bilinear")[:, 0].numpy()
    blurred = gaussian_filter(upsampled, (0, 1, 1), mode="nearest", radius=(0, 3, 3))
    np.testing.assert_allclose(score.pixel_map(output).numpy(), blurred, rtol=1e-3, atol=ROUNDING)


@torch.no_grad()
def test_with_one_neighbour_the_score_is_the_largest_distance(samples: ScoreSamples) -> None:
    score, output = fitted_score(samples, neighbours=1, blur=0.0), validation_output(samples)
    _, distances = score._nearest(score._patches(output).flatten(1, 2))
    np.testing.assert_allclose(score(output).numpy(), np.log(distances.amax(1).numpy() + 1e-6), atol=1e-6)


@torch.no_grad()
def test_patches_of_the_bank_have_distance_zero_and_a_finite_score(samples: ScoreSamples) -> None:
    score = fitted_score(samples)
    [output] = samples.outputs("train")
    _, distances = score._nearest(score._patches(output).flatten(1, 2))
    assert float(distances.max()) < ROUNDING
    assert float(distances.median()) == 0.0
    assert torch.isfinite(score(output)).all()


@torch.no_grad()
def test_the_map_rises_at_a_planted_fault_and_stays_elsewhere(samples: ScoreSamples, digits: np.ndarray) -> None:
    score = fitted_score(samples)
    faulty = digits[VALIDATION].copy()
    faulty[:, :, 20:25, 3:8] = 255
    [output] = samples.run(ArraySampleSet(faulty))
    rise = (score.pixel_map(output) - score.pixel_map(validation_output(samples))).abs()
    places = rise.flatten(1).argmax(1)
    rows, columns = places // 28, places % 28
    assert ((rows >= 15) & (columns <= 13)).all()
    assert float(rise[:, :8, 20:].max()) < ROUNDING < float(rise.amax((1, 2)).min())


@torch.no_grad()
def test_it_is_one_graph_for_any_batch_size(samples: ScoreSamples, autoencoder: Autoencoder, tmp_path: Path) -> None:
    score, output = fitted_score(samples, rows=100, coreset="k-centre"), validation_output(samples)
    autoencoder.score = score  # a part of the exported module
    try:
        for function, expected, name in (
            (lambda x: score(autoencoder.run(x)), score(output), "score"),
            (lambda x: score.pixel_map(autoencoder.run(x)), score.pixel_map(output), "map"),
        ):
            (tmp_path / name).mkdir()
            by_onnx = by_onnxruntime(autoencoder, function, tmp_path / name, output.inputs)
            np.testing.assert_allclose(by_onnx, expected.numpy(), rtol=1e-3, atol=1e-4)
            graph = onnx.load(tmp_path / name / "model.onnx").graph
            assert [tuple(sorted(tensor.dims)) for tensor in graph.initializer].count(tuple(sorted(score.bank.shape))) == 1
    finally:
        del autoencoder.score


# ---------------------------------------------------------------- the bank


@pytest.fixture(scope="module")
def conv_samples(spec: FitSpec, digits: np.ndarray) -> ScoreSamples:
    torch.manual_seed(0)
    autoencoder = Autoencoder(spec.model, spec.input).eval()
    return ScoreSamples(autoencoder, spec.input, ArraySampleSet(digits[TRAIN]), ArraySampleSet(digits[VALIDATION]), seed=3)


def all_patches(samples: ScoreSamples) -> torch.Tensor:
    score = fitted_score(samples)
    return score.bank + score.centre


@pytest.mark.parametrize("coreset", ["random", "k-centre"])
def test_a_bank_has_the_stated_rows_out_of_the_training_patches_the_same_each_time(
    conv_samples: ScoreSamples, coreset: str
) -> None:
    first, second = (fitted_score(conv_samples, rows=60, coreset=coreset) for _ in range(2))
    assert first.learnt_facts() == {"bank_rows": 60}
    for name, values in first.state_dict().items():
        assert torch.equal(values, second.state_dict()[name])
    rows, patches = first.bank + first.centre, all_patches(conv_samples)
    assert float(torch.cdist(rows, patches).amin(1).max()) < 1e-3


def test_k_centre_covers_the_patches_as_the_greedy_choice_by_brute_force(conv_samples: ScoreSamples) -> None:
    patches = all_patches(conv_samples).double().numpy()
    chosen = [int(((patches - patches.mean(0)) ** 2).sum(1).argmin())]
    while len(chosen) < 40:
        chosen.append(int(((patches[:, None] - patches[chosen][None]) ** 2).sum(2).min(1).argmax()))
    radius = np.sqrt(((patches[:, None] - patches[chosen][None]) ** 2).sum(2).min(1).max())
    score = fitted_score(conv_samples, rows=40, coreset="k-centre")
    bank = (score.bank + score.centre).double().numpy()
    actual_radius = np.sqrt(((patches[:, None] - bank[None]) ** 2).sum(2).min(1).max())
    assert actual_radius == pytest.approx(radius, rel=1e-3)
    random_bank = (fitted_score(conv_samples, rows=40).bank + score.centre).double().numpy()
    assert actual_radius < np.sqrt(((patches[:, None] - random_bank[None]) ** 2).sum(2).min(1).max())


def test_wide_patches_are_projected_for_the_choice_alone() -> None:
    patches = torch.from_numpy(np.random.default_rng(0).normal(size=(300, 400)).astype(np.float32))
    patches[7] *= 30  # far from all others, before and after any projection
    score = PatchBankScore(rows=10, coreset="k-centre", neighbours=1, blur=0.0)
    places = score._choose_rows(patches, seed=0)
    assert len(set(places.tolist())) == 10
    assert 7 in places


def test_fewer_patches_than_rows_are_all_of_the_bank(conv_samples: ScoreSamples) -> None:
    score = fitted_score(conv_samples, rows=15_000)
    assert len(score.bank) == 12 * 7 * 7


def test_candidates_are_as_many_as_are_allowed_whatever_the_batches(
    conv_samples: ScoreSamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ae_models.patch_scores

    patches = all_patches(conv_samples)
    monkeypatch.setattr(ae_models.patch_scores, "_CANDIDATES", 500)
    drawn = fitted_score(conv_samples)
    rows = drawn.bank + drawn.centre
    assert len(rows) == 500
    assert float(torch.cdist(rows, patches).amin(1).max()) < 1e-3
    distances = torch.cdist(rows, patches).argmin(1)
    assert (distances[1:] >= distances[:-1]).float().mean() > 0.95  # in the order of the samples


def test_fewer_patches_than_neighbours_are_an_error_that_names_both(spec: FitSpec, digits: np.ndarray) -> None:
    torch.manual_seed(0)
    autoencoder = Autoencoder(spec.model, spec.input).eval()
    samples = ScoreSamples(autoencoder, spec.input, ArraySampleSet(digits[:1]), ArraySampleSet(digits[1:3]), seed=0)
    with pytest.raises(SpecError, match=r"neighbours: expected at most 49, the patches of 1 training samples, got 60"):
        fitted_score(samples, neighbours=60)


def test_a_constant_image_scores_and_equal_patches_make_a_bank(spec: FitSpec) -> None:
    torch.manual_seed(0)
    autoencoder = Autoencoder(spec.model, spec.input).eval()
    blank = np.zeros((4, 1, 28, 28), np.uint8)
    samples = ScoreSamples(autoencoder, spec.input, ArraySampleSet(blank), ArraySampleSet(blank), seed=0)
    score = fitted_score(samples, rows=100, coreset="k-centre")
    with torch.no_grad():
        scores = score(validation_output(samples))
    assert torch.isfinite(scores).all()
    assert len(set(scores.tolist())) == 1


def test_stored_arrays_make_the_same_score(conv_samples: ScoreSamples) -> None:
    score, output = fitted_score(conv_samples, rows=50), validation_output(conv_samples)
    loaded = PatchBankScore(**{**ALL_PATCHES, "rows": 50})
    loaded.load_arrays(score.stored_arrays())
    assert torch.equal(loaded(output), score(output))


def test_it_is_a_part_of_a_combined_score_whose_map_is_its_own(conv_samples: ScoreSamples) -> None:
    patch_spec = PatchBankScoreSpec(rows=50, neighbours=3)
    combined = CombinedScore((NormalisedResidualScoreSpec(), patch_spec), choose="all")
    combined.fit(conv_samples)
    output = validation_output(conv_samples)
    assert combined.has_pixel_map
    with torch.no_grad():
        own_map = fitted_score(conv_samples, rows=50, coreset="k-centre", neighbours=3).pixel_map(output)
        assert torch.equal(combined.pixel_map(output), own_map)
    assert not CombinedScore((NormalisedResidualScoreSpec(), NormalisedResidualScoreSpec(0.1)), choose="all").has_pixel_map


# ---------------------------------------------------------------- settings


def test_it_needs_an_encoder_with_maps_and_rows_for_its_neighbours(spec: FitSpec) -> None:
    document = dataclasses.replace(spec, model=dataclasses.replace(spec.model, encode=DenseEncoderSpec((8,)))).to_dict()
    document["score"] = {"kind": "patch-bank"}
    with pytest.raises(SpecError, match=r"score: patch-bank needs maps of features, as of model.encode conv or onnx, got dense"):
        FitSpec.from_dict(document, "spec.json")
    document = spec.to_dict() | {"score": {"kind": "patch-bank", "rows": 5, "neighbours": 6}}
    with pytest.raises(SpecError, match="neighbours is 6 and rows is 5"):
        FitSpec.from_dict(document, "spec.json")
