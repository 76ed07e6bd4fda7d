"""Key `compare` of a model: the reconstruction loss."""

from dataclasses import dataclass
from typing import ClassVar

from ae_models.spec.fields import bounded_field
from ae_models.spec.inputs import ARRAY_KINDS, IMAGE, TABLE, TEXT

__all__ = [
    "BceLossSpec",
    "CrossEntropyLossSpec",
    "HuberLossSpec",
    "L1LossSpec",
    "LossSpec",
    "MixedLossSpec",
    "MseLossSpec",
    "SsimLossSpec",
]

_REDUCTIONS = ("mean", "sum")  # mean: over all numbers of a batch; sum: over a sample's numbers, then the mean over samples


@dataclass(frozen=True)
class MseLossSpec:
    """(y - t)^2, in units where a value lies in [0, 1]."""

    kind: ClassVar[str] = "mse"
    supported_inputs: ClassVar[tuple[str, ...]] = ARRAY_KINDS
    reduce: str = bounded_field("mean", one_of=_REDUCTIONS)


@dataclass(frozen=True)
class L1LossSpec:
    """|y - t|."""

    kind: ClassVar[str] = "l1"
    supported_inputs: ClassVar[tuple[str, ...]] = ARRAY_KINDS
    reduce: str = bounded_field("mean", one_of=_REDUCTIONS)


@dataclass(frozen=True)
class HuberLossSpec:
    """(y - t)^2 / 2 up to delta, then delta (|y - t| - delta / 2) (Huber 1964)."""

    kind: ClassVar[str] = "huber"
    supported_inputs: ClassVar[tuple[str, ...]] = ARRAY_KINDS
    reduce: str = bounded_field("mean", one_of=_REDUCTIONS)
    delta: float = bounded_field(0.1, low=1e-6, high=10.0)


@dataclass(frozen=True)
class BceLossSpec:
    """-t log p - (1 - t) log(1 - p) with p = sigmoid(y): the decoder's outputs are logits."""

    kind: ClassVar[str] = "bce"
    supported_inputs: ClassVar[tuple[str, ...]] = ARRAY_KINDS
    reduce: str = bounded_field("mean", one_of=_REDUCTIONS)
    positive: float = bounded_field(1.0, low=1e-3, high=1e3)  # weight of t's part, where ones are rare


@dataclass(frozen=True)
class SsimLossSpec:
    """1 - structural similarity (Wang et al. 2004), a Gaussian window of 11 x 11 pixels."""

    kind: ClassVar[str] = "ssim"
    supported_inputs: ClassVar[tuple[str, ...]] = (IMAGE,)
    reduce: str = bounded_field("mean", one_of=_REDUCTIONS)


@dataclass(frozen=True)
class CrossEntropyLossSpec:
    """-log softmax(y)[t] for tokens, or for values that are one of `categories` levels."""

    kind: ClassVar[str] = "cross-entropy"
    supported_inputs: ClassVar[tuple[str, ...]] = (*ARRAY_KINDS, TEXT)
    reduce: str = bounded_field("mean", one_of=_REDUCTIONS)
    categories: int = bounded_field(0, low=0, high=4096)  # levels from low to high that a value may have; 0: tokens


@dataclass(frozen=True)
class MixedLossSpec:
    """Of a table's columns: Huber's loss of scaled numbers, cross-entropy of booleans and categories; no missing one counts."""

    kind: ClassVar[str] = "mixed"
    supported_inputs: ClassVar[tuple[str, ...]] = (TABLE,)
    reduce: str = bounded_field("mean", one_of=_REDUCTIONS)
    delta: float = bounded_field(1.0, low=1e-6, high=1e3)  # spreads of a column, from which the loss of a number is straight


LossSpec = MseLossSpec | L1LossSpec | HuberLossSpec | BceLossSpec | SsimLossSpec | CrossEntropyLossSpec | MixedLossSpec
