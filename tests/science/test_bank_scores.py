"""Bank scores against their formulas in numpy, on the vectors of a trained model; a bundle of each, and bad settings."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from scipy.ndimage import gaussian_filter, map_coordinates, shift

from ae_models import bank_scores
from ae_models.autoencoder import Autoencoder
from ae_models.bank_scores import KnnScore, LocalHullScore, choose_k_centres, solve_by_conjugate_gradients
from ae_models.bundle import load_bundle
from ae_models.calibration import calibrate
from ae_models.errors import SpecError
from ae_models.onnx_outputs import keep_outputs
from ae_models.orientations import OrientationHistograms
from ae_models.sample_sets import ArraySampleSet, SampleRoles
from ae_models.score_interface import ENERGY_FLOOR
from ae_models.score_samples import ScoreSamples
from ae_models.spec import FitSpec, InputSpec, KnnScoreSpec, LocalHullScoreSpec
from ae_models.tangents import tangent_vectors

CONTENT = "0" * 64
INPUT = InputSpec("image", (1, 28, 28), 0, 255)
INPUT_SPACE = {"space": "input", "blur": 1.0, "energy": 0.5, "pool": 1, "rows": 1000, "coreset": "random"}
CODE_SPACE = {**INPUT_SPACE, "space": "code", "blur": 0.0, "energy": 0.0}
ORIENTATIONS = {**INPUT_SPACE, "space": "orientations", "blur": 0.7, "energy": 0.0, "pool": 4}


@pytest.fixture(scope="module")
def autoencoder(spec: FitSpec) -> Autoencoder:
    """A model before its training: its codes differ as the inputs do."""
    torch.manual_seed(0)
    return Autoencoder(spec.model, spec.input).eval()


@pytest.fixture(scope="module")
def samples(autoencoder: Autoencoder, digits: np.ndarray) -> ScoreSamples:
    return ScoreSamples(autoencoder, INPUT, ArraySampleSet(digits[:320]), ArraySampleSet(digits[320:384]), seed=3)


@pytest.fixture(scope="module")
def trained(spec: FitSpec, fit_into: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A training whose codes differ between samples, which those of `fitted` hardly do."""
    slower = dataclasses.replace(spec, train=dataclasses.replace(spec.train, learning_rate=0.004))
    return slower, fit_into(slower, tmp_path_factory.mktemp("trained"))


def scored(score: Any, samples: ScoreSamples) -> np.ndarray:
    score.fit(samples)
    with torch.no_grad():
        return np.concatenate([score(output).numpy() for output in samples.outputs("validation")])


def blurred(raw: np.ndarray) -> np.ndarray:
    x = raw / 255.0
    return gaussian_filter(x, (0, 0, 1, 1), mode="constant", radius=(0, 0, 3, 3)).reshape(len(x), -1)


def log_energy(raw: np.ndarray) -> np.ndarray:
    return np.asarray(np.log((blurred(raw) ** 2).sum(1) + ENERGY_FLOOR))


def squared_distances(vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return np.asarray(((vectors[:, None] - rows[None]) ** 2).sum(2))


def test_knn_is_the_formula_in_numpy(samples: ScoreSamples, digits: np.ndarray) -> None:
    bank, vectors = blurred(digits[:320]), blurred(digits[320:384])
    expected = np.log(np.sort(squared_distances(vectors, bank), axis=1)[:, 4] + ENERGY_FLOOR)
    actual = scored(KnnScore(neighbours=5, **INPUT_SPACE), samples)
    np.testing.assert_allclose(actual, expected - 0.5 * log_energy(digits[320:384]), rtol=1e-4, atol=1e-4)


def test_knn_by_the_mean_distance_is_the_formula_in_numpy(samples: ScoreSamples, digits: np.ndarray) -> None:
    distances = np.sqrt(squared_distances(blurred(digits[320:384]), blurred(digits[:320])))
    nearest = np.sort(distances, axis=1)[:, :5].mean(1)
    expected = np.log(nearest**2 + ENERGY_FLOOR) - 0.5 * log_energy(digits[320:384])
    actual = scored(KnnScore(neighbours=5, distance="mean", **INPUT_SPACE), samples)
    np.testing.assert_allclose(actual, expected, atol=1e-3)


def test_the_local_hull_is_the_ridge_regression_in_numpy(samples: ScoreSamples, digits: np.ndarray) -> None:
    bank, vectors = blurred(digits[:320]), blurred(digits[320:384])
    nearest = np.argsort(squared_distances(vectors, bank), axis=1)[:, :20]
    energies = []
    for vector, rows in zip(vectors, nearest, strict=True):
        directions = bank[rows] - bank[rows].mean(0)
        gram = directions @ directions.T
        weights = np.linalg.solve(gram + 0.3 * np.diag(gram).mean() * np.eye(20), directions @ (vector - bank[rows].mean(0)))
        energies.append((((vector - bank[rows].mean(0)) - weights @ directions) ** 2).sum())
    expected = np.log(np.array(energies) + ENERGY_FLOOR) - 0.5 * log_energy(digits[320:384])
    actual = scored(LocalHullScore(neighbours=20, ridge=0.3, **INPUT_SPACE), samples)
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-3)


