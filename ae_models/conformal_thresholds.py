"""Thresholds with a promise about false alarms, from the ranks of calibration scores. No torch.

A new kind: its class here, named as its spec without `Spec`, and its line in `CONFORMAL_THRESHOLDS`.
"""

import math
from collections.abc import Mapping
from fractions import Fraction
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from ae_models.errors import SpecError
from ae_models.threshold_interface import (
    CALIBRATION_SCORES,
    CalibratedThreshold,
    CalibrationRows,
    CalibrationScores,
    GroupedRows,
    PooledDecision,
    StoredThreshold,
    ThresholdMethod,
    calibrate_rank,
    conformal_plausible_rates,
    conformal_rows,
    describe_rank,
    require_calibration_rows,
    sort_scores,
    to_float32,
)
from ae_models.threshold_laws import (
    confident_rank,
    conformal_rank,
    nearest_centre,
    plausible_pooled_rates,
    plausible_ranks,
    quantile_interval_ranks,
)

__all__ = [
    "CONFORMAL_THRESHOLDS",
    "AlarmBudgetThreshold",
    "BlockConformalThreshold",
    "ConfidentThreshold",
    "PerGroupThreshold",
    "QuantileThreshold",
    "SplitConformalThreshold",
]


class SplitConformalThreshold(PooledDecision):
    """The k-th smallest of m calibration scores, k = ceil((m + 1)(1 - a)), for a false-alarm rate a.

    If calibration and fresh normals are exchangeable, a fresh score exceeds it with probability at most a. Given one
    calibration set, the rate is not a but a sample of Beta(m + 1 - k, k). (Vovk, Gammerman, Shafer 2005, ch. 2; Angelopoulos,
    Bates 2021, section 3.2)

    With a trim t, the floor(t n) highest of n scores are left out first, and m is the number of the others. The law then holds
    where the samples that are left out are the anomalous ones; where all n are normal, the rate is about a + t (1 - a).

    Args:
        false_alarm_rate: a, in (0, 1).
        trim: t, in [0, 0.5].

    >>> scores = CalibrationScores(np.arange(99, dtype=np.float32))
    >>> SplitConformalThreshold(0.1).calibrate(scores).value
    89.0
    >>> SplitConformalThreshold(0.1, trim=0.2).calibrate(scores).value
    72.0
    """

    def __init__(self, false_alarm_rate: float, trim: float = 0.0) -> None:
        self.false_alarm_rate, self.trim = false_alarm_rate, trim

    is_promised = True

    @property
    def requested_rate(self) -> float | None:
        return self.false_alarm_rate

    def require_rows(self, rows: CalibrationRows) -> None:
        setting = f"threshold.false_alarm_rate: {self.false_alarm_rate:g}"
        if self.trim:
            setting += (
                f" with threshold.trim {self.trim:g}, which leaves {self._kept_rows(rows.calibration)} of {rows.calibration}"
            )
        remedy = "raise threshold.false_alarm_rate or data.split.calibration"
        require_calibration_rows(conformal_rows(self.false_alarm_rate), self._kept_rows(rows.calibration), setting, remedy)

    def _kept_rows(self, rows: int) -> int:
        """Return how many of so many scores are kept."""
        return rows - int(Fraction(str(self.trim)) * rows)

    def calibrate(self, scores: CalibrationScores) -> CalibratedThreshold:
        self.require_rows(CalibrationRows(len(scores.calibration)))
        kept_scores = sort_scores(scores.calibration)[: self._kept_rows(len(scores.calibration))]
        return calibrate_rank(self, kept_scores, conformal_rank(len(kept_scores), self.false_alarm_rate))

    def calibration_rank(self, calibration_rows: int) -> int | None:
        rank = conformal_rank(calibration_rows, self.false_alarm_rate)
        if rank > calibration_rows:  # no calibration score is high enough
            return None
        return rank

    def plausible_rates(
        self, alarms: int, normals: int, stored: StoredThreshold, level: float = 0.95
    ) -> tuple[float, float] | None:
        """Return the rates that the alarms do not contradict, from the beta-binomial law of `threshold_laws`."""
        assert stored.calibration_rows is not None, "StoredThreshold.plausible_rates asks only where it is known"
        return conformal_plausible_rates(alarms, normals, stored.calibration_rows, level)

    def describe_promise(self) -> str:
        promise = (
            f"at most {100 * self.false_alarm_rate:.2f} % of fresh normals are flagged, on average over calibration draws, "
            "as long as they come from where the calibration samples came from"
        )
        if self.trim:
            promise += f", and the {self.trim:.1%} of these with the highest scores, which were left out, were not normal"
        return promise

    def describe_rate(self) -> str:
        return f"flags {self.false_alarm_rate:.2%} of normal samples"

    def describe_choice(self, stored: StoredThreshold) -> str:
        return describe_rank(stored)


