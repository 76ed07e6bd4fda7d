"""Thresholds: from the scores of calibration samples to a threshold with a promise about false alarms. No torch.

Everything that other packages need to know about a kind of threshold stands behind `ThresholdMethod`: `threshold_method` builds
it from the `threshold` section of a recipe or of a bundle.json.

    method = threshold_method(bundle_document["threshold"])
    low, high = method.plausible_rates(alarms=13, normals=1000, calibration_rows=999)
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from fractions import Fraction
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ae_models.errors import SpecError
from ae_models.factory import build_part
from ae_models.spec import PART_SPECS, SpecReader, ThresholdSpec

__all__ = [
    "THRESHOLDS",
    "CalibratedThreshold",
    "ScoreArray",
    "SplitConformalThreshold",
    "ThresholdMethod",
    "conformal_rank",
    "load_threshold",
    "threshold_method",
    "threshold_spec",
]

ScoreArray = npt.NDArray[np.float32]


class ThresholdMethod(Protocol):
    """A way to choose a threshold. Its constructor takes the fields of its spec as keyword arguments."""

    @property
    def promised_rate(self) -> float:
        """Largest share of normal samples that may be flagged, in (0, 1)."""

    def require_rows(self, calibration_rows: int) -> None:
        """Check that there are enough calibration samples.

        Raises:
            SpecError: more are needed; the message says how many.
        """

    def calibrate(self, scores: ScoreArray) -> "CalibratedThreshold":
        """Choose the threshold.

        Args:
            scores: of the calibration samples, (m,), in any order.

        Raises:
            SpecError: too few scores.
        """

    def p_values(self, scores: Any, calibration_scores: Any) -> Any:
        """Return the p-value of each score, (n,), in (0, 1].

        Args:
            scores: torch tensor (n,).
            calibration_scores: torch tensor (m,), ascending.
        """

    def calibration_rank(self, calibration_rows: int) -> int | None:
        """Return the threshold's rank k among m calibration scores, counted from 1.

        A fresh normal's score then exceeds the threshold with probability (m + 1 - k) / (m + 1), whatever the distribution:
        monitoring tests this law.

        Returns:
            None where the threshold is no calibration score: there is no such law to test.
        """

    def plausible_rates(
        self, alarms: int, normals: int, calibration_rows: int, level: float = 0.95
    ) -> tuple[float, float] | None:
        """Return the promised rates that the alarms among fresh normals do not contradict, the calibration's chance included.

        Args:
            alarms: flagged samples.
            normals: fresh normal samples, flagged or not.
            calibration_rows: m.
            level: confidence, in (0, 1).

        Returns:
            The lowest and highest rate that is not rejected, in [0, 1]; None where this kind has no such law.
        """

    def describe_promise(self) -> str:
        """Return the promise as a clause for a report, without a full stop."""


@dataclass(frozen=True)
class CalibratedThreshold:
    """A threshold with its calibration. A sample is an anomaly when its score is above `value`.

    Attributes:
        method: the kind that chose it.
        value: in the score's units.
        calibration_scores: ascending, (m,).
        details: further numbers of this kind, for bundle.json.
    """

    method: ThresholdMethod
    value: float
    calibration_scores: ScoreArray
    details: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the calibration's keys of the `threshold` section in bundle.json."""
        return {"value": self.value, "calibration_rows": len(self.calibration_scores), **self.details}