def moved(images: np.ndarray, way: str) -> np.ndarray:
    """Return images (n, 28, 28) moved by a tenth of what a tangent stands for, by interpolation."""
    down, right = np.mgrid[:28, :28] - 13.5
    ways = {"right": (0, 1), "down": (1, 0), "scale": (down / 14, right / 14), "rotation": (-right / 14, down / 14)}
    places = np.mgrid[:28, :28] + 0.1 * np.array([np.broadcast_to(part, (28, 28)) for part in ways[way]])
    return np.stack([map_coordinates(image, places, order=3, mode="constant") for image in images])


@pytest.mark.parametrize("way", ["right", "down", "scale", "rotation"])
def test_tangents_span_what_small_moves_change(digits: np.ndarray, way: str) -> None:
    images = blurred(digits[:30]).reshape(-1, 28, 28)
    changes = (moved(images, way) - images).reshape(30, -1)
    tangents = tangent_vectors(torch.from_numpy(images[:, None])).numpy()
    assert tangents.shape == (30, 6, 784)
    right, down, right_by_x, right_by_y, down_by_x, down_by_y = tangents.swapaxes(0, 1)
    expected = {"right": right, "down": down, "scale": right_by_x + down_by_y, "rotation": right_by_y - down_by_x}[way]
    for change, tangent in zip(changes, 0.1 * expected, strict=True):
        assert np.linalg.norm(change - tangent) < 0.35 * np.linalg.norm(change)


def test_a_hull_with_tangents_is_the_ridge_regression_in_numpy(
    autoencoder: Autoencoder, samples: ScoreSamples, digits: np.ndarray
) -> None:
    bank, vectors = blurred(digits[:320]), blurred(digits[320:384])
    nearest = np.argsort(squared_distances(vectors, bank), axis=1)[:, :20]
    energies = []
    for vector, rows in zip(vectors, nearest, strict=True):
        centre = bank[rows].mean(0)
        groups = [bank[rows] - centre]
        for x in (vector, centre):
            groups.append(tangent_vectors(torch.from_numpy(x.reshape(1, 1, 28, 28)))[0].numpy())
        directions = np.concatenate([group / np.sqrt((group**2).sum(1).mean()) for group in groups])
        gram = directions @ directions.T
        weights = np.linalg.solve(gram + 0.3 * np.eye(len(gram)), directions @ (vector - centre))
        energies.append((((vector - centre) - weights @ directions) ** 2).sum())
    expected = np.log(np.array(energies) + ENERGY_FLOOR) - 0.5 * log_energy(digits[320:384])
    score = LocalHullScore(neighbours=20, ridge=0.3, tangents=True, **INPUT_SPACE)
    score.attach(autoencoder)
    np.testing.assert_allclose(scored(score, samples), expected, rtol=1e-3, atol=1e-3)


def test_with_tangents_a_shifted_sample_is_less_of_a_novelty(
    autoencoder: Autoencoder, samples: ScoreSamples, digits: np.ndarray
) -> None:
    """Half a pixel to the right changes a training sample's score by less than half of what it changes without tangents."""
    at_hand, shifted = digits[:60].astype(np.float32), np.empty((60, 1, 28, 28), np.float32)
    shifted[:, 0] = np.stack([shift(image, (0, 0.5), order=1) for image in at_hand[:, 0]])
    rise = {}
    for tangents in (False, True):
        score = LocalHullScore(neighbours=20, ridge=0.3, tangents=tangents, **INPUT_SPACE)
        score.attach(autoencoder)
        score.fit(samples)
        with torch.no_grad():
            before, after = (score(autoencoder.run(torch.from_numpy(x / 255))) for x in (at_hand, shifted))
        rise[tangents] = float((after - before).mean())
    assert rise[True] < rise[False] / 2, rise


def orientation_hull(autoencoder: Autoencoder, **settings: Any) -> LocalHullScore:
    score = LocalHullScore(neighbours=20, ridge=0.3, **ORIENTATIONS, **settings)
    score.attach(autoencoder)
    return score


