"""Section `threshold`: the score above which a sample is an anomaly.

Beside `kind` and `supported_inputs`, a spec says by constants of its class what other packages must know before a training:

| constant | meaning |
|---|---|
| `has_rate` | it names a rate of false alarms, which evaluation reports as `false_alarms.requested` |
| `has_law` | the alarms among fresh normals follow a known law, so that the gate can judge `keeps_its_promise` |
| `reads_groups` | it needs the label of each training sample |
| `reads_novelty` | it needs labelled anomalies beside the validation samples |
| `has_block` | its rate is one of blocks of samples in a row |
"""

from dataclasses import dataclass
from typing import ClassVar

from ae_models.spec.fields import bounded_field
from ae_models.spec.inputs import ARRAY_KINDS, INPUT_KINDS, SERIES

__all__ = [
    "AlarmBudgetThresholdSpec",
    "BestF1ThresholdSpec",
    "BlockConformalThresholdSpec",
    "ConfidentThresholdSpec",
    "CostThresholdSpec",
    "MadThresholdSpec",
    "PeaksOverThresholdSpec",
    "PerGroupThresholdSpec",
    "QuantileThresholdSpec",
    "SplitConformalThresholdSpec",
    "ThresholdSpec",
]


@dataclass(frozen=True)
class SplitConformalThresholdSpec:
    """The smallest threshold whose false-alarm rate on exchangeable normals is at most the requested one."""

    kind: ClassVar[str] = "split-conformal"
    supported_inputs: ClassVar[tuple[str, ...]] = INPUT_KINDS
    has_rate: ClassVar[bool] = True
    has_law: ClassVar[bool] = True
    reads_groups: ClassVar[bool] = False
    reads_novelty: ClassVar[bool] = False
    has_block: ClassVar[bool] = False
    false_alarm_rate: float = bounded_field(0.01, low=0.0001, high=0.5)  # share of normals that may be flagged
    # Share of the calibration samples with the highest scores that is left out, where so many of them may be anomalous.
    trim: float = bounded_field(0.0, low=0.0, high=0.5, omit_default=True)


@dataclass(frozen=True)
class BlockConformalThresholdSpec:
    """The smallest threshold that is passed in at most the requested share of blocks of windows in a row."""

    kind: ClassVar[str] = "block-conformal"
    supported_inputs: ClassVar[tuple[str, ...]] = (SERIES,)
    has_rate: ClassVar[bool] = True
    has_law: ClassVar[bool] = True
    reads_groups: ClassVar[bool] = False
    reads_novelty: ClassVar[bool] = False
    has_block: ClassVar[bool] = True
    false_alarm_rate: float = bounded_field(0.05, low=0.0001, high=0.5)  # share of normal blocks in which any window is flagged
    block: int = bounded_field(16, low=2, high=65536)  # windows in a row that are judged together: those of hours, not of minutes


@dataclass(frozen=True)
class ConfidentThresholdSpec:
    """The smallest threshold whose own false-alarm rate is at most the requested one with the confidence that is asked for."""

    kind: ClassVar[str] = "confident"
    supported_inputs: ClassVar[tuple[str, ...]] = INPUT_KINDS
    has_rate: ClassVar[bool] = True
    has_law: ClassVar[bool] = True
    reads_groups: ClassVar[bool] = False
    reads_novelty: ClassVar[bool] = False
    has_block: ClassVar[bool] = False
    false_alarm_rate: float = bounded_field(0.01, low=0.0001, high=0.5)  # share of normals that may be flagged
    confidence: float = bounded_field(0.95, low=0.5, high=0.9999)  # share of calibration draws that keep the rate


@dataclass(frozen=True)
class PerGroupThresholdSpec:
    """A split-conformal threshold for each label of the normals: a sample belongs to the label whose mean sample is nearest."""

    kind: ClassVar[str] = "per-group"
    supported_inputs: ClassVar[tuple[str, ...]] = ARRAY_KINDS
    has_rate: ClassVar[bool] = True
    has_law: ClassVar[bool] = True
    reads_groups: ClassVar[bool] = True
    reads_novelty: ClassVar[bool] = False
    has_block: ClassVar[bool] = False
    false_alarm_rate: float = bounded_field(0.01, low=0.0001, high=0.5)  # share of each group's normals that may be flagged


@dataclass(frozen=True)
class AlarmBudgetThresholdSpec:
    """A split-conformal threshold for a number of false alarms a day at a stated traffic."""

    kind: ClassVar[str] = "alarm-budget"
    supported_inputs: ClassVar[tuple[str, ...]] = INPUT_KINDS
    has_rate: ClassVar[bool] = True
    has_law: ClassVar[bool] = True
    reads_groups: ClassVar[bool] = False
    reads_novelty: ClassVar[bool] = False
    has_block: ClassVar[bool] = False
    alarms_per_day: float = bounded_field(low=0.001, high=1e9)  # false ones, on average
    samples_per_day: float = bounded_field(low=1.0, high=1e12)  # that the model scores

    def validation_errors(self) -> list[str]:
        if self.alarms_per_day > self.samples_per_day / 2:
            half = f"{self.samples_per_day / 2:g}"
            return [f"alarms_per_day: expected at most {half}, half of samples_per_day, got {self.alarms_per_day:g}"]
        return []


