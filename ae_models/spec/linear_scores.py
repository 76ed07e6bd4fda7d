"""Section `score`: kinds that compare a sample with the main directions in which normal samples vary."""

import math
from dataclasses import dataclass
from typing import ClassVar

from ae_models.spec.autoencoder import AutoencoderConfig, input_shape
from ae_models.spec.bank_scores import compared_input_errors
from ae_models.spec.columns import vector_width
from ae_models.spec.fields import bounded_field
from ae_models.spec.inputs import TABLE, VECTOR_KINDS, InputSpec
from ae_models.spec.training import TrainSpec

__all__ = ["PcaResidualScoreSpec"]


@dataclass(frozen=True)
class PcaResidualScoreSpec:
    """log ||r||^2 - energy * log ||x||^2, with the residual r of x on the first principal axes of the training samples.

    x is the blurred and pooled input, less a share of its level. How many axes there are is said by `components` or `variance`;
    where the training samples vary along fewer directions, there are as many axes as these.
    """

    kind: ClassVar[str] = "pca-residual"
    supported_inputs: ClassVar[tuple[str, ...]] = VECTOR_KINDS
    components: int = bounded_field(0, low=0, high=4096)  # principal axes; 0: as many as `variance` needs
    variance: float = bounded_field(0.95, low=0.01, high=0.9999)  # least share of the variance along the axes
    blur: float = bounded_field(0.0, low=0.0, high=16.0)  # standard deviation in pixels (steps, in a series); 0: none
    energy: float = bounded_field(0.0, low=0.0, high=1.0)  # share of log ||x||^2 that is subtracted
    pool: int = bounded_field(1, low=1, high=64)  # pixels a side (steps) of which the mean is taken after the blur; 1: none
    level: float = bounded_field(0.0, low=0.0, high=1.0, omit_default=True)  # share of each channel's mean that is subtracted

    def validation_errors(self) -> list[str]:
        if self.components and self.variance != PcaResidualScoreSpec.__dataclass_fields__["variance"].default:
            return [f"components is {self.components} and variance is {self.variance:g}: leave one of them out"]
        return []

    def compatibility_errors(self, model: AutoencoderConfig, input_spec: InputSpec, train: TrainSpec) -> list[str]:
        if messages := compared_input_errors(self.blur, self.pool, self.level, model, input_spec):
            return messages
        if input_spec.kind == TABLE:
            numbers = vector_width(input_spec.columns, input_spec.one_hot)
        else:
            channels, *sides = input_shape(model, input_spec)
            numbers = channels * math.prod(side // self.pool for side in sides)
        if self.components >= numbers:
            return [f"components is {self.components}, expected fewer than the {numbers} numbers of a sample"]
        return []