def test_a_hull_of_orientations_is_the_ridge_regression_in_numpy(
    autoencoder: Autoencoder, samples: ScoreSamples, digits: np.ndarray
) -> None:
    histograms = OrientationHistograms((1, 28, 28), 0.7, 4)
    inputs = torch.from_numpy(digits[:384].astype(np.float32) / 255)
    vectors, tangents = histograms(inputs).double().numpy(), histograms.tangents(inputs).double().numpy()
    bank, energies = vectors[:320], []
    for vector, moves in zip(vectors[320:], tangents[320:], strict=True):
        nearest = bank[np.argsort(((bank - vector) ** 2).sum(1))[:20]]
        groups = (nearest - nearest.mean(0), moves)
        directions = np.concatenate([group / np.sqrt((group**2).sum(1).mean()) for group in groups])
        offset = vector - nearest.mean(0)
        weights = np.linalg.solve(directions @ directions.T + 0.3 * np.eye(26), directions @ offset)
        energies.append(((offset - weights @ directions) ** 2).sum())
    actual = scored(orientation_hull(autoencoder, tangents=True), samples)
    np.testing.assert_allclose(actual, np.log(np.array(energies) + ENERGY_FLOOR), rtol=1e-3, atol=1e-3)


def test_a_hull_of_orientations_shows_where_an_image_is_odd(
    autoencoder: Autoencoder, samples: ScoreSamples, digits: np.ndarray
) -> None:
    """A white square in a corner, where no digit has ink: the map is highest there, and the score rises."""
    score = orientation_hull(autoencoder)
    score.fit(samples)
    assert score.has_pixel_map
    odd = digits[320:330].astype(np.float32).copy()
    odd[:, :, 18:26, 1:9] = 255
    with torch.no_grad():
        before, after = (autoencoder.run(torch.from_numpy(x / 255)) for x in (digits[320:330].astype(np.float32), odd))
        assert (score(after) > score(before)).all()
        pixel_map = score.pixel_map(after)
    assert pixel_map is not None
    for place in pixel_map.flatten(1).argmax(1).tolist():
        row, column = divmod(place, 28)
        assert 15 <= row < 28
        assert column < 12


def test_codes_are_compared_after_whitening(samples: ScoreSamples) -> None:
    codes = {
        role: np.concatenate([output.latent.detach().numpy() for output in samples.outputs(role)])
        for role in ("train", "validation")
    }
    inverse = np.linalg.inv(np.cov(codes["train"], rowvar=False))
    differences = codes["validation"][:, None] - codes["train"][None]
    mahalanobis = np.einsum("nmd,de,nme->nm", differences, inverse, differences)
    expected = np.log(np.sort(mahalanobis, axis=1)[:, 4] + ENERGY_FLOOR)
    actual = scored(KnnScore(neighbours=5, **CODE_SPACE), samples)
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-3)


def test_pooled_inputs_make_a_smaller_bank(samples: ScoreSamples) -> None:
    score = KnnScore(neighbours=5, **{**INPUT_SPACE, "pool": 4})
    scored(score, samples)
    assert score.bank.shape == (1, 320, 49)


