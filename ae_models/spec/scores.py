"""Section `score`: the anomaly score of a sample."""

from dataclasses import dataclass
from typing import ClassVar

from ae_models.spec.autoencoder import AutoencoderConfig, input_shape, output_shape
from ae_models.spec.corruptions import GaussianCorruptionSpec
from ae_models.spec.critics import GanomalyCriticSpec
from ae_models.spec.fields import bounded_field
from ae_models.spec.inputs import ARRAY_KINDS, TABLE, TEXT, VECTOR_KINDS, InputSpec
from ae_models.spec.losses import BceLossSpec
from ae_models.spec.training import TrainSpec

__all__ = [
    "AmbiguityScoreSpec",
    "CodeResidualScoreSpec",
    "DenoisingScoreSpec",
    "NormalisedResidualScoreSpec",
    "TokenSurpriseScoreSpec",
]


@dataclass(frozen=True)
class NormalisedResidualScoreSpec:
    """log ||blurred (x - x')||^2 - energy * log ||x||^2: a residual that does not punish a sample for having much ink."""

    kind: ClassVar[str] = "normalised-residual"
    supported_inputs: ClassVar[tuple[str, ...]] = VECTOR_KINDS
    energy: float = bounded_field(0.5, low=0.0, high=1.0)  # 0: the plain log residual
    blur: float = bounded_field(0.0, low=0.0, high=16.0)  # standard deviation in pixels (steps, in a series); 0: none

    def compatibility_errors(self, model: AutoencoderConfig, input_spec: InputSpec, train: TrainSpec) -> list[str]:
        if input_spec.kind == TABLE and self.blur:
            return [f"normalised-residual: blur is {self.blur:g}, expected 0 for kind table: columns have no order"]
        inputs, outputs = input_shape(model, input_spec), output_shape(model, input_spec)
        if inputs != outputs and (inputs[0], outputs[0]) != (1, 3):  # a colouring is compared by its luma
            return [f"normalised-residual needs input and output of one shape, got {list(inputs)} and {list(outputs)}"]
        return []


@dataclass(frozen=True)
class CodeResidualScoreSpec:
    """log ||z - z'||^2 between the code and that of the reconstruction: GANomaly's own score."""

    kind: ClassVar[str] = "code-residual"
    supported_inputs: ClassVar[tuple[str, ...]] = ARRAY_KINDS

    def compatibility_errors(self, model: AutoencoderConfig, input_spec: InputSpec, train: TrainSpec) -> list[str]:
        if not isinstance(model.critic, GanomalyCriticSpec):
            return [f"code-residual needs the second code of model.critic ganomaly, got {model.critic.kind}"]
        return []


@dataclass(frozen=True)
class AmbiguityScoreSpec:
    """Mean binary entropy of the output, in bits: how undecided the model is, where its output is a probability."""

    kind: ClassVar[str] = "ambiguity"
    supported_inputs: ClassVar[tuple[str, ...]] = ARRAY_KINDS

    def compatibility_errors(self, model: AutoencoderConfig, input_spec: InputSpec, train: TrainSpec) -> list[str]:
        if not isinstance(model.compare, BceLossSpec):
            return [f"ambiguity needs outputs that are probabilities, as of model.compare bce, got {model.compare.kind}"]
        return []


@dataclass(frozen=True)
class TokenSurpriseScoreSpec:
    """Mean of -log p of a text's own tokens, in nats a token."""

    kind: ClassVar[str] = "token-surprise"
    supported_inputs: ClassVar[tuple[str, ...]] = (TEXT,)

    def compatibility_errors(self, model: AutoencoderConfig, input_spec: InputSpec, train: TrainSpec) -> list[str]:
        return []


@dataclass(frozen=True)
class DenoisingScoreSpec:
    """log of the mean over noises n of ||blurred (D(x + n) - x)||^2, less energy * log ||x||^2, for models trained on noise.

    D is the model, and n the same Gaussian noises for every sample, of the standard deviation that the model was trained with.
    """

    kind: ClassVar[str] = "denoising"
    supported_inputs: ClassVar[tuple[str, ...]] = ARRAY_KINDS
    draws: int = bounded_field(4, low=1, high=64)  # noises a sample: as many more passes through the network
    energy: float = bounded_field(0.5, low=0.0, high=1.0)
    blur: float = bounded_field(0.0, low=0.0, high=16.0)

    def compatibility_errors(self, model: AutoencoderConfig, input_spec: InputSpec, train: TrainSpec) -> list[str]:
        messages = []
        if not isinstance(model.corrupt, GaussianCorruptionSpec):
            messages.append(f"denoising needs a model trained on noise, with model.corrupt gaussian, got {model.corrupt.kind}")
        if input_spec.given != "clean":
            messages.append(f"denoising adds the noise itself: expected input.given clean, got {input_spec.given}")
        if input_shape(model, input_spec) != output_shape(model, input_spec):
            messages.append("denoising needs input and output of one shape: leave input.target_channels out")
        return messages
