"""Key `decode` of a model: the network from the latent code to the reconstruction."""

from dataclasses import dataclass
from typing import ClassVar

from ae_models.spec.encoders import attention_head_errors, latent_map_errors
from ae_models.spec.fields import bounded_field
from ae_models.spec.inputs import IMAGE, SERIES, TEXT, VECTOR_KINDS

__all__ = ["ConvDecoderSpec", "DecoderSpec", "DenseDecoderSpec", "TemporalDecoderSpec", "TokenDecoderSpec"]


@dataclass(frozen=True)
class ConvDecoderSpec:
    """Mirror of the convolutional encoder: transposed convolutions, each doubling height and width."""

    kind: ClassVar[str] = "conv"
    supported_inputs: ClassVar[tuple[str, ...]] = (IMAGE,)
    widths: tuple[int, ...] = bounded_field((32, 16), low=1, high=4096)  # channels before each doubling
    kernel: int = bounded_field(4, low=2, high=15)  # pixels a side
    blocks: int = bounded_field(0, low=0, high=16)  # residual blocks before each doubling
    dense: tuple[int, ...] = bounded_field((), low=1, high=65536)  # numbers after each dense layer between code and map
    map: bool = False  # the code is a map, as the encoder's

    def validation_errors(self) -> list[str]:
        return latent_map_errors(self.map, self.dense)


@dataclass(frozen=True)
class DenseDecoderSpec:
    """Dense layers with ReLU between them, from the code to all numbers of a sample."""

    kind: ClassVar[str] = "dense"
    supported_inputs: ClassVar[tuple[str, ...]] = VECTOR_KINDS
    widths: tuple[int, ...] = bounded_field((128, 512), low=1, high=65536)


@dataclass(frozen=True)
class TemporalDecoderSpec:
    """Transposed convolutions along time, each doubling the steps."""

    kind: ClassVar[str] = "temporal"
    supported_inputs: ClassVar[tuple[str, ...]] = (SERIES,)
    widths: tuple[int, ...] = bounded_field((32, 16), low=1, high=4096)
    kernel: int = bounded_field(4, low=2, high=63)


@dataclass(frozen=True)
class TokenDecoderSpec:
    """The code beside each position's embedding, transformer layers, and a logit for each token of the vocabulary."""

    kind: ClassVar[str] = "tokens"
    supported_inputs: ClassVar[tuple[str, ...]] = (TEXT,)
    width: int = bounded_field(128, low=1, high=8192)
    layers: int = bounded_field(2, low=0, high=96)
    heads: int = bounded_field(4, low=1, high=128)

    def validation_errors(self) -> list[str]:
        return attention_head_errors(self.width, self.heads)


DecoderSpec = ConvDecoderSpec | DenseDecoderSpec | TemporalDecoderSpec | TokenDecoderSpec