def test_a_level_that_is_subtracted_counts_no_more(samples: ScoreSamples, digits: np.ndarray) -> None:
    [output] = samples.run(ArraySampleSet(digits[320:384] // 2))
    brighter = output._replace(inputs=output.inputs + 0.25)
    for kind, settings in ((KnnScore, {}), (LocalHullScore, {"ridge": 0.3})):
        score = kind(neighbours=5, **{**INPUT_SPACE, "blur": 0.0, "energy": 0.0}, level=1.0, **settings)
        score.fit(samples)
        np.testing.assert_allclose(score(brighter), score(output), atol=1e-3)
        assert (score.nearest(brighter) == score.nearest(output)).all()
    half = KnnScore(neighbours=5, **INPUT_SPACE, level=0.5)
    train, vectors = digits[:320] / 255, digits[320:384] / 255
    expected = np.sort(squared_distances(blurred(255 * half_level(vectors)), blurred(255 * half_level(train))), axis=1)[:, 4]
    energies = np.square(blurred(255 * half_level(vectors))).sum(1)
    expected = np.log(expected + ENERGY_FLOOR) - 0.5 * np.log(energies + ENERGY_FLOOR)
    np.testing.assert_allclose(scored(half, samples), expected, rtol=1e-4, atol=1e-3)


def half_level(images: np.ndarray) -> np.ndarray:
    return np.asarray(images - 0.5 * images.mean(axis=(2, 3), keepdims=True))


def test_the_nearest_sample_is_named(samples: ScoreSamples, digits: np.ndarray) -> None:
    score = KnnScore(neighbours=5, **INPUT_SPACE)
    scored(score, samples)
    [output] = samples.run(ArraySampleSet(digits[40:50]))
    assert score.nearest(output).tolist() == list(range(40, 50))
    kept = score.bank_samples()
    assert kept is not None
    assert (kept == digits[:320]).all()


@pytest.mark.parametrize("coreset", ["random", "k-centre"])
def test_a_coreset_has_the_stated_size_and_is_the_same_each_time(samples: ScoreSamples, coreset: str) -> None:
    settings = {**INPUT_SPACE, "rows": 50, "coreset": coreset}
    first, second = KnnScore(neighbours=5, **settings), KnnScore(neighbours=5, **settings)
    scored(first, samples), scored(second, samples)
    assert first.learnt_facts() == {"bank_rows": 50}
    assert torch.equal(first.bank, second.bank)
    assert len(torch.unique(first.bank[0], dim=0)) == 50


def test_k_centre_takes_the_farthest_row_each_time() -> None:
    vectors = torch.from_numpy(np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32))
    chosen = choose_k_centres(vectors, 8)
    for count in range(1, 8):
        distance = torch.cdist(vectors, vectors[chosen[:count]]).amin(1)
        assert distance[chosen[count]] == pytest.approx(float(distance.max()), rel=1e-5)


def test_k_centre_of_equal_rows_takes_none_twice() -> None:
    assert sorted(choose_k_centres(torch.zeros(5, 3), 5)) == [0, 1, 2, 3, 4]


def test_a_search_in_small_blocks_finds_the_same_rows(samples: ScoreSamples, monkeypatch: pytest.MonkeyPatch) -> None:
    score = KnnScore(neighbours=5, **INPUT_SPACE)
    at_once = scored(score, samples)
    monkeypatch.setattr(bank_scores, "_SEARCHED_VALUES", 1)
    monkeypatch.setattr(bank_scores, "_LEAST_SEARCHED", 7)
    np.testing.assert_allclose(scored(score, samples), at_once, rtol=1e-5)


def test_conjugate_gradients_solve_the_system() -> None:
    generator = np.random.default_rng(0)
    directions = generator.normal(size=(7, 20, 50))
    gram = directions @ directions.transpose(0, 2, 1)
    ridge = 0.05 * np.einsum("nkk->n", gram) / 20
    right_side = generator.normal(size=(7, 20, 1))
    expected = np.linalg.solve(gram + ridge[:, None, None] * np.eye(20), right_side)
    matrices = [torch.from_numpy((values / ridge[:, None, None]).astype(np.float32)) for values in (gram, right_side)]
    actual = solve_by_conjugate_gradients(matrices[0], 1.0, matrices[1], steps=20)
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-3, atol=1e-5)


def test_equal_training_samples_give_finite_scores(autoencoder: Autoencoder, digits: np.ndarray) -> None:
    equal = ArraySampleSet(np.repeat(digits[:1], 30, axis=0))
    for score in (KnnScore(neighbours=5, **CODE_SPACE), LocalHullScore(neighbours=20, ridge=0.3, **INPUT_SPACE)):
        assert np.isfinite(scored(score, ScoreSamples(autoencoder, INPUT, equal, ArraySampleSet(digits[:5]), seed=0))).all()


def test_fewer_training_samples_than_neighbours_are_refused(autoencoder: Autoencoder, digits: np.ndarray) -> None:
    few = ScoreSamples(autoencoder, INPUT, ArraySampleSet(digits[:4]), ArraySampleSet(digits[:5]), seed=0)
    with pytest.raises(SpecError, match=r"score.neighbours: expected at most 4, the number of training samples, got 5"):
        KnnScore(neighbours=5, **INPUT_SPACE).fit(few)


