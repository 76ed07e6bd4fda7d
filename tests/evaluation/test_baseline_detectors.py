"""Baselines beside a model: each by its formula, with the preprocessing of the model's score, and with samples at the edge."""

import numpy as np
import pytest
import torch
from sklearn.ensemble import IsolationForest

from ae_models import scores
from ae_models.blur import blur_axes, gaussian_kernel
from ae_models.model_output import ModelOutput
from ae_models.spec import (
    CodeResidualScoreSpec,
    CombinedScoreSpec,
    KnnScoreSpec,
    LocalHullScoreSpec,
    NormalisedResidualScoreSpec,
)
from aeops.errors import DataError, UsageError
from aeops.evaluation import baselines
from aeops.evaluation.baselines import FittedBaselines, PcaBaseline, ResidualTreatment, hull_residuals
from aeops.evaluation.sampling import MAX_BASELINE_ROWS, MAX_BASELINE_VALUES, baseline_rows, draw_baseline_rows

PLAIN = ResidualTreatment()
BLURRED = ResidualTreatment(blur=1.0, energy=0.5)
NAMES = ["pca_residual", "knn", "local_hull_10", "local_hull_20", "isolation_forest"]


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 1, 6, 5), dtype=np.float32)


def flat(samples: np.ndarray) -> np.ndarray:
    return samples.reshape(len(samples), -1).astype(np.float64)


