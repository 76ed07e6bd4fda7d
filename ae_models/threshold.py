"""threshold: from calibration scores to a threshold with a promise, in numpy.

Split conformal prediction: if calibration and fresh normals are exchangeable, a fresh score exceeds the k-th smallest
of m calibration scores, k = ceil((m + 1)(1 - a)), with probability at most a. Given one calibration set, the rate is
not a but a draw from Beta(m + 1 - k, k). (Vovk, Gammerman, Shafer 2005, ch. 2; Angelopoulos, Bates 2021, section 3.2)
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from ae_models.errors import SpecError

Scores = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Threshold:
    """A sample is an anomaly when its score is above `value`.

    Attributes:
        value: the rank-th smallest calibration score.
        rank: counted from 1.
        calibration_scores: ascending, (m,).
    """

    value: float
    rank: int
    calibration_scores: Scores

    def plain(self, spec: Any) -> dict[str, Any]:
        """The `threshold` section of bundle.json."""
        rows = len(self.calibration_scores)
        rate = {"kind": spec.kind, "false_alarm_rate": spec.false_alarm_rate}
        return rate | {"value": self.value, "calibration_rows": rows, "rank": self.rank}


def split_conformal(scores: Scores, false_alarm_rate: float) -> Threshold:
    """The smallest threshold that keeps the false-alarm rate of exchangeable normals at or below the one asked for.

    Raises:
        SpecError: too few calibration scores for so small a rate.
    """
    rank = conformal_rank(len(scores), false_alarm_rate)
    if rank > len(scores):
        least = -(-1 // Fraction(str(false_alarm_rate))) - 1
        raise SpecError(
            [
                f"threshold.false_alarm_rate: {false_alarm_rate:g} given with {len(scores)} calibration samples; at least "
                f"{least} are needed: raise threshold.false_alarm_rate or data.split.calibration in the recipe"
            ]
        )
    ascending = np.sort(np.asarray(scores, dtype=np.float32))
    return Threshold(float(ascending[rank - 1]), rank, ascending)


def conformal_rank(rows: int, false_alarm_rate: float) -> int:
    """ceil((rows + 1)(1 - rate)), in exact arithmetic: 0.01 in binary would give 991 of 999 rows instead of 990."""
    return rows + 1 - int((rows + 1) * Fraction(str(false_alarm_rate)))


def calibrate(spec: Any, scores: Scores) -> Threshold:
    """The threshold of `spec.kind` on these calibration scores, in any order."""
    settings = {key.name: getattr(spec, key.name) for key in fields(spec)}
    return KINDS[spec.kind](scores, **settings)


KINDS: dict[str, Callable[..., Threshold]] = {"split-conformal": split_conformal}