class BlockConformalThreshold(PooledDecision):
    """A split-conformal threshold of the highest scores of blocks of windows in a row, k = ceil((m + 1)(1 - a)) of m blocks.

    Windows that overlap, and neighbours at all, are not exchangeable; blocks that are long beside the memory of the series nearly
    are. A fresh normal block then has a window above the threshold with probability at most a, and a single window less often.
    (Chernozhukov, Wuthrich, Zhu 2018, Exact and robust conformal inference methods for predictive machine learning with dependent
    data, section 2.2)

    Args:
        false_alarm_rate: a, of a block, in (0, 1).
        block: windows of a block; the windows after the last whole block are left out.

    >>> scores = CalibrationScores(np.arange(19 * 4, dtype=np.float32))
    >>> BlockConformalThreshold(0.1, block=4).calibrate(scores).value
    71.0
    """

    def __init__(self, false_alarm_rate: float, block: int) -> None:
        self.false_alarm_rate, self.block = false_alarm_rate, block
        self._conformal = SplitConformalThreshold(false_alarm_rate)

    is_promised = True

    @property
    def requested_rate(self) -> float | None:
        return self.false_alarm_rate

    def require_rows(self, rows: CalibrationRows) -> None:
        setting = f"threshold.false_alarm_rate: {self.false_alarm_rate:g} of blocks of {self.block} windows"
        remedy = "raise threshold.false_alarm_rate or data.split.calibration, or shorten threshold.block,"
        require_calibration_rows(conformal_rows(self.false_alarm_rate) * self.block, rows.calibration, setting, remedy)

    def calibrate(self, scores: CalibrationScores) -> CalibratedThreshold:
        self.require_rows(CalibrationRows(len(scores.calibration)))
        blocks = len(scores.calibration) // self.block
        highest = np.asarray(scores.calibration)[: blocks * self.block].reshape(blocks, self.block).max(axis=1)
        return calibrate_rank(self, highest, conformal_rank(blocks, self.false_alarm_rate))

    def calibration_rank(self, calibration_rows: int) -> int | None:
        """Return the threshold's rank among the highest scores of so many blocks; `calibration_rows` counts blocks."""
        return self._conformal.calibration_rank(calibration_rows)

    def plausible_rates(
        self, alarms: int, normals: int, stored: StoredThreshold, level: float = 0.95
    ) -> tuple[float, float] | None:
        """Return the rates that the alarms among fresh blocks do not contradict; `alarms` and `normals` count blocks."""
        return self._conformal.plausible_rates(alarms, normals, stored, level)

    def describe_promise(self) -> str:
        return (
            f"at most {100 * self.false_alarm_rate:.2f} % of fresh normal blocks of {self.block} windows in a row have a window "
            "that is flagged, on average over calibration draws, as long as blocks are alike and hardly depend on each other"
        )

    def describe_rate(self) -> str:
        return f"flags a window in {self.false_alarm_rate:.2%} of normal blocks of {self.block}"

    def describe_choice(self, stored: StoredThreshold) -> str:
        rows, rank = stored.calibration_rows, stored.details.get("rank")
        if rows is None or rank is None:
            return describe_rank(stored)
        return f"That is rank {rank:,} of the highest scores of {rows:,} blocks that neither training nor test saw."


