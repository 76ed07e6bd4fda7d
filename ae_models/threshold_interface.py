"""What a kind of threshold is, and what the kinds share. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ae_models.errors import SampleError, SpecError
from ae_models.threshold_laws import plausible_ranks

__all__ = [
    "CALIBRATION_SCORES",
    "GATE_LEVEL",
    "STORED_PREFIX",
    "CalibratedThreshold",
    "CalibrationRows",
    "CalibrationScores",
    "GroupedRows",
    "IndexArray",
    "PooledDecision",
    "ScoreArray",
    "StoredThreshold",
    "ThresholdMethod",
    "UnjudgedRate",
    "calibrate_rank",
    "conformal_plausible_rates",
    "conformal_rows",
    "describe_rank",
    "pooled_p_values",
    "require_calibration_rows",
    "sort_scores",
    "to_float32",
]

ScoreArray = npt.NDArray[np.float32]
IndexArray = npt.NDArray[np.int64]

GATE_LEVEL = 0.999  # of the rates by which the gate judges a promise: it refuses one in a thousand of the thresholds that keep it
CALIBRATION_SCORES = "calibration_scores"  # ascending, (m,), among the arrays of a calibration
STORED_PREFIX = "threshold."  # of a kind's further arrays in scorer.safetensors


# ---------------------------------------------------------------- the interface


@dataclass(frozen=True)
class GroupedRows:
    """Number of calibration samples of each group: known before a training, since the groups do not depend on the model.

    Attributes:
        names: of the groups, as a person knows them.
        rows: of each.
    """

    names: tuple[str, ...]
    rows: tuple[int, ...]


@dataclass(frozen=True)
class CalibrationRows:
    """Numbers of samples that a threshold can be chosen by.

    Attributes:
        calibration: normal samples that were not trained on.
        validation: other normal ones.
        novelty: labelled anomalies beside the validation samples.
        groups: of the calibration samples; None where their labels are not known.
    """

    calibration: int
    validation: int = 0
    novelty: int = 0
    groups: GroupedRows | None = None


@dataclass(frozen=True)
class CalibrationScores:
    """Scores that a threshold is chosen by, each (samples,) in any order.

    Attributes:
        calibration: of normal samples that were not trained on; for a kind that judges blocks, in the order of time.
        validation: of other normal ones; with `novelty`, for a kind that reads that.
        novelty: of labelled anomalies.
        groups: the place of each calibration sample's group among the names.
        group_names: of the groups.
        group_centres: (groups, values): the mean sample of each group's training samples, in [0, 1].
    """

    calibration: ScoreArray
    validation: ScoreArray | None = None
    novelty: ScoreArray | None = None
    groups: IndexArray | None = None
    group_names: tuple[str, ...] = ()
    group_centres: ScoreArray | None = None


class ThresholdMethod(Protocol):
    """A way to choose a threshold. Its constructor takes the fields of its spec as keyword arguments."""

    @property
    def requested_rate(self) -> float | None:
        """Share of normal samples that may be flagged, in (0, 1); None where the kind names none (`has_rate` of its spec)."""

    @property
    def is_promised(self) -> bool:
        """Whether the requested rate is promised, by a law of the alarms (`has_law` of its spec)."""

    @property
    def block(self) -> int:
        """Samples in a row that the requested rate is about, together: 1, or the windows of a block of a series."""

    def require_rows(self, rows: CalibrationRows) -> None:
        """Check that there are enough samples.

        Raises:
            SpecError: more are needed; the message says how many.
        """

    def calibrate(self, scores: CalibrationScores) -> "CalibratedThreshold":
        """Choose the threshold. The same scores give the same bits.

        Raises:
            SpecError: too few scores.
            SampleError: scores that are not finite, or that no such threshold can be chosen from.
        """

    def p_values(self, scores: Any, inputs: Any, calibration: Mapping[str, Any]) -> Any:
        """Return the p-value of each score, (n,), in (0, 1].

        Args:
            scores: torch tensor (n,).
            inputs: of the model that were scored, (n, ...) in [0, 1].
            calibration: the arrays of a `CalibratedThreshold` as torch tensors: `calibration_scores` and those of `extra_arrays`.
        """

    def flag(self, scores: Any, inputs: Any, calibration: Mapping[str, Any], value: float) -> Any:
        """Return whether each sample is an anomaly, bool (n,).

        Args:
            scores, inputs, calibration: as in `p_values`.
            value: of the threshold.
        """

    def calibration_rank(self, calibration_rows: int) -> int | None:
        """Return the threshold's rank k among m calibration scores, counted from 1.

        A fresh normal's score then exceeds the threshold with probability (m + 1 - k) / (m + 1), whatever the distribution:
        monitoring tests this law.

        Returns:
            None where the threshold is no calibration score: there is no such law to test.
        """

    def plausible_rates(
        self, alarms: int, normals: int, stored: "StoredThreshold", level: float = 0.95
    ) -> tuple[float, float] | None:
        """Return the promised rates that the alarms among fresh normals do not contradict, the calibration's chance included.

        This is the interval of this kind of threshold: a binomial one is about one threshold's own rate, which differs from the
        promised one by the chance of its calibration draw. The gate judges by it at `GATE_LEVEL`.

        Args:
            alarms: flagged samples.
            normals: fresh normal samples, flagged or not.
            stored: the threshold, with its number of calibration samples.
            level: confidence, in (0, 1).

        Returns:
            The lowest and highest rate that is not rejected, in [0, 1]; None where this kind has no law (`has_law` of its spec).
        """

    def describe_promise(self) -> str:
        """Return the promise as a clause for a report, without a full stop."""

    def describe_rate(self) -> str:
        """Return the promise in a few words that follow "the threshold", such as "flags 1.00% of normal samples"."""

    def describe_choice(self, stored: "StoredThreshold") -> str:
        """Return a sentence that says how the value was chosen."""


@dataclass(frozen=True)
class CalibratedThreshold:
    """A threshold with its calibration. A sample is an anomaly when `method.flag` says so.

    Attributes:
        method: the kind that chose it.
        value: in the score's units: each sample whose score is above it is an anomaly.
        calibration_scores: ascending, (m,).
        details: further numbers of this kind, for bundle.json.
        extra_arrays: further arrays of this kind, for scorer.safetensors and the exported graph.
    """

    method: ThresholdMethod
    value: float
    calibration_scores: ScoreArray
    details: Mapping[str, Any] = field(default_factory=dict)
    extra_arrays: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    @property
    def stored_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays of the calibration by their names in scorer.safetensors."""
        further_arrays = {f"{STORED_PREFIX}{name}": array for name, array in self.extra_arrays.items()}
        return {CALIBRATION_SCORES: self.calibration_scores} | further_arrays

    def to_dict(self) -> dict[str, Any]:
        """Return the calibration's keys of the `threshold` section in bundle.json."""
        return {"value": self.value, "calibration_rows": len(self.calibration_scores), **self.details}


