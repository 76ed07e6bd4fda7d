"""Section `score`: scores that compare the members of an ensemble (train.members)."""

from dataclasses import dataclass
from typing import ClassVar

from ae_models.spec.autoencoder import AutoencoderConfig
from ae_models.spec.fields import bounded_field
from ae_models.spec.inputs import TABLE, VECTOR_KINDS, InputSpec
from ae_models.spec.training import TrainSpec

__all__ = ["DisagreementScoreSpec"]


@dataclass(frozen=True)
class DisagreementScoreSpec:
    """log of the mean over members m of ||blurred (y_m - mean y)||^2, less energy * log ||x||^2: where the members differ."""

    kind: ClassVar[str] = "disagreement"
    supported_inputs: ClassVar[tuple[str, ...]] = VECTOR_KINDS
    energy: float = bounded_field(0.5, low=0.0, high=1.0)  # 0: the plain log variance
    blur: float = bounded_field(0.0, low=0.0, high=16.0)  # standard deviation in pixels (steps, in a series); 0: none

    def compatibility_errors(self, model: AutoencoderConfig, input_spec: InputSpec, train: TrainSpec) -> list[str]:
        if input_spec.kind == TABLE and self.blur:
            return [f"disagreement: blur is {self.blur:g}, expected 0 for kind table: columns have no order"]
        if train.members < 2:
            return [f"disagreement needs an ensemble: expected train.members of 2 or more, got {train.members}"]
        return []