class AlarmBudgetThreshold(PooledDecision):
    """A split-conformal threshold whose rate is a number of false alarms a day over the samples of a day.

    Args:
        alarms_per_day: false ones, on average.
        samples_per_day: that are scored.

    >>> round(AlarmBudgetThreshold(5, 1000).requested_rate, 6)
    0.005
    """

    def __init__(self, alarms_per_day: float, samples_per_day: float) -> None:
        self.alarms_per_day, self.samples_per_day = alarms_per_day, samples_per_day
        self._rate = Fraction(str(alarms_per_day)) / Fraction(str(samples_per_day))
        self._conformal = SplitConformalThreshold(float(self._rate))

    is_promised = True

    @property
    def requested_rate(self) -> float | None:
        return float(self._rate)

    def require_rows(self, rows: CalibrationRows) -> None:
        setting = f"threshold: {self.alarms_per_day:g} false alarms a day at {self.samples_per_day:g} samples a day"
        remedy = "raise threshold.alarms_per_day or data.split.calibration"
        require_calibration_rows(conformal_rows(self._rate), rows.calibration, setting, remedy)

    def calibrate(self, scores: CalibrationScores) -> CalibratedThreshold:
        self.require_rows(CalibrationRows(len(scores.calibration)))
        return calibrate_rank(self, scores.calibration, conformal_rank(len(scores.calibration), self._rate))

    def calibration_rank(self, calibration_rows: int) -> int | None:
        rank = conformal_rank(calibration_rows, self._rate)
        if rank > calibration_rows:
            return None
        return rank

    def plausible_rates(
        self, alarms: int, normals: int, stored: StoredThreshold, level: float = 0.95
    ) -> tuple[float, float] | None:
        """Return the rates that the alarms do not contradict, as those of a split-conformal threshold."""
        return self._conformal.plausible_rates(alarms, normals, stored, level)

    def describe_promise(self) -> str:
        return (
            f"at most {self.alarms_per_day:g} false alarms a day at {self.samples_per_day:g} samples a day, all of them normal "
            f"({100 * float(self._rate):.3g} % of fresh normals), on average over calibration draws, as long as they come from "
            "where the calibration samples came from"
        )

    def describe_rate(self) -> str:
        return f"flags {float(self._rate):.3%} of normal samples"

    def describe_choice(self, stored: StoredThreshold) -> str:
        return describe_rank(stored)


