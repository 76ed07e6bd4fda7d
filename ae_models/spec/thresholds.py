"""Section `threshold`: the score above which a sample is an anomaly."""

from dataclasses import dataclass
from typing import ClassVar

from ae_models.spec.fields import bounded_field
from ae_models.spec.inputs import INPUT_KINDS

__all__ = ["SplitConformalThresholdSpec", "ThresholdSpec"]


@dataclass(frozen=True)
class SplitConformalThresholdSpec:
    """The smallest threshold whose false-alarm rate on exchangeable normals is at most the requested one."""

    kind: ClassVar[str] = "split-conformal"
    supported_inputs: ClassVar[tuple[str, ...]] = INPUT_KINDS
    false_alarm_rate: float = bounded_field(0.01, low=0.0001, high=0.5)  # share of normals that may be flagged


ThresholdSpec = SplitConformalThresholdSpec  # a union, once there is a second kind
