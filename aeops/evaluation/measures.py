"""Reconstruction measures, by the name that a kind of data asks for: see `DataKind.MEASURED_AS`."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ae_models.intervals import mean_interval
from aeops.evaluation.reconstruction import has_ssim, mean_similarity, psnr, ssim_of_images
from aeops.evaluation.sample_blocks import read_pairs
from aeops.evaluation.text_metrics import text_metrics
from aeops.kinds.arrays import mse_per_image


def measure_values(target: np.ndarray, output: np.ndarray, groups: np.ndarray, rows: np.ndarray | None = None) -> dict[str, Any]:
    """Return the errors of arrays (n, ...) in [0, 1], and the 95 % interval of the mean squared error.

    Args:
        target: the expected reconstructions, also in a file.
        output: the reconstructions, likewise.
        groups: of each sample that counts, (k,): samples of one group belong together.
        rows: of the samples that count, (k,); None for all.
    """
    errors, similarities = [], []
    for targets, outputs in read_pairs(target, output, _all_or(rows, target)):
        errors.append(mse_per_image(targets, outputs))
        if has_ssim(target.shape):
            similarities.append(ssim_of_images(targets, outputs))
    sample_errors = np.concatenate(errors)
    mse, mean_ssim = float(sample_errors.mean()), None
    if similarities:
        mean_ssim = mean_similarity(np.concatenate(similarities))
    return {"mse": mse, "psnr": psnr(mse), "ssim": mean_ssim, "mse_interval": mean_interval(sample_errors, groups)}


def _all_or(rows: np.ndarray | None, samples: np.ndarray) -> np.ndarray:
    return np.arange(len(samples)) if rows is None else rows


def measure_tokens(target: np.ndarray, output: np.ndarray, groups: np.ndarray, rows: np.ndarray | None = None) -> dict[str, Any]:
    """Return the shares of right tokens of token ids (n, tokens); `groups` is not used."""
    counted = _all_or(rows, target)
    return text_metrics(target[counted], output[counted])


def measure_columns(target: np.ndarray, output: np.ndarray, groups: np.ndarray, rows: np.ndarray | None = None) -> dict[str, Any]:
    """Return the mean squared error of rows as vectors of scaled columns (n, numbers), and its 95 % interval."""
    counted = _all_or(rows, target)
    errors = mse_per_image(target[counted], output[counted])
    return {"mse": float(errors.mean()), "mse_interval": mean_interval(errors, groups)}


MEASURE_FUNCTIONS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None], dict[str, Any]]] = {
    "values": measure_values,
    "tokens": measure_tokens,
    "columns": measure_columns,
}
