"""What a fault is: a kind of damage to a normal sample, in graded strengths. numpy only."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ae_models.sample_sets import SampleArray

__all__ = ["DamageFunction", "DonorFunction", "Fault"]

DonorFunction = Callable[[], SampleArray]  # returns another normal sample, drawn anew at each call
DamageFunction = Callable[[SampleArray, float, np.random.Generator, DonorFunction], SampleArray]


@dataclass(frozen=True)
class Fault:
    """A kind of damage.

    Attributes:
        name: such as `cut-and-paste`.
        meaning: what it stands for in the world, as a sentence.
        unit: what a strength counts, to go on after the number, such as `of the image's area`.
        strengths: the graded ones, ascending.
        highest: the largest strength that has a meaning.
        damage: (sample, strength, generator, draw_donor) -> damaged sample. A sample is (channels, ...) float64 in [0, 1], or
            a row of UTF-8 bytes, uint8 (bytes,), padded with zeros; it must not be written to. Damaged values may lie outside
            [0, 1]: they are clipped.
    """

    name: str
    meaning: str
    unit: str
    strengths: tuple[float, ...]
    highest: float
    damage: DamageFunction