class SplitConformalThreshold:
    """The k-th smallest of m calibration scores, k = ceil((m + 1)(1 - a)), for a false-alarm rate a.

    If calibration and fresh normals are exchangeable, a fresh score exceeds it with probability at most a. Given one
    calibration set, the rate is not a but a sample of Beta(m + 1 - k, k). (Vovk, Gammerman, Shafer 2005, ch. 2; Angelopoulos,
    Bates 2021, section 3.2)

    Args:
        false_alarm_rate: a, in (0, 1).

    >>> SplitConformalThreshold(0.1).calibrate(np.arange(99, dtype=np.float32)).value
    89.0
    """

    def __init__(self, false_alarm_rate: float) -> None:
        self.false_alarm_rate = false_alarm_rate

    @property
    def promised_rate(self) -> float:
        return self.false_alarm_rate

    def require_rows(self, calibration_rows: int) -> None:
        if conformal_rank(calibration_rows, self.false_alarm_rate) <= calibration_rows:
            return
        needed_rows = -(-1 // Fraction(str(self.false_alarm_rate))) - 1
        raise SpecError(
            [
                f"threshold.false_alarm_rate: {self.false_alarm_rate:g} needs {needed_rows} calibration samples or more, "
                f"got {calibration_rows}: raise threshold.false_alarm_rate or data.split.calibration in the recipe"
            ]
        )

    def calibrate(self, scores: ScoreArray) -> CalibratedThreshold:
        self.require_rows(len(scores))
        rank = conformal_rank(len(scores), self.false_alarm_rate)
        sorted_scores = np.sort(np.asarray(scores, dtype=np.float32))
        return CalibratedThreshold(self, float(sorted_scores[rank - 1]), sorted_scores, {"rank": rank})

    def p_values(self, scores: Any, calibration_scores: Any) -> Any:
        """Return (1 + #{calibration scores >= score}) / (m + 1)."""
        # Compared one by one: ONNX has no search in a sorted list. Typed as Any: this module must not load torch.
        at_least = (calibration_scores >= scores.unsqueeze(1)).float().sum(1)
        return (1 + at_least) / (calibration_scores.shape[0] + 1)

    def calibration_rank(self, calibration_rows: int) -> int | None:
        rank = conformal_rank(calibration_rows, self.false_alarm_rate)
        if rank > calibration_rows:  # no calibration score is high enough
            return None
        return rank

    def plausible_rates(self, alarms: int, normals: int, calibration_rows: int, level: float = 0.95) -> tuple[float, float]:
        """Return the rates that the alarms do not contradict, from the beta-binomial law.

        Alarms among n fresh normals follow BetaBinomial(n, m + 1 - k, k) whatever the scores' distribution. A rate is rejected
        where either tail of its k holds less than (1 - level) / 2; the k that are not rejected are neighbours, and k belongs
        to the rates [1 - k / (m + 1), 1 - (k - 1) / (m + 1)).

        >>> low, high = SplitConformalThreshold(0.01).plausible_rates(alarms=13, normals=1000, calibration_rows=999)
        >>> low < 0.01 < high
        True
        """
        from scipy.stats import betabinom  # takes a second to load, and only evaluation needs it

        tail_share, m = (1 - level) / 2, calibration_rows
        ranks = range(1, m + 1)

        def probability_at_most(rank: int) -> float:
            return float(betabinom.cdf(alarms, normals, m + 1 - rank, rank))  # grows with the rank

        def probability_at_least(rank: int) -> float:
            return float(betabinom.sf(alarms - 1, normals, m + 1 - rank, rank))  # falls with it

        lowest_rank = 1 + bisect_left(ranks, tail_share, key=probability_at_most)
        highest_rank = bisect_right(ranks, -tail_share, key=lambda rank: -probability_at_least(rank))
        if alarms == 0:
            highest_rank = m + 1  # where no calibration score is high enough, nothing is ever flagged
        if lowest_rank > highest_rank:  # so few calibration scores that each rank is rejected: take the two nearest to acceptance
            lowest_rank, highest_rank = max(1, highest_rank), lowest_rank
        # As one quotient each: 1 - k / (m + 1) would be rounded twice and could miss a rate that lies on the edge.
        return (m + 1 - highest_rank) / (m + 1), (m + 2 - lowest_rank) / (m + 1)

    def describe_promise(self) -> str:
        return (
            f"at most {100 * self.false_alarm_rate:.2f} % of fresh normals are flagged, on average over calibration draws, "
            "as long as they come from where the calibration samples came from"
        )


def conformal_rank(calibration_rows: int, false_alarm_rate: float) -> int:
    """Return ceil((m + 1)(1 - rate)) for m calibration scores.

    In exact arithmetic: 0.01 in binary would give 991 of 999 scores instead of 990.

    >>> conformal_rank(999, 0.01)
    990
    """
    return calibration_rows + 1 - int((calibration_rows + 1) * Fraction(str(false_alarm_rate)))


def threshold_method(section: Mapping[str, Any]) -> ThresholdMethod:
    """Return the method of a `threshold` section, of a recipe or of a bundle.json.

    Raises:
        SpecError: a kind or a setting that this version does not know.

    >>> threshold_method({"kind": "split-conformal", "false_alarm_rate": 0.05, "value": 1.3, "rank": 95}).promised_rate
    0.05
    """
    return build_part(THRESHOLDS, threshold_spec(section))


def threshold_spec(section: Mapping[str, Any]) -> ThresholdSpec:
    """Return the spec in a `threshold` section, without what its calibration added.

    Raises:
        SpecError: a kind or a setting that this version does not know.
    """
    reader = SpecReader("threshold")
    spec: ThresholdSpec = reader.read_kind(PART_SPECS["threshold"], _spec_keys(section), "threshold")
    reader.finish()
    return spec


def load_threshold(section: Mapping[str, Any], calibration_scores: ScoreArray) -> CalibratedThreshold:
    """Return the threshold of a bundle.

    Args:
        section: `threshold` of its bundle.json.
        calibration_scores: ascending, (m,), from its scorer.safetensors.
    """
    settings = _spec_keys(section)
    details = dict(section)
    for key in (*settings, "value", "calibration_rows"):
        details.pop(key, None)
    return CalibratedThreshold(threshold_method(section), section["value"], calibration_scores, details)


def _spec_keys(section: Mapping[str, Any]) -> dict[str, Any]:
    spec_class: Any = PART_SPECS["threshold"].get(section["kind"])
    if spec_class is None:
        return dict(section)
    names = ["kind", *(spec_field.name for spec_field in fields(spec_class))]
    return {name: section[name] for name in names if name in section}


THRESHOLDS: dict[str, type[ThresholdMethod]] = {"split-conformal": SplitConformalThreshold}
