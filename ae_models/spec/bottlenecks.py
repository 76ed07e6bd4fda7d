"""Key `bottleneck` of a model: the restriction on the latent code."""

from dataclasses import dataclass
from typing import ClassVar

from ae_models.spec.fields import bounded_field
from ae_models.spec.inputs import INPUT_KINDS, VECTOR_KINDS

__all__ = [
    "BottleneckSpec",
    "ContractiveBottleneckSpec",
    "IdentityBottleneckSpec",
    "L1BottleneckSpec",
    "MemoryBottleneckSpec",
    "QuantisedBottleneckSpec",
    "TopKBottleneckSpec",
    "VariationalBottleneckSpec",
]


@dataclass(frozen=True)
class IdentityBottleneckSpec:
    """The code passes as it is: undercomplete by its size alone."""

    kind: ClassVar[str] = "identity"
    supported_inputs: ClassVar[tuple[str, ...]] = INPUT_KINDS
    size: int = bounded_field(16, low=1, high=1_000_000)  # numbers in a code


@dataclass(frozen=True)
class TopKBottleneckSpec:
    """The `active` numbers of a code that are largest in magnitude pass, the rest becomes 0 (Makhzani and Frey 2013)."""

    kind: ClassVar[str] = "top-k"
    supported_inputs: ClassVar[tuple[str, ...]] = INPUT_KINDS
    size: int = bounded_field(1024, low=1, high=1_000_000)
    active: int = bounded_field(40, low=1, high=1_000_000)

    def validation_errors(self) -> list[str]:
        if self.active > self.size:
            return [f"active is {self.active} and size is {self.size}: active must be at most size"]
        return []


@dataclass(frozen=True)
class L1BottleneckSpec:
    """ReLU on the code, and weight * sum |z| added to the loss: most numbers become exactly 0."""

    kind: ClassVar[str] = "l1"
    supported_inputs: ClassVar[tuple[str, ...]] = INPUT_KINDS
    size: int = bounded_field(1024, low=1, high=1_000_000)
    weight: float = bounded_field(0.01, low=0.0, high=1e6)


@dataclass(frozen=True)
class ContractiveBottleneckSpec:
    """weight * ||dz/dx||_F^2 added to the loss (Rifai et al. 2011), estimated by a random projection a step."""

    kind: ClassVar[str] = "contractive"
    supported_inputs: ClassVar[tuple[str, ...]] = VECTOR_KINDS  # a token id has no derivative
    size: int = bounded_field(16, low=1, high=1_000_000)
    weight: float = bounded_field(0.01, low=0.0, high=1e6)


@dataclass(frozen=True)
class VariationalBottleneckSpec:
    """A Gaussian a sample; z is sampled from it in training and is its mean otherwise. Adds beta * KL to the loss."""

    kind: ClassVar[str] = "variational"
    supported_inputs: ClassVar[tuple[str, ...]] = INPUT_KINDS
    size: int = bounded_field(16, low=1, high=1_000_000)
    beta: float = bounded_field(1.0, low=0.0, high=1e6)  # 1: the evidence lower bound, where compare is a likelihood
    free_bits: float = bounded_field(0.0, low=0.0, high=1e3)  # nats a number below which the KL is free (Kingma et al. 2016)


@dataclass(frozen=True)
class QuantisedBottleneckSpec:
    """The code as `slots` words of a learned codebook (VQ-VAE, van den Oord et al. 2017; EMA, dead words revived)."""

    kind: ClassVar[str] = "vq"
    supported_inputs: ClassVar[tuple[str, ...]] = INPUT_KINDS
    size: int = bounded_field(64, low=1, high=1_000_000)
    slots: int = bounded_field(32, low=1, high=65536)  # words a code; each stands for size / slots numbers
    words: int = bounded_field(256, low=2, high=65536)  # of the codebook
    shared: bool = False  # one codebook for all slots, instead of one a slot
    commitment: float = bounded_field(0.25, low=0.0, high=1e3)  # weight of ||z - word||^2
    decay: float = bounded_field(0.99, low=0.0, high=0.99999)  # of the running means that are the words

    def validation_errors(self) -> list[str]:
        if self.size % self.slots:
            return [f"size is {self.size} and slots is {self.slots}: size must be a multiple of slots"]
        return []


@dataclass(frozen=True)
class MemoryBottleneckSpec:
    """The code as a sparse mixture of learned items (MemAE, Gong et al. 2019): inputs unlike every item are rebuilt badly."""

    kind: ClassVar[str] = "memory"
    supported_inputs: ClassVar[tuple[str, ...]] = INPUT_KINDS
    size: int = bounded_field(16, low=1, high=1_000_000)
    items: int = bounded_field(500, low=1, high=65536)
    shrink: float = bounded_field(0.0025, low=0.0, high=1.0)  # attention below this becomes 0
    entropy: float = bounded_field(0.0002, low=0.0, high=1e3)  # weight of the attention's entropy in the loss


BottleneckSpec = (
    IdentityBottleneckSpec
    | TopKBottleneckSpec
    | L1BottleneckSpec
    | ContractiveBottleneckSpec
    | VariationalBottleneckSpec
    | QuantisedBottleneckSpec
    | MemoryBottleneckSpec
)
