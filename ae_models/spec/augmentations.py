"""Key `augment` of a training: random variation of the training samples."""

from dataclasses import dataclass
from typing import ClassVar

from ae_models.spec.fields import bounded_field
from ae_models.spec.inputs import IMAGE, INPUT_KINDS

__all__ = ["AffineAugmentationSpec", "AugmentationSpec", "FlipAugmentationSpec", "NoAugmentationSpec"]


@dataclass(frozen=True)
class NoAugmentationSpec:
    """Training samples as they are."""

    kind: ClassVar[str] = "none"
    supported_inputs: ClassVar[tuple[str, ...]] = INPUT_KINDS


@dataclass(frozen=True)
class AffineAugmentationSpec:
    """A small random affine map of each training image, sampled anew at each step; each number is the maximum."""

    kind: ClassVar[str] = "affine"
    supported_inputs: ClassVar[tuple[str, ...]] = (IMAGE,)
    shift: float = bounded_field(1.0, low=0.0, high=64.0)  # pixels
    rotation: float = bounded_field(8.0, low=0.0, high=180.0)  # degrees
    scale: float = bounded_field(0.08, low=0.0, high=0.9)  # share of the size


@dataclass(frozen=True)
class FlipAugmentationSpec:
    """Each training image or its mirror image, left to right, with equal chance."""

    kind: ClassVar[str] = "flip"
    supported_inputs: ClassVar[tuple[str, ...]] = (IMAGE,)


AugmentationSpec = NoAugmentationSpec | AffineAugmentationSpec | FlipAugmentationSpec
