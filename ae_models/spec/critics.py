"""Key `critic` of a model: a network that is trained against the autoencoder."""

from dataclasses import dataclass
from typing import ClassVar

from ae_models.spec.fields import bounded_field
from ae_models.spec.inputs import ARRAY_KINDS, INPUT_KINDS

__all__ = ["AdversarialCodeCriticSpec", "CriticSpec", "GanomalyCriticSpec", "NoCriticSpec"]


@dataclass(frozen=True)
class NoCriticSpec:
    """The reconstruction loss alone."""

    kind: ClassVar[str] = "none"
    supported_inputs: ClassVar[tuple[str, ...]] = INPUT_KINDS


@dataclass(frozen=True)
class AdversarialCodeCriticSpec:
    """Tells codes from samples of N(0, I); the encoder learns to pass (adversarial autoencoder, Makhzani et al. 2015)."""

    kind: ClassVar[str] = "aae"
    supported_inputs: ClassVar[tuple[str, ...]] = INPUT_KINDS
    widths: tuple[int, ...] = bounded_field((128, 128), low=1, high=65536)  # numbers after each layer of the critic
    weight: float = bounded_field(0.01, low=0.0, high=1e6)  # of the encoder's share in the loss


@dataclass(frozen=True)
class GanomalyCriticSpec:
    """Tells samples from reconstructions by features that the decoder learns to match, and encodes the reconstruction a
    second time (GANomaly, Akcay et al. 2018)."""

    kind: ClassVar[str] = "ganomaly"
    supported_inputs: ClassVar[tuple[str, ...]] = ARRAY_KINDS
    features: int = bounded_field(100, low=1, high=65536)  # numbers by which the critic tells samples from reconstructions
    adversarial: float = bounded_field(0.02, low=0.0, high=1e6)  # weight of the features' distance
    encoder: float = bounded_field(0.02, low=0.0, high=1e6)  # weight of the distance between code and second code


CriticSpec = NoCriticSpec | AdversarialCodeCriticSpec | GanomalyCriticSpec