@dataclass(frozen=True)
class QuantileThresholdSpec:
    """The quantile of the calibration scores that leaves the requested share above it, with its interval."""

    kind: ClassVar[str] = "quantile"
    supported_inputs: ClassVar[tuple[str, ...]] = INPUT_KINDS
    has_rate: ClassVar[bool] = True
    has_law: ClassVar[bool] = True
    reads_groups: ClassVar[bool] = False
    reads_novelty: ClassVar[bool] = False
    has_block: ClassVar[bool] = False
    false_alarm_rate: float = bounded_field(0.01, low=0.0001, high=0.5)  # share of normals above the quantile
    confidence: float = bounded_field(0.95, low=0.5, high=0.9999)  # of the interval of the true quantile


@dataclass(frozen=True)
class PeaksOverThresholdSpec:
    """A generalised Pareto law of the highest calibration scores, for rates below one in the number of calibration samples."""

    kind: ClassVar[str] = "peaks-over-threshold"
    supported_inputs: ClassVar[tuple[str, ...]] = INPUT_KINDS
    has_rate: ClassVar[bool] = True
    has_law: ClassVar[bool] = False
    reads_groups: ClassVar[bool] = False
    reads_novelty: ClassVar[bool] = False
    has_block: ClassVar[bool] = False
    false_alarm_rate: float = bounded_field(0.001, low=1e-7, high=0.1)  # share of normals that the fitted law leaves above
    tail: float = bounded_field(0.1, low=0.01, high=0.5)  # share of the calibration scores that the law is fitted to

    def validation_errors(self) -> list[str]:
        if self.false_alarm_rate >= self.tail:
            tail = f"{self.tail:g}, the share of scores that the law is fitted to"
            return [f"false_alarm_rate: expected less than tail, {tail}, got {self.false_alarm_rate:g}"]
        return []


@dataclass(frozen=True)
class MadThresholdSpec:
    """So many median absolute deviations above the median of the calibration scores, in units of a normal law's deviation."""

    kind: ClassVar[str] = "mad"
    supported_inputs: ClassVar[tuple[str, ...]] = INPUT_KINDS
    has_rate: ClassVar[bool] = False
    has_law: ClassVar[bool] = False
    reads_groups: ClassVar[bool] = False
    reads_novelty: ClassVar[bool] = False
    has_block: ClassVar[bool] = False
    deviations: float = bounded_field(3.5, low=0.5, high=100.0)  # above the median


@dataclass(frozen=True)
class CostThresholdSpec:
    """The threshold of the least expected cost, by labelled anomalies beside the validation samples."""

    kind: ClassVar[str] = "cost"
    supported_inputs: ClassVar[tuple[str, ...]] = INPUT_KINDS
    has_rate: ClassVar[bool] = False
    has_law: ClassVar[bool] = False
    reads_groups: ClassVar[bool] = False
    reads_novelty: ClassVar[bool] = True
    has_block: ClassVar[bool] = False
    false_alarm: float = bounded_field(low=0.0, high=1e12)  # cost of one
    miss: float = bounded_field(low=0.0, high=1e12)  # cost of one, in the same unit
    anomaly_share: float = bounded_field(low=1e-9, high=0.9)  # share of anomalies among the samples that will be scored

    def validation_errors(self) -> list[str]:
        if self.false_alarm == 0 and self.miss == 0:
            return ["false_alarm and miss are both 0: expected a cost above 0 for one of them"]
        return []


@dataclass(frozen=True)
class BestF1ThresholdSpec:
    """The threshold of the largest F1 on the validation samples and labelled anomalies, as many of each as there are."""

    kind: ClassVar[str] = "best-f1"
    supported_inputs: ClassVar[tuple[str, ...]] = INPUT_KINDS
    has_rate: ClassVar[bool] = False
    has_law: ClassVar[bool] = False
    reads_groups: ClassVar[bool] = False
    reads_novelty: ClassVar[bool] = True
    has_block: ClassVar[bool] = False


ThresholdSpec = (
    SplitConformalThresholdSpec
    | ConfidentThresholdSpec
    | PerGroupThresholdSpec
    | AlarmBudgetThresholdSpec
    | BlockConformalThresholdSpec
    | QuantileThresholdSpec
    | PeaksOverThresholdSpec
    | MadThresholdSpec
    | CostThresholdSpec
    | BestF1ThresholdSpec
)
