"""Thresholds without a promise about false alarms: extrapolated, or chosen by distance or by labels. No torch.

A new kind: its class here, named as its spec without `Spec`, and its line in `UNPROMISED_THRESHOLDS`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from ae_models.errors import SampleError, SpecError
from ae_models.threshold_interface import (
    CalibratedThreshold,
    CalibrationRows,
    CalibrationScores,
    PooledDecision,
    StoredThreshold,
    ThresholdMethod,
    UnjudgedRate,
    require_calibration_rows,
    sort_scores,
    to_float32,
)
from ae_models.threshold_laws import fit_pareto_tail

__all__ = [
    "MIN_EXCESSES",
    "MIN_LABELLED",
    "NORMAL_MAD",
    "UNPROMISED_THRESHOLDS",
    "BestF1Threshold",
    "CostThreshold",
    "LabelledCounts",
    "MadThreshold",
    "PeaksOverThreshold",
    "calibrate_labelled",
    "count_labelled",
    "describe_labelled",
    "require_labelled",
]

MIN_EXCESSES = 20  # calibration scores that a tail is fitted to
MIN_LABELLED = 5  # labelled anomalies, and validation samples, that a threshold is chosen by
NORMAL_MAD = 1.4826  # standard deviations of a normal law in its median absolute deviation


class PeaksOverThreshold(PooledDecision, UnjudgedRate):
    """The score that a generalised Pareto law of the highest calibration scores leaves a share a above.

    For rates below 1 / (m + 1), where no calibration score is high enough. It is an extrapolation: the law holds in the limit of
    high scores (Pickands 1975; Coles 2001, chapter 4), and nothing is promised about how near these are to it.

    Args:
        false_alarm_rate: a, in (0, tail).
        tail: share of the calibration scores that the law is fitted to, in (0, 1).
    """

    def __init__(self, false_alarm_rate: float, tail: float) -> None:
        self.false_alarm_rate, self.tail = false_alarm_rate, tail

    @property
    def requested_rate(self) -> float | None:
        return self.false_alarm_rate

    def require_rows(self, rows: CalibrationRows) -> None:
        needed_rows = math.ceil(MIN_EXCESSES / Fraction(str(self.tail)))
        setting = f"threshold.tail: {self.tail:g}, with {MIN_EXCESSES} scores to fit to,"
        require_calibration_rows(needed_rows, rows.calibration, setting, "raise threshold.tail or data.split.calibration")

    def calibrate(self, scores: CalibrationScores) -> CalibratedThreshold:
        self.require_rows(CalibrationRows(len(scores.calibration)))
        sorted_scores = sort_scores(scores.calibration)
        exceeding_rows = int(len(sorted_scores) * Fraction(str(self.tail)))
        try:
            law = fit_pareto_tail(sorted_scores, exceeding_rows)
        except ValueError as error:
            raise SampleError(
                f"threshold peaks-over-threshold: {error}, of {len(sorted_scores)} calibration scores, so there is no tail to "
                "extrapolate: choose another threshold.kind, or a score with more values"
            ) from error
        value = to_float32(law.score_exceeded_by(self.false_alarm_rate))
        details = {"start": law.start, "scale": law.scale, "shape": law.shape, "excesses": exceeding_rows}
        return CalibratedThreshold(self, value, sorted_scores, details)

    def describe_promise(self) -> str:
        return (
            f"none; by a generalised Pareto law of the highest scores {100 * self.false_alarm_rate:.3g} % of fresh normals would "
            "be flagged"
        )

    def describe_rate(self) -> str:
        return f"flags {self.false_alarm_rate:.3g} of normal samples by extrapolation, without a promise"

    def describe_choice(self, stored: StoredThreshold) -> str:
        details = stored.details
        return (
            f"It was extrapolated from the {details['excesses']:,} highest of {stored.calibration_rows:,} scores of normals that "
            f"neither training nor test saw: those above {details['start']:.4g}, with scale {details['scale']:.4g} and shape "
            f"{details['shape']:.3g}."
        )


class MadThreshold(PooledDecision, UnjudgedRate):
    """Median + d * 1.4826 * median absolute deviation of the calibration scores (Leys et al. 2013): no rate is asked for.

    Args:
        deviations: d, above 0.
    """

    def __init__(self, deviations: float) -> None:
        self.deviations = deviations

    @property
    def requested_rate(self) -> float | None:
        return None

    def require_rows(self, rows: CalibrationRows) -> None:
        require_calibration_rows(2, rows.calibration, "threshold.kind: mad", "raise data.split.calibration")

    def calibrate(self, scores: CalibrationScores) -> CalibratedThreshold:
        self.require_rows(CalibrationRows(len(scores.calibration)))
        sorted_scores = sort_scores(scores.calibration)
        values = sorted_scores.astype(np.float64)
        median = float(np.median(values))
        deviation = float(np.median(np.abs(values - median)))
        if deviation == 0:
            raise SampleError(
                f"threshold mad: half or more of the {len(sorted_scores)} calibration scores are {median:.4g}, so their median "
                "absolute deviation is 0: choose another threshold.kind, or a score with more values"
            )
        value = to_float32(median + self.deviations * NORMAL_MAD * deviation)
        return CalibratedThreshold(self, value, sorted_scores, {"median": median, "mad": deviation})

    def describe_promise(self) -> str:
        return "none: the threshold lies a fixed distance above the median score, and names no rate of false alarms"

    def describe_rate(self) -> str:
        return f"lies {self.deviations:g} deviations above the median score, without a promised rate"

    def describe_choice(self, stored: StoredThreshold) -> str:
        return (
            f"That is {self.deviations:g} times {NORMAL_MAD} times the median absolute deviation, {stored.details['mad']:.4g}, "
            f"above {stored.details['median']:.4g}, the median of {stored.calibration_rows:,} scores of normals that neither "
            "training nor test saw."
        )


@dataclass(frozen=True)
class LabelledCounts:
    """Shares of flagged samples at each possible threshold.

    Attributes:
        values: the thresholds, ascending: one below every score, one between each two neighbours, and the highest score.
        alarm_shares: of the normal samples that each flags.
        catch_shares: of the anomalies that each flags.
        normals: number of normal samples.
        anomalies: number of anomalies.
    """

    values: npt.NDArray[np.float32]
    alarm_shares: npt.NDArray[np.float64]
    catch_shares: npt.NDArray[np.float64]
    normals: int
    anomalies: int


def require_labelled(kind: str, rows: CalibrationRows) -> None:
    """Raise SpecError where there are too few labelled samples of either class."""
    problems = []
    needed = f"threshold.kind: {kind} needs {MIN_LABELLED}"
    if rows.novelty < MIN_LABELLED:
        problems.append(
            f"{needed} labelled anomalies or more beside the validation samples, got {rows.novelty}: raise data.split.validation "
            "in the recipe, or bring more samples of data.novelty"
        )
    if rows.validation < MIN_LABELLED:
        problems.append(
            f"{needed} normal validation samples or more, got {rows.validation}: raise data.split.validation in the recipe"
        )
    if problems:
        raise SpecError(problems)


def count_labelled(kind: str, scores: CalibrationScores) -> LabelledCounts:
    """Count the flagged samples of both classes at each possible threshold.

    Raises:
        SpecError: too few samples of a class.
        SampleError: scores that are not finite.
    """
    normal_scores, anomaly_scores = np.empty(0, np.float32), np.empty(0, np.float32)
    if scores.validation is not None:
        normal_scores = sort_scores(scores.validation)
    if scores.novelty is not None:
        anomaly_scores = sort_scores(scores.novelty)
    rows = CalibrationRows(len(scores.calibration), len(normal_scores), len(anomaly_scores))
    require_labelled(kind, rows)
    distinct = np.unique(np.concatenate([normal_scores, anomaly_scores]))
    between = (distinct[:-1].astype(np.float64) + distinct[1:]) / 2
    middles = np.minimum(between.astype(np.float32), np.nextafter(distinct[1:], np.float32(-np.inf)))
    values = np.concatenate([[np.nextafter(distinct[0], np.float32(-np.inf))], middles, distinct[-1:]]).astype(np.float32)
    flagged_normals = len(normal_scores) - np.searchsorted(normal_scores, values, side="right")
    flagged_anomalies = len(anomaly_scores) - np.searchsorted(anomaly_scores, values, side="right")
    return LabelledCounts(
        values,
        flagged_normals / len(normal_scores),
        flagged_anomalies / len(anomaly_scores),
        len(normal_scores),
        len(anomaly_scores),
    )


def calibrate_labelled(
    method: ThresholdMethod, scores: CalibrationScores, counts: LabelledCounts, losses: npt.NDArray[np.float64], name: str
) -> CalibratedThreshold:
    """Return the threshold of the smallest loss; of equal ones the highest, which flags the fewest samples.

    Args:
        method: the kind.
        scores: of all samples.
        counts: of the labelled ones.
        losses: at each of the counts' thresholds.
        name: of the number at the best threshold in bundle.json.
    """
    best = len(losses) - 1 - int(np.argmin(losses[::-1]))
    details = {
        name: abs(float(losses[best])),
        "alarm_share": float(counts.alarm_shares[best]),
        "catch_share": float(counts.catch_shares[best]),
        "normals": counts.normals,
        "anomalies": counts.anomalies,
    }
    return CalibratedThreshold(method, float(counts.values[best]), sort_scores(scores.calibration), details)


def describe_labelled(details: Mapping[str, Any]) -> str:
    """Return what a threshold flags of the samples that it was chosen by."""
    return (
        f"chosen by {details['normals']:,} validation samples and {details['anomalies']:,} labelled anomalies, none of them a "
        f"test sample: there it flags {details['alarm_share']:.2%} of the normal ones and {details['catch_share']:.2%} of the "
        "anomalies."
    )


class CostThreshold(PooledDecision, UnjudgedRate):
    """The threshold of the smallest c_a (1 - s) P(alarm | normal) + c_m s P(no alarm | anomaly), with s the share of anomalies.

    The probabilities are shares of validation samples and of labelled anomalies beside them (Elkan 2001).

    Args:
        false_alarm: c_a, the cost of a false alarm.
        miss: c_m, the cost of a missed anomaly, in the same unit.
        anomaly_share: s, in (0, 1).
    """

    def __init__(self, false_alarm: float, miss: float, anomaly_share: float) -> None:
        self.false_alarm, self.miss, self.anomaly_share = false_alarm, miss, anomaly_share

    @property
    def requested_rate(self) -> float | None:
        return None

    def require_rows(self, rows: CalibrationRows) -> None:
        require_labelled("cost", rows)

    def calibrate(self, scores: CalibrationScores) -> CalibratedThreshold:
        counts = count_labelled("cost", scores)
        alarm_cost = self.false_alarm * (1 - self.anomaly_share) * counts.alarm_shares
        miss_cost = self.miss * self.anomaly_share * (1 - counts.catch_shares)
        return calibrate_labelled(self, scores, counts, alarm_cost + miss_cost, "cost_per_sample")

    def describe_promise(self) -> str:
        return (
            f"none: the threshold has the least expected cost where a false alarm costs {self.false_alarm:g}, a missed anomaly "
            f"{self.miss:g}, and {100 * self.anomaly_share:g} % of the samples are anomalies like the labelled ones"
        )

    def describe_rate(self) -> str:
        return "has the least expected cost, without a promised rate"

    def describe_choice(self, stored: StoredThreshold) -> str:
        cost = f"{stored.details['cost_per_sample']:.4g}"
        return f"It has the least expected cost, {cost} a sample, {describe_labelled(stored.details)}"


class BestF1Threshold(PooledDecision, UnjudgedRate):
    """The threshold of the largest F1 = 2 TP / (2 TP + FP + FN) on the validation samples and labelled anomalies."""

    @property
    def requested_rate(self) -> float | None:
        return None

    def require_rows(self, rows: CalibrationRows) -> None:
        require_labelled("best-f1", rows)

    def calibrate(self, scores: CalibrationScores) -> CalibratedThreshold:
        counts = count_labelled("best-f1", scores)
        hits, false_alarms = counts.catch_shares * counts.anomalies, counts.alarm_shares * counts.normals
        f1 = 2 * hits / (hits + false_alarms + counts.anomalies)
        return calibrate_labelled(self, scores, counts, -f1, "f1")

    def describe_promise(self) -> str:
        return "none: the threshold has the largest F1 on labelled samples, and names no rate of false alarms"

    def describe_rate(self) -> str:
        return "has the largest F1 on labelled samples, without a promised rate"

    def describe_choice(self, stored: StoredThreshold) -> str:
        return f"It has the largest F1, {stored.details['f1']:.3f}, {describe_labelled(stored.details)}"


UNPROMISED_THRESHOLDS: dict[str, type[ThresholdMethod]] = {
    "peaks-over-threshold": PeaksOverThreshold,
    "mad": MadThreshold,
    "cost": CostThreshold,
    "best-f1": BestF1Threshold,
}
