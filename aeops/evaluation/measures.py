"""Reconstruction measures, by the name that a kind of data asks for: see `DataKind.MEASURED_AS`."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ae_models.intervals import mean_interval
from aeops.evaluation.reconstruction import reconstruction_metrics
from aeops.evaluation.text_metrics import text_metrics
from aeops.kinds.arrays import mse_per_image


def measure_values(target: np.ndarray, output: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    """Return the errors of arrays (n, ...) in [0, 1], and the 95 % interval of the mean squared error.

    Args:
        target: the expected reconstructions.
        output: the reconstructions.
        groups: (n,): samples of one group belong together.
    """
    interval = mean_interval(mse_per_image(target, output), groups)
    return reconstruction_metrics(target, output) | {"mse_interval": interval}


def measure_tokens(target: np.ndarray, output: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    """Return the shares of right tokens of token ids (n, tokens); `groups` is not used."""
    return text_metrics(target, output)


def measure_columns(target: np.ndarray, output: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    """Return the mean squared error of rows as vectors of scaled columns (n, numbers), and its 95 % interval."""
    errors = mse_per_image(target, output)
    return {"mse": float(errors.mean()), "mse_interval": mean_interval(errors, groups)}


MEASURE_FUNCTIONS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], dict[str, Any]]] = {
    "values": measure_values,
    "tokens": measure_tokens,
    "columns": measure_columns,
}