def blurred_by_torch(samples: np.ndarray, deviation: float) -> np.ndarray:
    kernel = gaussian_kernel(deviation)
    return flat(blur_axes(torch.from_numpy(samples), kernel, len(kernel) // 2).numpy())


def by_distance(train: np.ndarray, sample: np.ndarray) -> np.ndarray:
    return train[np.argsort(np.linalg.norm(train - sample, axis=1), kind="stable")]


# ---------------------------------------------------------------- preprocessing


@pytest.mark.parametrize("shape", [(4, 2, 9, 7), (4, 3, 11)], ids=["images", "series"])
@pytest.mark.parametrize("deviation", [0.0, 0.4, 1.0, 5.0])
def test_the_blur_is_that_of_the_models_score(shape, deviation):
    samples = np.random.default_rng(1).random(shape, dtype=np.float32)
    found = ResidualTreatment(blur=deviation).blur_samples(samples)
    np.testing.assert_allclose(found, blurred_by_torch(samples, deviation), rtol=1e-5, atol=1e-6)


def test_without_blur_a_residual_is_scored_as_the_model_scores_it():
    x, y = images(5), images(5, seed=1)
    tensors = [torch.from_numpy(values) for values in (x, y)]
    output = ModelOutput(tensors[0], tensors[1], tensors[1], tensors[1], tensors[1], None)
    expected = scores.NormalisedResidualScore(energy=0.5, blur=0.0)(output)
    found = ResidualTreatment(energy=0.5).log_score(np.square(flat(x - y)).sum(axis=1), flat(x))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert baselines.ENERGY_FLOOR == scores.ENERGY_FLOOR


def test_the_treatment_is_that_of_the_recipes_score_or_of_the_default_residual_where_that_is_none():
    assert ResidualTreatment.of_score(NormalisedResidualScoreSpec(energy=0.25, blur=2.0)) == ResidualTreatment(2.0, 0.25)
    assert ResidualTreatment.of_score(KnnScoreSpec(blur=2.0, level=1.0)) == ResidualTreatment(2.0, 0.0), "with its level"
    assert ResidualTreatment.of_score(CodeResidualScoreSpec()) == ResidualTreatment(blur=0.0, energy=0.5)


# ---------------------------------------------------------------- formulas


def test_pca_residual_is_the_clipped_distance_to_the_leading_singular_vectors(digits):
    train, samples = (digits[0][part].astype(np.float64) / 255 for part in (slice(300), slice(300, 340)))
    mean = flat(train).mean(axis=0)
    axes = np.linalg.svd(flat(train) - mean, full_matrices=False)[2][:16]
    outputs = mean + (flat(samples) - mean) @ axes.T @ axes
    residuals = (flat(samples) - outputs.clip(0, 1)).reshape(samples.shape).astype(np.float32)
    energies = np.square(blurred_by_torch(samples.astype(np.float32), 1.0)).sum(axis=1)
    expected = np.log(np.square(blurred_by_torch(residuals, 1.0)).sum(axis=1)) - 0.5 * np.log(energies)
    pca = PcaBaseline.fit(flat(train), 16)
    found = FittedBaselines(train, 5, BLURRED, pca).score(samples)["pca_residual"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(pca.reconstruct(flat(samples)), outputs, atol=1e-8)


def test_knn_is_the_distance_to_the_kth_nearest_of_the_blurred_samples():
    train, samples = images(40), images(8, seed=1)
    blurred_train, blurred = blurred_by_torch(train, 1.0), blurred_by_torch(samples, 1.0)
    distances = [sorted(np.linalg.norm(blurred_train - sample, axis=1))[4] for sample in blurred]
    expected = np.log(np.square(distances)) - 0.5 * np.log(np.square(blurred).sum(axis=1))
    np.testing.assert_allclose(FittedBaselines(train, 5, BLURRED, None).score(samples)["knn"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("neighbours", "ridge"), [(10, 0.1), (20, 0.3)])
def test_the_hulls_residual_is_that_of_the_ridge_regression_on_the_neighbours(neighbours, ridge):
    train, samples = images(60), images(6, seed=1)
    expected = []
    for sample in flat(samples):
        nearest = by_distance(flat(train), sample)[:neighbours]
        mean = nearest.mean(axis=0)
        differences = nearest - mean
        penalty = ridge * np.square(differences).sum(axis=1).mean()
        # The ridge as rows of a least-squares problem: sqrt(penalty) w = 0.
        system = np.concatenate([differences.T, np.sqrt(penalty) * np.eye(neighbours)])
        target = np.concatenate([sample - mean, np.zeros(neighbours)])
        weights = np.linalg.lstsq(system, target, rcond=None)[0]
        expected.append(np.log(np.square(sample - mean - weights @ differences).sum()))
    found = FittedBaselines(train, 1, PLAIN, None).score(samples)
    np.testing.assert_allclose(found[f"local_hull_{neighbours}"], expected, rtol=1e-4, atol=1e-5)


def test_the_forest_is_scikit_learns_on_the_blurred_samples():
    train, samples = images(80), images(9, seed=1)
    forest = IsolationForest(random_state=0).fit(BLURRED.blur_samples(train))
    found = FittedBaselines(train, 1, BLURRED, None).score(samples)["isolation_forest"]
    np.testing.assert_allclose(found, -forest.score_samples(BLURRED.blur_samples(samples)), rtol=1e-6)


# ---------------------------------------------------------------- how many samples


def test_scores_do_not_depend_on_how_many_samples_are_scored_at_once(monkeypatch):
    train, samples = images(50), images(7, seed=1)
    fitted = FittedBaselines(train, 5, BLURRED, PcaBaseline.fit(flat(train).astype(np.float32), 4))
    together = fitted.score(samples)
    assert list(together) == NAMES
    monkeypatch.setattr(baselines, "BLOCK_VALUES", 3 * 20 * 30)  # three samples, each with 20 neighbours of 30 values
    for name, found in fitted.score(samples).items():
        np.testing.assert_allclose(found, together[name], rtol=1e-5)


def test_few_training_samples_are_all_used_and_many_are_a_random_subsample_that_is_always_the_same():
    assert draw_baseline_rows(100, 784).tolist() == list(range(100))
    drawn = draw_baseline_rows(500_000, 784)
    assert len(np.unique(drawn)) == MAX_BASELINE_ROWS
    assert (np.diff(drawn) > 0).all()
    assert 240_000 < drawn.mean() < 260_000
    assert (drawn == draw_baseline_rows(500_000, 784)).all()


def test_large_samples_lower_how_many_are_used():
    assert baseline_rows(30_000, 3 * 256 * 256) == MAX_BASELINE_VALUES // (3 * 256 * 256)
    assert baseline_rows(3, 2 * MAX_BASELINE_VALUES) == 1


# ---------------------------------------------------------------- samples at the edge


def test_more_components_or_neighbours_than_samples_are_refused():
    with pytest.raises(UsageError, match=r"evaluate\.pca_components: expected at most 4 for .* got 5"):
        PcaBaseline.fit(np.zeros((4, 9)), 5)
    with pytest.raises(UsageError, match=r"evaluate\.neighbours: expected at most 4, .* got 5"):
        FittedBaselines(images(4), 5, PLAIN, None)


def test_a_hull_has_all_training_samples_where_there_are_fewer():
    train, samples = images(12), images(5, seed=1)
    fitted = FittedBaselines(train, 5, PLAIN, None)
    assert fitted.neighbour_counts == {"knn": 5, "local_hull_10": 10, "local_hull_20": 12}
    offsets = flat(train) - flat(samples)[:, np.newaxis]
    np.testing.assert_allclose(fitted.score(samples)["local_hull_20"], np.log(hull_residuals(offsets, 0.3)), rtol=1e-4, atol=1e-5)


def test_with_one_training_sample_every_distance_is_to_it():
    train, samples = images(1), images(5, seed=1)
    found = FittedBaselines(train, 1, PLAIN, None).score(samples)
    distances = np.log(np.square(flat(samples) - flat(train)).sum(axis=1))
    for name in ("knn", "local_hull_10", "local_hull_20"):
        np.testing.assert_allclose(found[name], distances, rtol=1e-4, atol=1e-5)
    assert len(set(found["isolation_forest"])) == 1


def test_equal_training_samples_span_a_point():
    train, samples = np.repeat(images(1), 30, axis=0), images(5, seed=1)
    found = FittedBaselines(train, 3, PLAIN, None).score(np.concatenate([train[:1], samples]))
    for name in ("local_hull_10", "local_hull_20"):
        np.testing.assert_allclose(found[name], found["knn"], rtol=1e-5)
        assert found[name][0] == pytest.approx(np.log(baselines.ENERGY_FLOOR))


def test_constant_samples_have_finite_scores():
    blank = np.zeros((25, 1, 6, 5), dtype=np.float32)
    for found in FittedBaselines(blank, 5, BLURRED, PcaBaseline.fit(flat(blank), 3)).score(blank).values():
        assert np.isfinite(found).all()
        assert len(set(found)) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_finite_are_refused(value):
    bad = images(8)
    bad[[2, 5], 0, 3, 1] = value
    with pytest.raises(DataError, match="finite values in the training samples, got 2 of 8 samples with NaN or infinite"):
        FittedBaselines(bad, 5, PLAIN, None)
    with pytest.raises(DataError, match="finite values in the scored samples, got 2 of 8"):
        FittedBaselines(images(9), 5, PLAIN, None).score(bad)


def test_a_combined_score_gives_its_baselines_the_treatment_of_its_residual() -> None:
    residual, code = NormalisedResidualScoreSpec(energy=0.25, blur=2.0), KnnScoreSpec(space="code")
    assert ResidualTreatment.of_score(CombinedScoreSpec((code, residual))) == ResidualTreatment(2.0, 0.25)
    assert ResidualTreatment.of_score(LocalHullScoreSpec(energy=0.5, blur=1.0)) == ResidualTreatment(1.0, 0.5)
    assert ResidualTreatment.of_score(code) == ResidualTreatment.of_score(NormalisedResidualScoreSpec())