@pytest.mark.slow
@pytest.mark.parametrize(
    "score",
    [
        KnnScoreSpec(blur=1.0, energy=0.5),
        LocalHullScoreSpec(blur=1.0, energy=0.5, rows=100, coreset="k-centre", level=1.0),
        LocalHullScoreSpec(space="code"),
        LocalHullScoreSpec(blur=1.0, energy=0.5, tangents=True),
        LocalHullScoreSpec(space="orientations", blur=0.7, pool=4, tangents=True),
        KnnScoreSpec(space="orientations", pool=5),
    ],
)
def test_a_bundle_scores_as_its_graph_and_is_the_same_each_time(
    score: KnnScoreSpec | LocalHullScoreSpec, trained: Any, digits: np.ndarray, tmp_path: Path
) -> None:
    slower, fitted = trained
    spec = dataclasses.replace(slower, score=score)
    roles = SampleRoles(*(ArraySampleSet(part) for part in (digits[:320], digits[320:384], digits[384:])))
    for name in ("bundle", "again"):
        calibrate(spec, fitted.history, roles, content_sha256=CONTENT, bundle=tmp_path / name)
    assert (tmp_path / "bundle" / "SHA256SUMS").read_text() == (tmp_path / "again" / "SHA256SUMS").read_text()
    loaded = load_bundle(tmp_path / "bundle")
    session = onnxruntime.InferenceSession(str(tmp_path / "bundle" / "model.onnx"), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    assert names[5:] == (["nearest", "pixel_map"] if score.space == "orientations" else ["nearest"])
    score_alone = keep_outputs((tmp_path / "bundle" / "model.onnx").read_bytes(), names[:3])
    score_session = onnxruntime.InferenceSession(score_alone, providers=["CPUExecutionProvider"])
    for rows in (1, 70):
        raw = digits[384 : 384 + rows].astype(np.float32)
        expected = dict(zip(names, loaded.scorer(torch.from_numpy(raw)), strict=True))
        answers = session.run(None, {"input": raw})
        for values, values_alone in zip(answers[:3], score_session.run(names[:3], {"input": raw}), strict=True):
            np.testing.assert_array_equal(values, values_alone)
        for name, values in zip(names, answers, strict=True):
            if name == "p_value":  # a rank, which a rounding may change by one
                continue
            np.testing.assert_allclose(values, expected[name].detach().numpy(), atol=1e-3)
    assert json.loads((tmp_path / "bundle" / "bundle.json").read_text())["score_facts"]["bank_rows"] <= 320
    size = (tmp_path / "bundle" / "model.onnx").stat().st_size
    bank_bytes = loaded.scorer.score.stored_arrays()["bank"].nbytes
    assert size < 1.5 * bank_bytes + 500_000  # the bank lies in the file once


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "knn", "neighbours": 50, "rows": 20}, "neighbours is 50 and rows is 20"),
        (
            {"kind": "knn", "space": "code", "blur": 1.0, "energy": 0.5},
            "space code has no use for blur and energy: leave them out",
        ),
        ({"kind": "knn", "space": "code", "level": 1.0}, "space code has no use for level: leave them out"),
        ({"kind": "knn", "space": "orientations", "pool": 4, "energy": 0.5}, "space orientations has no use for energy: leave"),
        ({"kind": "local-hull", "space": "orientations"}, "pool is 1, expected 2 or more with space orientations"),
        ({"kind": "local-hull", "pool": 3}, "pool is 3, and does not divide the sides [28, 28]"),
        ({"kind": "local-hull", "space": "pixels"}, "expected input, orientations or code, got 'pixels'"),
        ({"kind": "local-hull", "space": "code", "tangents": True}, "space code has no use for tangents: leave them out"),
        ({"kind": "denoising"}, "denoising needs a model trained on noise, with model.corrupt gaussian, got none"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    settings: dict[str, Any], message: str, spec: FitSpec, make_spec: Callable[..., FitSpec]
) -> None:
    with pytest.raises(SpecError) as refusal:
        make_spec(score=settings)
    assert message in str(refusal.value)


@pytest.mark.parametrize("kind", ["series", "text"])
def test_tangents_are_of_images(kind: str, spec: FitSpec) -> None:
    other = InputSpec(kind, (1, 48), 0, 255)
    assert f"expected no tangents for input.kind {kind}: they are moves of an image" in LocalHullScoreSpec(
        tangents=True
    ).compatibility_errors(spec.model, other, spec.train)


@pytest.mark.parametrize("kind", ["series", "table", "text"])
def test_orientations_are_of_images(kind: str, spec: FitSpec) -> None:
    for score in (KnnScoreSpec(space="orientations", pool=4), LocalHullScoreSpec(space="orientations", pool=4)):
        messages = score.compatibility_errors(spec.model, InputSpec(kind, (1, 48), 0, 255), spec.train)
        assert messages == [f"expected space input or code for input.kind {kind}, got orientations: they are of images"]


@pytest.fixture
def make_spec(spec: FitSpec) -> Callable[..., FitSpec]:
    return lambda **sections: FitSpec.from_dict(spec.to_dict() | sections, "spec.json")
