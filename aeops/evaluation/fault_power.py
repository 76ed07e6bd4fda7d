"""Power on the test normals of a recipe: of a model as it is served, and of any scores at the same rate of false alarms.

Faults are injected into clean samples; where a model is served corrupted ones, they are corrupted afterwards, each detector's in
the same way. The thresholds of scores beside the model are split-conformal, on the recipe's calibration samples.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ae_models.power import DetectFunction, Detection, Power, conformal_threshold, measure_power, threshold_detectors
from ae_models.spec import FitSpec
from ae_models.thresholds import read_threshold
from aeops.bundle.detector import Detector
from aeops.evaluation import model_input
from aeops.evaluation.block_scores import score_in_blocks
from aeops.evaluation.prepared import PreparedSamples
from aeops.evaluation.reference import REFERENCE_SEED
from aeops.evaluation.sample_blocks import take_rows
from aeops.evaluation.sampling import even_indices
from aeops.recipe.metric_names import MODEL_DETECTOR

CALIBRATION_ROWS = 2000  # of the calibration samples, at most, for the thresholds of scores beside the model

# Takes served samples, (n, *input_shape) in raw units, and returns scores (n,), higher for anomalies, by name.
ServedScores = Callable[[np.ndarray], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class PowerSamples:
    """The samples that powers are measured on.

    Attributes:
        fit: the recipe's model, by which samples are served.
        rows: the places of the normals among the test samples, ascending.
        normals: clean, (n, *fit.input.shape) in raw units.
        calibration: served, (m, *input_shape) in raw units.
    """

    fit: FitSpec
    rows: np.ndarray
    normals: np.ndarray
    calibration: np.ndarray


def draw_power_samples(fit: FitSpec, data: PreparedSamples, calibration: np.ndarray, limit: int) -> PowerSamples:
    """Return evenly spaced test normals and calibration samples.

    Args:
        fit: the recipe's model.
        data: the prepared samples.
        calibration: the recipe's calibration samples in raw units, also memory-mapped.
        limit: of the test normals.
    """
    normal_rows = np.flatnonzero(~data.novelty)
    rows = normal_rows[even_indices(len(normal_rows), limit)]
    calibration = take_rows(calibration, even_indices(len(calibration), CALIBRATION_ROWS), data.folder)
    served = model_input.served_inputs(fit, calibration, REFERENCE_SEED, data.folder)
    return PowerSamples(fit, rows, take_rows(data.test, rows, data.folder), served)


def comparable_rate(detector: Detector, samples: PowerSamples) -> float:
    """Return the rate of false alarms that a model's threshold requests of single samples.

    Where it names none, or that of blocks, it is the share of calibration samples that the model flags.
    """
    method = read_threshold(detector.bundle["threshold"]).method
    if method.requested_rate is not None and method.block == 1:
        return method.requested_rate
    return float(score_in_blocks(detector, samples.calibration)["is_anomaly"].mean())


def model_scores(detector: Detector) -> ServedScores:
    """Return the score of a bundle as a function of served samples."""

    def score(served: np.ndarray) -> Mapping[str, np.ndarray]:
        return {MODEL_DETECTOR: score_in_blocks(detector, served)["score"]}

    return score


def measure_served_power(detector: Detector, beside: ServedScores, rate: float, samples: PowerSamples) -> dict[str, Power]:
    """Measure the power of a model by its own decisions, and of scores beside it at a rate.

    Args:
        detector: the model; its threshold and its bounds of expected samples decide what it catches.
        beside: scores of other detectors.
        rate: of false alarms, at which their thresholds are set.
        samples: the test normals and the calibration samples.

    Returns:
        The powers by name, the model's first, under MODEL_DETECTOR.
    """
    detect_beside = _at_rate(beside, rate, samples)

    def detect(clean: np.ndarray) -> Mapping[str, Detection]:
        served = model_input.served_inputs(samples.fit, clean, model_input.TEST_SEED)
        predictions = detector.score(served)
        return {MODEL_DETECTOR: Detection(predictions["score"], predictions["is_anomaly"]), **detect_beside(served)}

    return measure_power(detect, samples.normals, samples.fit.input)


def measure_score_power(scores: ServedScores, rate: float, samples: PowerSamples) -> dict[str, Power]:
    """Measure the power of scores alone, each at the threshold of a rate."""
    detect_served = _at_rate(scores, rate, samples)

    def detect(clean: np.ndarray) -> Mapping[str, Detection]:
        return detect_served(model_input.served_inputs(samples.fit, clean, model_input.TEST_SEED))

    return measure_power(detect, samples.normals, samples.fit.input)


def _at_rate(scores: ServedScores, rate: float, samples: PowerSamples) -> DetectFunction:
    """Return the detectors that flag served samples above the threshold of a rate."""
    thresholds = {}
    for name, calibration_scores in scores(samples.calibration).items():
        thresholds[name] = conformal_threshold(calibration_scores, rate)
    return threshold_detectors(scores, thresholds)