@dataclass(frozen=True)
class StoredThreshold:
    """A threshold as bundle.json holds it.

    Attributes:
        method: the kind that chose it.
        value: in the score's units.
        calibration_rows: number of calibration scores; None in a bundle that is too old to say.
        details: further numbers of this kind.
    """

    method: ThresholdMethod
    value: float
    calibration_rows: int | None
    details: Mapping[str, Any]

    @property
    def promised_rate(self) -> float | None:
        """The requested rate where it is promised; None where nothing is."""
        if not self.method.is_promised:
            return None
        return self.method.requested_rate

    def plausible_rates(self, alarms: int, normals: int, level: float = 0.95) -> tuple[float, float] | None:
        """See `ThresholdMethod.plausible_rates`; also None where the number of calibration scores is not known."""
        if self.calibration_rows is None:
            return None
        return self.method.plausible_rates(alarms, normals, self, level)

    def describe_choice(self) -> str:
        """See `ThresholdMethod.describe_choice`."""
        return self.method.describe_choice(self)


# ---------------------------------------------------------------- shared by the kinds


def sort_scores(scores: ScoreArray) -> ScoreArray:
    """Return calibration scores in ascending order.

    Raises:
        SampleError: some are NaN or infinite.
    """
    scores = np.asarray(scores, dtype=np.float32)
    if bad_rows := int((~np.isfinite(scores)).sum()):
        raise SampleError(
            f"expected finite scores of the calibration samples, got {bad_rows} of {len(scores)} that are NaN or infinite: the "
            "model's outputs overflow. Train it again with a smaller train.learning_rate"
        )
    return np.sort(scores)