class ConfidentThreshold(PooledDecision):
    """The k-th smallest of m calibration scores with the smallest k for which P(Beta(m + 1 - k, k) <= a) >= confidence.

    The rate of this one threshold is then at most a, in that share of calibration draws. Its average rate is below a. (Vovk 2012,
    Conditional validity of inductive conformal predictors, proposition 2a; Wilks 1941 for the law)

    Args:
        false_alarm_rate: a, in (0, 1).
        confidence: in (0, 1).
    """

    def __init__(self, false_alarm_rate: float, confidence: float) -> None:
        self.false_alarm_rate, self.confidence = false_alarm_rate, confidence

    is_promised = True

    @property
    def requested_rate(self) -> float | None:
        return self.false_alarm_rate

    def require_rows(self, rows: CalibrationRows) -> None:
        if self.calibration_rank(rows.calibration) is not None:
            return
        needed_rows = math.ceil(math.log1p(-self.confidence) / math.log1p(-self.false_alarm_rate)) - 1
        while self.calibration_rank(needed_rows) is None:  # the quotient is rounded
            needed_rows += 1
        setting = f"threshold: a false_alarm_rate of {self.false_alarm_rate:g} with a confidence of {self.confidence:g}"
        remedy = "raise threshold.false_alarm_rate or data.split.calibration, or lower threshold.confidence,"
        require_calibration_rows(needed_rows, rows.calibration, setting, remedy)

    def calibrate(self, scores: CalibrationScores) -> CalibratedThreshold:
        self.require_rows(CalibrationRows(len(scores.calibration)))
        rank = confident_rank(len(scores.calibration), self.false_alarm_rate, self.confidence)
        return calibrate_rank(self, scores.calibration, rank)

    def calibration_rank(self, calibration_rows: int) -> int | None:
        rank = confident_rank(calibration_rows, self.false_alarm_rate, self.confidence)
        if rank > calibration_rows:
            return None
        return rank

    def plausible_rates(
        self, alarms: int, normals: int, stored: StoredThreshold, level: float = 0.95
    ) -> tuple[float, float] | None:
        """Return the rates whose rank the alarms do not contradict.

        The rank k belongs to the rates from q(k) to q(k - 1), with q(k) the quantile of Beta(m + 1 - k, k) at the confidence.
        """
        from scipy.stats import beta

        m = stored.calibration_rows
        assert m is not None, "StoredThreshold.plausible_rates asks only where it is known"
        ranks = plausible_ranks(alarms, normals, m, level)
        low, high = 0.0, 1.0
        if ranks.highest <= m:
            low = float(beta.ppf(self.confidence, m + 1 - ranks.highest, ranks.highest))
        if ranks.lowest > 1:
            high = float(beta.ppf(self.confidence, m + 2 - ranks.lowest, ranks.lowest - 1))
        return low, high

    def describe_promise(self) -> str:
        return (
            f"at most {100 * self.false_alarm_rate:.2f} % of fresh normals are flagged, with a confidence of "
            f"{100 * self.confidence:g} % over the calibration draw, as long as they come from where the calibration samples "
            "came from"
        )

    def describe_rate(self) -> str:
        return f"flags at most {self.false_alarm_rate:.2%} of normal samples, with {self.confidence:.4g} confidence"

    def describe_choice(self, stored: StoredThreshold) -> str:
        return describe_rank(stored)


