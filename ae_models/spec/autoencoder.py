"""Section `model`: a whole autoencoder, part by part, and the shapes of its input and output."""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from ae_models.names import names_of
from ae_models.spec.bottlenecks import BottleneckSpec
from ae_models.spec.columns import vector_width
from ae_models.spec.corruptions import CorruptionSpec, GreyCorruptionSpec
from ae_models.spec.critics import CriticSpec, NoCriticSpec
from ae_models.spec.decoders import DecoderSpec
from ae_models.spec.encoders import EncoderSpec, OnnxEncoderSpec, TokenEncoderSpec
from ae_models.spec.inputs import TABLE, InputSpec
from ae_models.spec.losses import LossSpec

__all__ = ["AutoencoderConfig", "input_shape", "output_shape", "with_backbone"]


@dataclass(frozen=True)
class AutoencoderConfig:
    """A whole autoencoder, part by part. The `kind` of each says which part it is; its other keys are settings of that kind."""

    corrupt: CorruptionSpec  # what the input loses while training
    encode: EncoderSpec  # makes a code of the input
    bottleneck: BottleneckSpec  # what the code has to pass
    decode: DecoderSpec  # makes the reconstruction of the code
    compare: LossSpec  # the loss
    critic: CriticSpec = field(default_factory=NoCriticSpec)  # a second network that judges, for the adversarial kinds

    @classmethod
    def part_names(cls) -> tuple[str, ...]:
        """Return the keys of the section `model`, in the order in which a sample passes the parts."""
        return tuple(names_of(fields(cls)))


def with_backbone(model: AutoencoderConfig, file: Path) -> AutoencoderConfig:
    """Return the model with `file` as the path of its frozen network; a model without one as it is."""
    if not isinstance(model.encode, OnnxEncoderSpec):
        return model
    return replace(model, encode=replace(model.encode, path=str(file)))


def input_shape(model: AutoencoderConfig, input_spec: InputSpec) -> tuple[int, ...]:
    """Return the shape of the encoder's input: (c, h, w), (c, steps), (tokens,), or (numbers,) of the vector of a table's row."""
    if input_spec.kind == TABLE:
        return (vector_width(input_spec.columns, input_spec.one_hot),)
    if isinstance(model.encode, TokenEncoderSpec):
        return (model.encode.length,)
    if isinstance(model.corrupt, GreyCorruptionSpec):
        return (1, *input_spec.shape[1:])
    return (input_spec.shape[0] - input_spec.target_channels, *input_spec.shape[1:])


def output_shape(model: AutoencoderConfig, input_spec: InputSpec) -> tuple[int, ...]:
    """Return the shape of a reconstruction, which is the target's: (c, h, w), (c, steps), (tokens,) or (numbers,)."""
    if input_spec.kind == TABLE:
        return input_shape(model, input_spec)
    if isinstance(model.encode, TokenEncoderSpec):
        return (model.encode.length,)
    return (input_spec.target_channels or input_spec.shape[0], *input_spec.shape[1:])
