"""How much Gaussian noise the model takes away, beside linear filters that know the noise, and who can read the result."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ae_models.spec import GaussianCorruptionSpec
from aeops.drawing import mosaics
from aeops.drawing.words import format_number, format_share
from aeops.evaluation import model_input
from aeops.evaluation.reconstruction import reconstruction_metrics
from aeops.evaluation.study import EvaluationContext, StudyResult
from aeops.recipe.studies import DenoisingStudy

STRIPS = "denoising_strips.svg"
SHOWN = 10  # samples in it
ROWS = 20_000  # training samples that the filters are fitted on
DIRECTIONS = 512  # principal axes in which the filters work: beyond them there is noise alone
EXACT = 4096  # numbers in a sample up to which the axes are computed exactly
READER_ROWS, READER_WIDTH, READER_EPOCHS = 10_000, 128, 15  # what the classifier is trained on, its hidden numbers, how long

Samples = np.ndarray  # (n, numbers in a sample), values in [0, 1]


def run_denoising_study(spec: DenoisingStudy, scene: EvaluationContext, figures: Path) -> StudyResult:
    """Noisy, filtered and denoised test normals against the clean ones.

    Raises:
        DataError: a classifier is asked for, and the samples were prepared without the training labels.
    """
    corruption = scene.recipe.fit.model.corrupt
    assert isinstance(corruption, GaussianCorruptionSpec), "the recipe was checked"
    deviation = corruption.deviation
    shape, normal = scene.target.shape[1:], scene.is_normal
    clean, noisy = flat(scene.target[normal]), flat(scene.data.scale(scene.inputs[normal]))
    wiener, linear = fit_filters(*training_pairs(scene), deviation**2)
    made = {
        "noisy": noisy,
        "Wiener filter": wiener(noisy),
        "linear MMSE filter": linear(noisy),
        "autoencoder": flat(scene.reconstructions[normal]),
    }
    measured = {name: reconstruction_metrics(images(clean, shape), images(found, shape)) for name, found in made.items()}
    read = accuracies(scene, made | {"clean": clean}) if spec.classifier else {}
    chosen = np.linspace(0, len(clean) - 1, min(SHOWN, len(clean))).astype(int)
    strips = {"noisy": noisy, "linear": made["linear MMSE filter"], "autoencoder": made["autoencoder"], "clean": clean}
    mosaics.draw_rows(figures / STRIPS, {name: images(samples[chosen], shape) for name, samples in strips.items()})
    return tell(deviation, measured, read, len(noisy))


def tell(deviation: float, measured: dict[str, dict[str, float | None]], read: dict[str, float], rows: int) -> StudyResult:
    gain = decibels(measured, "autoencoder") - max(decibels(measured, "Wiener filter"), decibels(measured, "linear MMSE filter"))
    lead = (
        f"Gaussian noise of deviation {deviation:g}, clipped to [0, 1]: the autoencoder is {abs(gain):.2f} dB "
        f"{'better' if gain >= 0 else 'worse'} than the better linear filter."
    )
    note = (
        f"{rows:,} normal test samples. Both filters are linear and fitted on training samples: Wiener's takes the noise for "
        "Gaussian of known variance; the other is the linear filter of least squared error for the noise as it is, clipped."
    )
    table = [[name, format_number(found["psnr"], 2), format_number(found["ssim"])] for name, found in measured.items()]
    head = ["", "PSNR (dB)", "SSIM"]
    if read:
        lead += f" A classifier of clean samples reads {format_share(read['noisy'])} of the noisy ones, "
        lead += f"{format_share(read['autoencoder'])} of the denoised and {format_share(read['clean'])} of the clean."
        note += " The classifier never saw a noisy or a denoised sample."
        table = [[*row, format_share(read[row[0]])] for row in [*table, ["clean", "", ""]]]
        head += ["read correctly"]
    return StudyResult(
        title="Denoising",
        lead=lead,
        head=head,
        rows=table,
        figures=[(STRIPS, "Test samples: noisy as given, by the linear filter, by the autoencoder, and clean.")],
        metrics=metrics(measured, read) | {"deviation": deviation, "gain_db": gain},
        note=note,
    )


def metrics(measured: dict[str, dict[str, float | None]], read: dict[str, float]) -> dict[str, Any]:
    keys = {"noisy": "noisy", "Wiener filter": "wiener", "linear MMSE filter": "linear", "autoencoder": "model", "clean": "clean"}
    found: dict[str, Any] = {keys[name]: dict(one) for name, one in measured.items()}
    for name, accuracy in read.items():
        found[keys[name]] = found.get(keys[name], {}) | {"accuracy": accuracy}
    return found


def decibels(measured: dict[str, dict[str, float | None]], name: str) -> float:
    return measured[name]["psnr"] or 0.0


def flat(samples: np.ndarray) -> Samples:
    return samples.reshape(len(samples), -1)


def images(samples: Samples, shape: tuple[int, ...]) -> np.ndarray:
    return samples.reshape(len(samples), *shape)


# ---------------------------------------------------------------- the linear filters


def training_pairs(scene: EvaluationContext) -> tuple[Samples, Samples]:
    """Training samples, clean and noisy as they are served."""
    chosen = scene.data.train[:ROWS]
    noisy = model_input.served_inputs(scene.recipe.fit, chosen, model_input.TRAIN_SEED)
    return flat(scene.data.scale(chosen)), flat(scene.data.scale(noisy))


def fit_filters(
    clean: Samples, noisy: Samples, variance: float
) -> tuple[Callable[[Samples], Samples], Callable[[Samples], Samples]]:
    """Two linear estimates of clean samples from noisy ones, in the principal axes of the clean ones.

    Wiener's: each axis of variance v is shrunk by v / (v + noise variance). The second regresses the clean coordinates on
    the noisy ones, so that it also knows what clipping does to mean and variance: the linear estimate of least mean squared
    error (Kay 1993, Fundamentals of Statistical Signal Processing I, chapter 12). Outputs are clipped to [0, 1].
    """
    count = min(DIRECTIONS, *clean.shape)
    with threadpool_limits(1, "blas"):
        solver = "covariance_eigh" if clean.shape[1] <= EXACT else "randomized"
        pca = PCA(count, svd_solver=solver, random_state=0).fit(clean)
        shrink = pca.explained_variance_ / (pca.explained_variance_ + variance)
        c, t = pca.transform(clean), noisy @ pca.components_.T
        middle = t.mean(axis=0)
        spread = (t - middle).T @ (t - middle)
        weights = np.linalg.solve(spread + 1e-6 * np.trace(spread) / count * np.eye(count), (t - middle).T @ c)

    def wiener(samples: Samples) -> Samples:
        return np.asarray(pca.inverse_transform(pca.transform(samples) * shrink).clip(0, 1), dtype=np.float32)

    def linear(samples: Samples) -> Samples:
        found = pca.inverse_transform((samples @ pca.components_.T - middle) @ weights)
        return np.asarray(found.clip(0, 1), dtype=np.float32)

    return wiener, linear


# ---------------------------------------------------------------- the reader


def accuracies(scene: EvaluationContext, made: dict[str, Samples]) -> dict[str, float]:
    """Share of labelled test normals that a classifier of clean training samples reads correctly, for each of `made`.

    Nothing where training or test samples have no labels.
    """
    known = np.flatnonzero(scene.data.train_labels >= 0)[:READER_ROWS]
    labels = scene.data.labels[scene.is_normal]
    if not len(known) or not (labels >= 0).any():
        return {}
    reader = MLPClassifier((READER_WIDTH,), max_iter=READER_EPOCHS, random_state=0)
    with threadpool_limits(1, "blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # so many epochs and no more: one reader, not the best one
        reader.fit(flat(scene.data.scale(scene.data.train[known])), scene.data.train_labels[known])
        return {name: float((reader.predict(found) == labels)[labels >= 0].mean()) for name, found in made.items()}
