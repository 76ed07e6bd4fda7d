"""How much Gaussian noise the model removes, beside linear filters that know the noise, and how well a classifier reads it."""

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
from aeops.evaluation.sampling import strip_indices
from aeops.evaluation.study import EvaluationContext, StudyResult
from aeops.recipe.studies import DenoisingStudy

STRIPS_FILE = "denoising_strips.svg"
STRIP_SAMPLES = 10  # samples in it
ROWS = 20_000  # training samples that the filters are fitted on
MAX_DIRECTIONS = 512  # principal axes in which the filters work: beyond them there is noise alone
MAX_EXACT_SIZE = 4096  # numbers in a sample up to which the axes are computed exactly
CLASSIFIER_ROWS, CLASSIFIER_WIDTH, CLASSIFIER_EPOCHS = 10_000, 128, 15

FlatSamples = np.ndarray  # (n, numbers in a sample), values in [0, 1]
LinearFilter = Callable[[FlatSamples], FlatSamples]
Quality = dict[str, float | None]  # mse, psnr and ssim

MODEL_NAME = "model"
METRIC_NAMES = {
    "noisy": "noisy",
    "Wiener filter": "wiener",
    "linear MMSE filter": "linear",
    MODEL_NAME: "model",
    "clean": "clean",
}


def run_denoising_study(spec: DenoisingStudy, context: EvaluationContext, figures: Path) -> StudyResult:
    """Compare noisy, filtered and denoised test normals with the clean ones.

    Raises:
        DataError: a classifier is asked for, and the samples were prepared without the training labels.
    """
    corruption = context.recipe.fit.model.corrupt
    assert isinstance(corruption, GaussianCorruptionSpec), "the recipe was checked"
    deviation = corruption.deviation
    shape, normal = context.target.shape[1:], context.is_normal
    clean_samples = _flatten(context.target[normal])
    noisy_samples = _flatten(context.data.scale(context.inputs[normal]))
    wiener_filter, mmse_filter = fit_filters(*_training_pairs(context), deviation**2)
    outputs = {
        "noisy": noisy_samples,
        "Wiener filter": wiener_filter(noisy_samples),
        "linear MMSE filter": mmse_filter(noisy_samples),
        MODEL_NAME: _flatten(context.reconstructions[normal]),
    }
    quality = {}
    for name, samples in outputs.items():
        quality[name] = reconstruction_metrics(clean_samples.reshape(-1, *shape), samples.reshape(-1, *shape))
    accuracy_values = {}
    if spec.classifier:
        accuracy_values = _classifier_accuracies(context, outputs | {"clean": clean_samples})
    strip_rows = strip_indices(len(clean_samples), STRIP_SAMPLES)
    strips = {
        "noisy": noisy_samples,
        "linear": outputs["linear MMSE filter"],
        MODEL_NAME: outputs[MODEL_NAME],
        "clean": clean_samples,
    }
    for name, samples in strips.items():
        strips[name] = samples[strip_rows].reshape(-1, *shape)
    mosaics.draw_rows(figures / STRIPS_FILE, strips)
    return _denoising_result(deviation, quality, accuracy_values, len(noisy_samples))


def _denoising_result(deviation: float, quality: dict[str, Quality], accuracy_values: dict[str, float], rows: int) -> StudyResult:
    best_filter = max(_psnr_value(quality["Wiener filter"]), _psnr_value(quality["linear MMSE filter"]))
    gain = _psnr_value(quality[MODEL_NAME]) - best_filter
    direction = "better" if gain >= 0 else "worse"
    lead = (
        f"Gaussian noise of deviation {deviation:g}, clipped to [0, 1]: the model is {abs(gain):.2f} dB "
        f"{direction} than the better linear filter."
    )
    note = (
        f"{rows:,} normal test samples. Both filters are linear and fitted on training samples: Wiener's takes the noise for "
        "Gaussian of known variance; the other is the linear filter of least squared error for the noise as it is, clipped. "
        "SSIM: uniform window of 7 x 7 pixels."
    )
    table = []
    for name, values in quality.items():
        table.append([name, format_number(values["psnr"], 2), format_number(values["ssim"])])
    head = ["", "PSNR (dB)", "SSIM"]
    if accuracy_values:
        lead += f" A classifier of clean samples reads {format_share(accuracy_values['noisy'])} of the noisy ones, "
        lead += f"{format_share(accuracy_values[MODEL_NAME])} of the denoised and "
        lead += f"{format_share(accuracy_values['clean'])} of the clean."
        note += " The classifier never saw a noisy or a denoised sample."
        table.append(["clean", "", ""])
        for row in table:
            row.append(format_share(accuracy_values[row[0]]))
        head.append("read correctly")
    return StudyResult(
        title="Denoising",
        lead=lead,
        head=head,
        rows=table,
        figures=[(STRIPS_FILE, "Test samples: noisy as given, by the linear filter, by the model, and clean.")],
        metrics=_denoising_metrics(quality, accuracy_values) | {"deviation": deviation, "gain_db": gain},
        note=note,
    )


