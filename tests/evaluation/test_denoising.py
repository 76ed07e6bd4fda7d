import numpy as np
import pytest

from aeops.errors import DataError
from aeops.evaluation.reconstruction import psnr
from aeops.evaluation.studies.denoising import fit_filters, run_denoising_study
from aeops.kinds.arrays import mse_per_image
from aeops.recipe.studies import DenoisingStudy

NOISY = {"model": {"corrupt": {"kind": "gaussian", "deviation": 0.5}}, "source": {"given": "corrupted"}}


@pytest.fixture
def pairs() -> tuple[np.ndarray, np.ndarray]:
    """Correlated samples well inside [0, 1], and the same with noise of deviation 0.1."""
    rng = np.random.default_rng(0)
    clean = 0.5 + 0.05 * rng.normal(size=(4000, 3)) @ rng.normal(size=(3, 6))
    return clean, clean + rng.normal(0, 0.1, clean.shape)


def test_wieners_filter_is_the_textbooks(pairs):
    clean, noisy = pairs
    mean, covariance = clean.mean(axis=0), np.cov(clean.T)
    by_hand = mean + (noisy - mean) @ np.linalg.inv(covariance + 0.01 * np.eye(6)) @ covariance
    np.testing.assert_allclose(fit_filters(clean, noisy, 0.01)[0](noisy), by_hand.clip(0, 1), atol=1e-5)


def test_the_fitted_filter_is_the_least_squares_solution(pairs):
    clean, noisy = pairs
    columns = np.column_stack([noisy, np.ones(len(noisy))])
    by_hand = columns @ np.linalg.lstsq(columns, clean, rcond=None)[0]
    np.testing.assert_allclose(fit_filters(clean, noisy, 0.01)[1](noisy), by_hand.clip(0, 1), atol=1e-4)


def test_where_noise_is_clipped_the_fitted_filter_beats_wieners(digits):
    clean = (digits[0][:2000] / 255).reshape(2000, -1).astype(np.float32)
    noisy = (clean + np.random.default_rng(1).normal(0, 0.5, clean.shape)).clip(0, 1).astype(np.float32)
    wiener, linear = fit_filters(clean[:1500], noisy[:1500], 0.25)
    errors = [psnr(float(mse_per_image(clean[1500:], found(noisy[1500:])).mean())) for found in (wiener, linear)]
    assert psnr(float(mse_per_image(clean[1500:], noisy[1500:]).mean())) == pytest.approx(9.4, abs=0.2)
    assert errors[0] == pytest.approx(15.1, abs=0.3)
    assert errors[1] > errors[0] + 1


@pytest.mark.slow
def test_the_study_tells_what_the_model_makes_of_the_noise_it_was_given(scene, tmp_path):
    room = scene(**NOISY)
    found = run_denoising_study(DenoisingStudy(), room, tmp_path)
    normal = ~room.data.novelty
    error = np.square(room.data.test[normal] / 255 - room.predictions["reconstruction"][normal] / 255).mean()
    assert found.metrics["model"]["mse"] == pytest.approx(error, rel=1e-4)
    assert found.metrics["noisy"]["psnr"] == pytest.approx(9.4, abs=0.2)
    best = max(found.metrics[name]["psnr"] for name in ("wiener", "linear"))
    assert found.metrics["gain_db"] == pytest.approx(found.metrics["model"]["psnr"] - best)
    read = [found.metrics[name]["accuracy"] for name in ("noisy", "model", "clean")]
    assert read[0] < read[2]
    assert read[2] > 0.8
    assert [row[0] for row in found.rows] == ["noisy", "Wiener filter", "linear MMSE filter", "model", "clean"]


def test_without_labels_nobody_reads(scene, tmp_path):
    room = scene(**NOISY)
    room.data.__dict__["train_labels"] = np.full(len(room.data.train), -1)
    found = run_denoising_study(DenoisingStudy(), room, tmp_path)
    assert "accuracy" not in found.metrics["model"]
    assert "clean" not in found.metrics
    assert found.head == ["", "PSNR (dB)", "SSIM"]


def test_samples_prepared_without_training_labels_are_refused_with_what_to_do(scene, tmp_path):
    room = scene(**NOISY)
    labels = room.data.folder / "train_labels.npy"
    kept = labels.read_bytes()
    labels.unlink()
    try:
        with pytest.raises(DataError, match=r"train_labels\.npy is missing: .* prepare them again"):
            run_denoising_study(DenoisingStudy(), room, tmp_path)
    finally:
        labels.write_bytes(kept)