class PerGroupThreshold:
    """A split-conformal threshold for each group of normals (a Mondrian taxonomy: Vovk, Gammerman, Shafer 2005, section 4.5).

    A sample's group is the one whose mean training sample is nearest, by the values that the model reads. So the group is a
    function of the sample alone, fixed before the calibration, and the promise holds among the normals of each group.

    Args:
        false_alarm_rate: a, in (0, 1).
    """

    block = 1

    def __init__(self, false_alarm_rate: float) -> None:
        self.false_alarm_rate = false_alarm_rate

    is_promised = True

    @property
    def requested_rate(self) -> float | None:
        return self.false_alarm_rate

    def require_rows(self, rows: CalibrationRows) -> None:
        setting = f"threshold.false_alarm_rate: {self.false_alarm_rate:g}"
        needed_rows = conformal_rows(self.false_alarm_rate)
        if rows.groups is None:
            raise SpecError(["threshold.kind: per-group needs the label of each training sample: set data.labels in the recipe"])
        if not rows.groups.names:
            raise SpecError(["threshold.kind: per-group needs labelled training samples, got none with a label"])
        too_few = []
        for name, group_rows in zip(rows.groups.names, rows.groups.rows, strict=True):
            if group_rows < needed_rows:
                too_few.append(f"{group_rows} of {name}")
        if too_few:
            raise SpecError(
                [
                    f"{setting} needs {needed_rows} calibration samples or more of each group, got {', '.join(too_few)}: raise "
                    "threshold.false_alarm_rate or data.split.calibration in the recipe"
                ]
            )

    def calibrate(self, scores: CalibrationScores) -> CalibratedThreshold:
        sorted_scores = sort_scores(scores.calibration)
        groups, centres = scores.groups, scores.group_centres
        if groups is None or centres is None:
            self.require_rows(CalibrationRows(len(sorted_scores)))
            raise AssertionError("require_rows raises without groups")
        counts = np.bincount(groups, minlength=len(scores.group_names))
        group_rows = GroupedRows(scores.group_names, tuple(counts.tolist()))
        self.require_rows(CalibrationRows(len(sorted_scores), groups=group_rows))
        sorted_groups = groups[np.argsort(np.asarray(scores.calibration, np.float32), kind="stable")]
        values, ranks = [], []
        for place, rows in enumerate(group_rows.rows):
            ranks.append(conformal_rank(rows, self.false_alarm_rate))
            values.append(float(sorted_scores[sorted_groups == place][ranks[-1] - 1]))
        details = {
            "groups": list(group_rows.names),
            "group_rows": list(group_rows.rows),
            "group_ranks": ranks,
            "group_values": values,
        }
        arrays: dict[str, npt.NDArray[Any]] = {
            "calibration_groups": sorted_groups.astype(np.int64),
            "group_centres": np.ascontiguousarray(centres, np.float32),
            "group_values": np.array(values, np.float32),
        }
        return CalibratedThreshold(self, max(values), sorted_scores, details, arrays)

    def p_values(self, scores: Any, inputs: Any, calibration: Mapping[str, Any]) -> Any:
        """Return (1 + #{calibration scores of the sample's group >= score}) / (m of the group + 1)."""
        groups = nearest_centre(inputs.flatten(1), calibration["group_centres"])
        is_same_group = calibration["calibration_groups"] == groups.unsqueeze(1)
        at_least = (is_same_group & (calibration[CALIBRATION_SCORES] >= scores.unsqueeze(1))).float().sum(1)
        return (1 + at_least) / (is_same_group.float().sum(1) + 1)

    def flag(self, scores: Any, inputs: Any, calibration: Mapping[str, Any], value: float) -> Any:
        """Return whether each score is above the threshold of the sample's group."""
        groups = nearest_centre(inputs.flatten(1), calibration["group_centres"])
        return scores > calibration["group_values"][groups]

    def calibration_rank(self, calibration_rows: int) -> int | None:
        """Return None: each group has a rank of its own."""
        return None

    def plausible_rates(
        self, alarms: int, normals: int, stored: StoredThreshold, level: float = 0.95
    ) -> tuple[float, float] | None:
        """Return the rates that the alarms of all groups together do not contradict."""
        return plausible_pooled_rates(alarms, normals, stored.details["group_rows"], level)

    def describe_promise(self) -> str:
        return (
            f"of the fresh normals of each group at most {100 * self.false_alarm_rate:.2f} % are flagged, on average over "
            "calibration draws, as long as they come from where the calibration samples came from; a sample's group is the "
            "label whose mean training sample is nearest"
        )

    def describe_rate(self) -> str:
        return f"flags {self.false_alarm_rate:.2%} of the normal samples of each group"

    def describe_choice(self, stored: StoredThreshold) -> str:
        columns = itemgetter("groups", "group_values", "group_ranks", "group_rows")(stored.details)
        values = []
        for name, value, rank, rows in zip(*columns, strict=True):
            values.append(f"{name}: {value:.4g} (rank {rank:,} of {rows:,})")
        return (
            "That is the highest of the groups' own thresholds: below it a sample is flagged when its score is above that of its "
            f"group. They were chosen from the scores of normals that neither training nor test saw: {'; '.join(values)}."
        )


