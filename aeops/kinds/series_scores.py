"""A whole series scored by a model: what its windows say of each step and each channel, and the alarms as intervals."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from aeops.kinds.series_windows import (
    AlarmInterval,
    SeriesWindows,
    alarmed_steps,
    average_scores,
    average_values,
    find_intervals,
)

if TYPE_CHECKING:
    from aeops.kinds.samples import SampleSpec


class WindowScorer(Protocol):
    """What is asked of a model; `aeops.bundle.detector.Detector` is one."""

    spec: "SampleSpec"
    bundle: dict[str, Any]

    def score(self, samples: Any, reconstruction: bool = False, code: bool = False) -> dict[str, np.ndarray]: ...


@dataclass(frozen=True)
class SeriesScores:
    """The scores of a series.

    Attributes:
        windows: of the series.
        outputs: of the model for each window, each (k, ...).
        step_scores: the mean score of the windows that hold a step, (n,); NaN where none does.
        reconstruction: the mean of what they make of it, in raw units, (n, channels); likewise.
        residuals: squared, in lengths of the channels' ranges, (n, channels); likewise: the score of each step and channel.
        is_alarmed: whether a step is alarmed, bool (n,).
        alarms: the alarmed steps as intervals.
        threshold: of the model.
    """

    windows: SeriesWindows
    outputs: Mapping[str, np.ndarray]
    step_scores: np.ndarray
    reconstruction: np.ndarray
    residuals: np.ndarray
    is_alarmed: np.ndarray
    alarms: list[AlarmInterval]
    threshold: float


def score_series(detector: WindowScorer, windows: SeriesWindows, outputs: Mapping[str, np.ndarray] | None = None) -> SeriesScores:
    """Score a series with a model of its channels.

    Args:
        detector: the model.
        windows: of the series.
        outputs: of the model for these windows, with reconstructions, where they are known already.
    """
    spec, steps = detector.spec, len(windows.times)
    if outputs is None:
        outputs = detector.score(windows.cut(), reconstruction=True)
    threshold = float(detector.bundle["threshold"]["value"])
    step_scores = average_scores(outputs["score"], windows.starts, windows.length, steps)
    reconstruction = average_values(outputs["reconstruction"], windows.starts, steps)
    low, high = spec.value_range
    residuals = np.square((windows.values - reconstruction) / (high - low).reshape(-1))
    is_alarmed = alarmed_steps(step_scores, np.asarray(outputs["is_anomaly"], bool), windows, threshold)
    alarms = find_intervals(is_alarmed, step_scores, residuals, windows, spec.channels)
    return SeriesScores(windows, outputs, step_scores, reconstruction, residuals, is_alarmed, alarms, threshold)