def pooled_p_values(scores: Any, calibration_scores: Any) -> Any:
    """Return (1 + #{calibration scores >= score}) / (m + 1), (n,), of torch tensors."""
    # Compared one by one: ONNX has no search in a sorted list. Typed as Any: this module must not load torch.
    at_least = (calibration_scores >= scores.unsqueeze(1)).float().sum(1)
    return (1 + at_least) / (calibration_scores.shape[0] + 1)


def require_calibration_rows(needed_rows: int, rows: int, setting: str, remedy: str) -> None:
    """Raise SpecError where there are fewer calibration samples than are needed.

    Args:
        needed_rows: at least.
        rows: how many there are.
        setting: what needs them, such as `threshold.false_alarm_rate: 0.01`.
        remedy: what to do in the recipe.
    """
    if rows < needed_rows:
        raise SpecError([f"{setting} needs {needed_rows} calibration samples or more, got {rows}: {remedy} in the recipe"])


def conformal_rows(false_alarm_rate: float | Fraction) -> int:
    """Return how many calibration samples a split-conformal threshold of this rate needs.

    >>> conformal_rows(0.01)
    99
    """
    return -(-1 // Fraction(str(false_alarm_rate))) - 1


def describe_rank(stored: StoredThreshold) -> str:
    """Return how a threshold that is a calibration score was chosen."""
    rows = stored.calibration_rows
    if rows is None or "rank" not in stored.details:
        return "It was chosen from the scores of normals that neither training nor test saw."
    return f"That is rank {stored.details['rank']:,} of {rows:,} scores of normals that neither training nor test saw."


def calibrate_rank(method: ThresholdMethod, scores: ScoreArray, rank: int) -> CalibratedThreshold:
    """Return the threshold that is the calibration score of this rank."""
    sorted_scores = sort_scores(scores)
    return CalibratedThreshold(method, float(sorted_scores[rank - 1]), sorted_scores, {"rank": rank})


def conformal_plausible_rates(alarms: int, normals: int, calibration_rows: int, level: float) -> tuple[float, float]:
    """Return the rates whose split-conformal rank the alarms do not contradict: k belongs to [1 - k/(m+1), 1 - (k-1)/(m+1)).

    >>> low, high = conformal_plausible_rates(13, 1000, 999, 0.95)
    >>> low < 0.01 < high
    True
    """
    m = calibration_rows
    ranks = plausible_ranks(alarms, normals, m, level)
    # As one quotient each: 1 - k / (m + 1) would be rounded twice and could miss a rate that lies on the edge.
    return (m + 1 - ranks.highest) / (m + 1), (m + 2 - ranks.lowest) / (m + 1)


def to_float32(value: float) -> float:
    """Return a threshold as the exported graph compares scores with it."""
    return float(np.float32(value))


class PooledDecision:
    """P-values and flags by all calibration scores together and one value: the part that most kinds share.

    A kind without a rank leaves `calibration_rank` as it is here.
    """

    block = 1

    def p_values(self, scores: Any, inputs: Any, calibration: Mapping[str, Any]) -> Any:
        """See `ThresholdMethod.p_values`."""
        return pooled_p_values(scores, calibration[CALIBRATION_SCORES])

    def flag(self, scores: Any, inputs: Any, calibration: Mapping[str, Any], value: float) -> Any:
        """See `ThresholdMethod.flag`."""
        return scores > value

    def calibration_rank(self, calibration_rows: int) -> int | None:
        """Return None: the threshold is no calibration score."""
        return None


class UnjudgedRate:
    """No law of the alarms among fresh normals: the part that kinds without a promise share."""

    is_promised = False

    def plausible_rates(
        self, alarms: int, normals: int, stored: StoredThreshold, level: float = 0.95
    ) -> tuple[float, float] | None:
        """Return None: no rate can be rejected."""
        return None
