"""Key `corrupt` of a model: damage to the input that the autoencoder learns to undo."""

from dataclasses import dataclass
from typing import ClassVar

from ae_models.spec.fields import bounded_field
from ae_models.spec.inputs import ARRAY_KINDS, IMAGE, INPUT_KINDS, TEXT

__all__ = [
    "CorruptionSpec",
    "GaussianCorruptionSpec",
    "GreyCorruptionSpec",
    "MaskingCorruptionSpec",
    "NoCorruptionSpec",
    "SaltAndPepperCorruptionSpec",
    "WordDeletionCorruptionSpec",
]


@dataclass(frozen=True)
class NoCorruptionSpec:
    """The input as it is."""

    kind: ClassVar[str] = "none"
    supported_inputs: ClassVar[tuple[str, ...]] = INPUT_KINDS


@dataclass(frozen=True)
class GaussianCorruptionSpec:
    """x + N(0, deviation^2), clipped to [0, 1]."""

    kind: ClassVar[str] = "gaussian"
    supported_inputs: ClassVar[tuple[str, ...]] = ARRAY_KINDS
    deviation: float = bounded_field(0.5, low=0.0, high=10.0)  # in units where a value lies in [0, 1]


@dataclass(frozen=True)
class SaltAndPepperCorruptionSpec:
    """A share of the pixels (or steps) becomes 0 or 1, each as likely, in all channels at once."""

    kind: ClassVar[str] = "salt-and-pepper"
    supported_inputs: ClassVar[tuple[str, ...]] = ARRAY_KINDS
    share: float = bounded_field(0.1, low=0.0, high=1.0)  # of the values that become the lowest or the highest one


@dataclass(frozen=True)
class MaskingCorruptionSpec:
    """A share of the input becomes 0: pixels (or steps) in all channels, square blocks of them, or single numbers."""

    kind: ClassVar[str] = "masking"
    supported_inputs: ClassVar[tuple[str, ...]] = ARRAY_KINDS
    share: float = bounded_field(0.5, low=0.0, high=1.0)  # of the units that are hidden
    unit: str = bounded_field("pixels", one_of=("pixels", "blocks", "features"))  # what is hidden at once
    block: int = bounded_field(4, low=1, high=256)  # pixels a side of a block (steps, in a series)


@dataclass(frozen=True)
class GreyCorruptionSpec:
    """Red, green and blue become their luma (Rec. ITU-R BT.601-7): three channels in, one out."""

    kind: ClassVar[str] = "grey"
    supported_inputs: ClassVar[tuple[str, ...]] = (IMAGE,)


@dataclass(frozen=True)
class WordDeletionCorruptionSpec:
    """A share of the tokens is deleted and the rest closes up; at least one stays (TSDAE, Wang et al. 2021)."""

    kind: ClassVar[str] = "word-deletion"
    supported_inputs: ClassVar[tuple[str, ...]] = (TEXT,)
    share: float = bounded_field(0.6, low=0.0, high=1.0)  # of a text's words that are left out


CorruptionSpec = (
    NoCorruptionSpec
    | GaussianCorruptionSpec
    | SaltAndPepperCorruptionSpec
    | MaskingCorruptionSpec
    | GreyCorruptionSpec
    | WordDeletionCorruptionSpec
)
