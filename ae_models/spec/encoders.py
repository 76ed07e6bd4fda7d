"""Key `encode` of a model: the network from the input to the latent code."""

import re
from dataclasses import dataclass
from typing import ClassVar

from ae_models.spec.fields import bounded_field
from ae_models.spec.inputs import IMAGE, SERIES, TABLE, TEXT, VECTOR_KINDS

__all__ = [
    "ConvEncoderSpec",
    "DenseEncoderSpec",
    "EncoderSpec",
    "OnnxEncoderSpec",
    "TableEncoderSpec",
    "TemporalEncoderSpec",
    "TokenEncoderSpec",
    "attention_head_errors",
    "latent_map_errors",
]


@dataclass(frozen=True)
class ConvEncoderSpec:
    """Strided convolutions, each halving height and width, then one dense layer to the code; or a code that is a map."""

    kind: ClassVar[str] = "conv"
    supported_inputs: ClassVar[tuple[str, ...]] = (IMAGE,)
    widths: tuple[int, ...] = bounded_field((16, 32), low=1, high=4096)  # channels after each halving
    kernel: int = bounded_field(4, low=2, high=15)  # pixels a side; 4 covers every pixel equally often
    blocks: int = bounded_field(0, low=0, high=16)  # residual blocks after each halving
    dense: tuple[int, ...] = bounded_field((), low=1, high=65536)  # numbers after each dense layer before the code's own
    map: bool = False  # the code is a map of size / (h' w') channels, flattened: no dense layer

    def validation_errors(self) -> list[str]:
        return latent_map_errors(self.map, self.dense)


@dataclass(frozen=True)
class DenseEncoderSpec:
    """Dense layers with ReLU between them, over all numbers of a sample."""

    kind: ClassVar[str] = "dense"
    supported_inputs: ClassVar[tuple[str, ...]] = VECTOR_KINDS
    widths: tuple[int, ...] = bounded_field((512, 128), low=1, high=65536)  # numbers after each layer; the code comes after


@dataclass(frozen=True)
class TemporalEncoderSpec:
    """Strided convolutions along time, each halving the steps of a window, then one dense layer."""

    kind: ClassVar[str] = "temporal"
    supported_inputs: ClassVar[tuple[str, ...]] = (SERIES,)
    widths: tuple[int, ...] = bounded_field((16, 32), low=1, high=4096)
    kernel: int = bounded_field(4, low=2, high=63)  # steps


@dataclass(frozen=True)
class TokenEncoderSpec:
    """Token embeddings, transformer layers, their mean over the tokens in use, one dense layer.

    Pooling by inverse frequency weighs a token by a / (a + p), p being its share of the training texts' tokens: a token that
    stands in every text says little about one of them (SIF, Arora et al. 2017).
    """

    kind: ClassVar[str] = "tokens"
    supported_inputs: ClassVar[tuple[str, ...]] = (TEXT,)
    vocabulary: int = bounded_field(4096, low=261, high=1_000_000)  # tokens at most: 256 bytes, a few special ones, and merges
    length: int = bounded_field(48, low=2, high=4096)  # tokens of a text; longer texts are cut
    width: int = bounded_field(128, low=1, high=8192)  # numbers a token
    layers: int = bounded_field(2, low=0, high=96)
    heads: int = bounded_field(4, low=1, high=128)
    pooling: str = bounded_field("mean", one_of=("mean", "inverse-frequency"))
    positions: bool = True  # position embeddings; without them and without layers a text is a bag of tokens

    def validation_errors(self) -> list[str]:
        return attention_head_errors(self.width, self.heads)


@dataclass(frozen=True)
class OnnxEncoderSpec:
    """A convolutional network of a file, frozen; on its maps a 1x1 convolution and a dense layer to the code are trained.

    The network reads (x - mean) / std of a sample x in [0, 1]; one channel is repeated where it takes three.
    """

    kind: ClassVar[str] = "onnx"
    supported_inputs: ClassVar[tuple[str, ...]] = (IMAGE,)
    path: str  # of the ONNX file; one that a recipe names is found as those of a source are
    path_sha256: str | None = None  # of that file; a recipe needs it
    maps: tuple[str, ...] = ()  # tensors of the network that are its maps; none: see docs/features.md
    mean: tuple[float, ...] = (0.0,)  # of all channels, or one number a channel
    std: tuple[float, ...] = bounded_field((1.0,), low=1e-6, high=1e6)  # the same
    resize: tuple[int, ...] = bounded_field((), low=4, high=4096)  # height and width that the network takes; none: the sample's
    width: int = bounded_field(32, low=1, high=4096)  # channels of the trained convolution

    def validation_errors(self) -> list[str]:
        errors = []
        if self.path_sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", self.path_sha256):
            errors.append(f"path_sha256: expected 64 digits of a SHA-256, 0-9 and a-f, got {self.path_sha256!r}")
        if len(set(self.maps)) < len(self.maps):
            errors.append(f"maps: expected different names, got {list(self.maps)}")
        if len(self.resize) not in (0, 2):
            errors.append(f"resize: expected [height, width], got {list(self.resize)}")
        for name in ("mean", "std"):
            if not getattr(self, name):
                errors.append(f"{name}: expected one number, or one a channel, got none")
        return errors


@dataclass(frozen=True)
class TableEncoderSpec:
    """Dense layers over the columns of a row, of which a category with many values is embedded first."""

    kind: ClassVar[str] = "table"
    supported_inputs: ClassVar[tuple[str, ...]] = (TABLE,)
    widths: tuple[int, ...] = bounded_field((64,), low=1, high=65536)  # numbers after each layer; the code comes after
    embedding: int = bounded_field(8, low=1, high=1024)  # numbers of a category that has more values than this


def latent_map_errors(is_map: bool, dense: tuple[int, ...]) -> list[str]:
    """Return the error of a convolutional part that has both a latent map and dense layers."""
    if is_map and dense:
        return [f"map is true and dense is {list(dense)}: a map has no dense layers, leave dense out"]
    return []


def attention_head_errors(width: int, heads: int) -> list[str]:
    """Return the error of a transformer whose width does not divide into its heads."""
    if width % heads:
        return [f"width is {width} and heads is {heads}: width must be a multiple of heads"]
    return []


EncoderSpec = ConvEncoderSpec | DenseEncoderSpec | TemporalEncoderSpec | TokenEncoderSpec | OnnxEncoderSpec | TableEncoderSpec