class QuantileThreshold(PooledDecision):
    """The quantile of the calibration scores that leaves a share a above it, interpolated linearly (Hyndman and Fan 1996, 7).

    Its interval holds the true quantile with the confidence that is asked for, whatever the distribution.

    Args:
        false_alarm_rate: a, in (0, 1).
        confidence: of the interval, in (0, 1).
    """

    def __init__(self, false_alarm_rate: float, confidence: float) -> None:
        self.false_alarm_rate, self.confidence = false_alarm_rate, confidence

    is_promised = True

    @property
    def requested_rate(self) -> float | None:
        return self.false_alarm_rate

    def require_rows(self, rows: CalibrationRows) -> None:
        if self._has_interval(rows.calibration):
            return
        needed_rows = max(2, math.ceil(math.log((1 - self.confidence) / 2) / math.log1p(-self.false_alarm_rate)) - 1)
        while not self._has_interval(needed_rows):  # the quotient is rounded
            needed_rows += 1
        setting = f"threshold: an interval of the quantile at {self.false_alarm_rate:g} with a confidence of {self.confidence:g}"
        remedy = "raise threshold.false_alarm_rate or data.split.calibration, or lower threshold.confidence,"
        require_calibration_rows(needed_rows, rows.calibration, setting, remedy)

    def _has_interval(self, rows: int) -> bool:
        low, high = quantile_interval_ranks(rows, 1 - self.false_alarm_rate, self.confidence)
        return low >= 1 and high <= rows

    def calibrate(self, scores: CalibrationScores) -> CalibratedThreshold:
        self.require_rows(CalibrationRows(len(scores.calibration)))
        sorted_scores = sort_scores(scores.calibration)
        lower_rank, weight = self._position(len(sorted_scores))
        lower, upper = float(sorted_scores[lower_rank - 1]), float(sorted_scores[min(lower_rank, len(sorted_scores) - 1)])
        value = to_float32(lower + weight * (upper - lower))
        low, high = quantile_interval_ranks(len(sorted_scores), 1 - self.false_alarm_rate, self.confidence)
        details = {"low": float(sorted_scores[low - 1]), "high": float(sorted_scores[high - 1])}
        return CalibratedThreshold(self, value, sorted_scores, details)

    def _position(self, calibration_rows: int) -> tuple[int, float]:
        """Return the rank of the score below the quantile, and how far it lies on the way to the next one."""
        position = (calibration_rows - 1) * (1 - Fraction(str(self.false_alarm_rate)))
        return int(position) + 1, float(position - int(position))

    def plausible_rates(
        self, alarms: int, normals: int, stored: StoredThreshold, level: float = 0.95
    ) -> tuple[float, float] | None:
        """Return the rates that the alarms do not contradict.

        The quantile lies between the scores of two neighbouring ranks j and j + 1, and its alarms between theirs: a rate is
        rejected where too many alarms speak against j, or too few against j + 1. The rank j belongs to the rates from
        1 - j / (m - 1) to 1 - (j - 1) / (m - 1).
        """
        m = stored.calibration_rows
        assert m is not None, "StoredThreshold.plausible_rates asks only where it is known"
        ranks = plausible_ranks(alarms, normals, m, level)
        low = (m - 1 - min(ranks.highest, m - 1)) / (m - 1)
        high = (m + 1 - max(ranks.lowest, 2)) / (m - 1)
        return low, high

    def describe_promise(self) -> str:
        return (
            f"about {100 * self.false_alarm_rate:.2f} % of fresh normals are flagged, as long as they come from where the "
            "calibration samples came from; the rate of one calibration draw scatters around that"
        )

    def describe_rate(self) -> str:
        return f"flags about {self.false_alarm_rate:.2%} of normal samples"

    def describe_choice(self, stored: StoredThreshold) -> str:
        return (
            f"That is the quantile at {1 - self.false_alarm_rate:.4%} of {stored.calibration_rows:,} scores of normals that "
            f"neither training nor test saw; the true one lies between {stored.details['low']:.4g} and "
            f"{stored.details['high']:.4g} with a confidence of {100 * self.confidence:g} %."
        )


CONFORMAL_THRESHOLDS: dict[str, type[ThresholdMethod]] = {
    "split-conformal": SplitConformalThreshold,
    "confident": ConfidentThreshold,
    "per-group": PerGroupThreshold,
    "alarm-budget": AlarmBudgetThreshold,
    "block-conformal": BlockConformalThreshold,
    "quantile": QuantileThreshold,
}
