"""Measures of how well scores separate novelty from normals: rankings, shares caught, and a model's lead over its baselines."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri
from sklearn.metrics import average_precision_score

from ae_models.conformal_thresholds import SplitConformalThreshold
from ae_models.threshold_interface import CalibrationScores, conformal_rows
from aeops.errors import DataError
from aeops.gate.auroc import estimate_auroc
from aeops.gate.comparison import LEVEL, Estimate, estimate_auroc_difference
from aeops.recipe.gate_rules import MIN_GROUPS


@dataclass(frozen=True)
class RankingMetrics:
    """Quality of one score that ranks novelty above normals.

    Attributes:
        auroc: chance that a novelty scores higher than a normal, ties counted half.
        average_precision: area under the precision-recall curve as a sum of steps, with novelty as the positive class.
        auroc_interval: 95 % interval of `auroc`.
    """

    auroc: float
    average_precision: float
    auroc_interval: tuple[float, float]


@dataclass(frozen=True)
class DetectorScores:
    """Scores of one detector, higher for novelty.

    Attributes:
        calibration: of the calibration samples, (m,).
        test: of the test samples, (n,).
    """

    calibration: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class FlaggedShares:
    """Shares of the test samples above a split-conformal threshold.

    Attributes:
        caught: of the novelty; None where the calibration samples are too few for the rate.
        false_alarms: of the normals; likewise.
    """

    caught: float | None
    false_alarms: float | None


@dataclass(frozen=True)
class Lead:
    """A model's margin in AUROC over its best baseline on the same samples.

    Attributes:
        margin: over the baseline with the highest AUROC.
        interval: at 95 %: the low end is the lowest over all baselines, so that the model is better than each of them where
            it is above 0; the high end is that of the best baseline. None where there are too few groups of samples.
    """

    margin: float
    interval: tuple[float, float] | None


def measure_ranking(score: np.ndarray, novelty: np.ndarray) -> RankingMetrics:
    """Measure how well a score ranks novelty above normals.

    Args:
        score: (n,), higher for novelty.
        novelty: bool (n,), with at least one novelty and one normal.

    Raises:
        DataError: a score that is NaN or infinite.
    """
    bad_rows = int((~np.isfinite(score)).sum())
    if bad_rows:
        raise DataError(
            f"expected finite scores of the test samples, got {bad_rows:,} of {len(score):,} that are NaN or infinite: the "
            "model's outputs overflow, or the samples hold missing values"
        )
    auroc, variance = estimate_auroc(score[novelty], score[~novelty])
    precision = float(average_precision_score(novelty, score))
    return RankingMetrics(auroc, precision, logit_interval(auroc, variance))


def measure_flagged(scores: DetectorScores, novelty: np.ndarray, rate: float) -> FlaggedShares:
    """Measure what a detector flags at the split-conformal threshold of a rate of false alarms.

    Args:
        scores: of the detector.
        novelty: bool (n,), with at least one novelty and one normal.
        rate: that the threshold promises, in (0, 1).
    """
    if len(scores.calibration) < conformal_rows(rate):
        return FlaggedShares(None, None)
    threshold = SplitConformalThreshold(rate).calibrate(CalibrationScores(scores.calibration))
    is_flagged = scores.test > threshold.value
    return FlaggedShares(float(is_flagged[novelty].mean()), float(is_flagged[~novelty].mean()))


def measure_lead(model: np.ndarray, baselines: Mapping[str, np.ndarray], novelty: np.ndarray, group: np.ndarray) -> Lead:
    """Measure a model's lead over its baselines, by the differences of AUROCs on the same samples (DeLong et al. 1988).

    The claim that the model is better than each baseline needs no correction for their number, since all of its parts have
    to hold (Berger 1982, Technometrics 24: an intersection-union test).

    Args:
        model: its scores, (n,).
        baselines: scores of each baseline, (n,), at least one.
        novelty: bool (n,), with at least one novelty and one normal.
        group: (n,): samples of one group are one observation.
    """
    estimates = [estimate_auroc_difference(scores, model, novelty, group) for scores in baselines.values()]
    best = max(estimates, key=lambda estimate: estimate.champion)
    if min(len(np.unique(group[novelty])), len(np.unique(group[~novelty]))) < MIN_GROUPS:
        return Lead(best.value, None)
    lowest, _ = min(map(_lead_interval, estimates))
    return Lead(best.value, (lowest, _lead_interval(best)[1]))


def _lead_interval(estimate: Estimate) -> tuple[float, float]:
    """Return the 95 % interval of one difference.

    Where both rank without an error it is 0 to 0: there is nothing to win, and a perfect model is not refused for it.
    """
    if estimate.separable_pairs:
        return estimate.value, estimate.value
    return estimate.interval(LEVEL)


def logit_interval(auroc: float, variance: float, level: float = 0.95) -> tuple[float, float]:
    """Return the interval of an AUROC, normal on the logit scale, so that it stays inside [0, 1] (Pepe 2003, section 5.2).

    Where the classes are separated perfectly, both ends are the AUROC itself: the variance is then 0 and carries no information.
    """
    if variance == 0 or auroc in (0.0, 1.0):
        return auroc, auroc
    logit = math.log(auroc / (1 - auroc))
    half_width = float(ndtri((1 + level) / 2)) * math.sqrt(variance) / (auroc * (1 - auroc))
    return expit(logit - half_width), expit(logit + half_width)


def expit(x: float) -> float:
    """Return the logistic function 1 / (1 + exp(-x))."""
    return 1 / (1 + math.exp(-x))