def _denoising_metrics(quality: dict[str, Quality], accuracy_values: dict[str, float]) -> dict[str, Any]:
    metrics: dict[str, Any] = {}
    for name, values in quality.items():
        metrics[METRIC_NAMES[name]] = dict(values)
    for name, accuracy in accuracy_values.items():
        metrics.setdefault(METRIC_NAMES[name], {})["accuracy"] = accuracy
    return metrics


def _psnr_value(values: Quality) -> float:
    return values["psnr"] or 0.0


def _flatten(samples: np.ndarray) -> FlatSamples:
    return samples.reshape(len(samples), -1)


# ---------------------------------------------------------------- the linear filters


def _training_pairs(context: EvaluationContext) -> tuple[FlatSamples, FlatSamples]:
    """Return training samples, clean and noisy as they are served."""
    samples = context.data.train[:ROWS]
    noisy_inputs = model_input.served_inputs(context.recipe.fit, samples, model_input.TRAIN_SEED)
    return _flatten(context.data.scale(samples)), _flatten(context.data.scale(noisy_inputs))


def fit_filters(clean_samples: FlatSamples, noisy_samples: FlatSamples, variance: float) -> tuple[LinearFilter, LinearFilter]:
    """Fit two linear estimates of clean samples from noisy ones, in the principal axes of the clean ones.

    Wiener's: each axis of variance v is shrunk by v / (v + noise variance). The second regresses the clean coordinates on
    the noisy ones, so that it also knows what clipping does to mean and variance: the linear estimate of least mean squared
    error (Kay 1993, Fundamentals of Statistical Signal Processing I, chapter 12).

    Args:
        clean_samples: (n, numbers) in [0, 1].
        noisy_samples: the same with noise.
        variance: of the noise.

    Returns:
        Wiener's filter and the second one; each clips its outputs to [0, 1].
    """
    count = min(MAX_DIRECTIONS, *clean_samples.shape)
    with threadpool_limits(1, "blas"):
        pca_solver = "covariance_eigh" if clean_samples.shape[1] <= MAX_EXACT_SIZE else "randomized"
        pca = PCA(count, svd_solver=pca_solver, random_state=0).fit(clean_samples)
        axis_shrinkage = pca.explained_variance_ / (pca.explained_variance_ + variance)
        c, t = pca.transform(clean_samples), noisy_samples @ pca.components_.T
        mean = t.mean(axis=0)
        spread = (t - mean).T @ (t - mean)
        weights = np.linalg.solve(spread + 1e-6 * np.trace(spread) / count * np.eye(count), (t - mean).T @ c)

    def wiener_filter(samples: FlatSamples) -> FlatSamples:
        return np.asarray(pca.inverse_transform(pca.transform(samples) * axis_shrinkage).clip(0, 1), dtype=np.float32)

    def mmse_filter(samples: FlatSamples) -> FlatSamples:
        outputs = pca.inverse_transform((samples @ pca.components_.T - mean) @ weights)
        return np.asarray(outputs.clip(0, 1), dtype=np.float32)

    return wiener_filter, mmse_filter


# ---------------------------------------------------------------- the classifier


def _classifier_accuracies(context: EvaluationContext, outputs: dict[str, FlatSamples]) -> dict[str, float]:
    """Return the accuracy of a classifier of clean training samples on each version of the labelled test normals.

    Empty where training or test samples have no labels.
    """
    labelled_rows = np.flatnonzero(context.data.train_labels >= 0)[:CLASSIFIER_ROWS]
    labels = context.data.labels[context.is_normal]
    is_labelled = labels >= 0
    if not len(labelled_rows) or not is_labelled.any():
        return {}
    classifier = MLPClassifier((CLASSIFIER_WIDTH,), max_iter=CLASSIFIER_EPOCHS, random_state=0)
    accuracy_values = {}
    with threadpool_limits(1, "blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # its epochs are fixed: it need not be the best classifier
        train = _flatten(context.data.scale(context.data.train[labelled_rows]))
        classifier.fit(train, context.data.train_labels[labelled_rows])
        for name, samples in outputs.items():
            accuracy_values[name] = float((classifier.predict(samples) == labels)[is_labelled].mean())
    return accuracy_values
