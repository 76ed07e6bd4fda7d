"""Section `score`: kinds that compare a sample with its nearest normal samples, which are kept in a bank."""

from dataclasses import dataclass
from typing import ClassVar

from ae_models.spec.autoencoder import AutoencoderConfig, input_shape
from ae_models.spec.fields import bounded_field
from ae_models.spec.inputs import IMAGE, INPUT_KINDS, TABLE, VECTOR_KINDS, InputSpec
from ae_models.spec.training import TrainSpec

__all__ = ["KnnScoreSpec", "LocalHullScoreSpec", "compared_input_errors"]

# Settings that a space has no use for.
_UNUSED_SETTINGS = {"input": (), "orientations": ("energy", "level"), "code": ("blur", "energy", "pool", "level")}
_LEAST_CELL = 2  # pixels a side of a histogram's cell


@dataclass(frozen=True)
class _BankSpec:
    """Settings that bank scores share.

    Attributes:
        space: the vectors that are compared: inputs; of images their histograms of gradient orientations, which do without
            level, contrast and the exact place of an edge (Dalal and Triggs 2005); or codes, whitened by the training samples.
        blur: of inputs and orientations: standard deviation of a Gaussian in pixels (steps, in a series); 0: none.
        energy: of inputs: share of log ||x||^2 that is subtracted, with the blurred input x.
        pool: of inputs: pixels a side (steps) of which the mean is taken after the blur, for a smaller bank; 1: none. Of
            orientations: pixels a side of a histogram's cell, 2 or more.
        level: of inputs: share of each channel's mean over the sample that is subtracted; with 1 samples of one shape at two
            levels are alike.
        rows: training samples in the bank, at most.
        coreset: how they are chosen: at random, or greedily as far from each other as possible (k-centre; Sener and Savarese
            2018, algorithm 1), out of 20,000 random ones at most.
    """

    supported_inputs: ClassVar[tuple[str, ...]] = INPUT_KINDS
    space: str = bounded_field("input", one_of=("input", "orientations", "code"))
    blur: float = bounded_field(0.0, low=0.0, high=16.0)
    energy: float = bounded_field(0.0, low=0.0, high=1.0)
    pool: int = bounded_field(1, low=1, high=64)
    rows: int = bounded_field(1000, low=1, high=100_000)
    coreset: str = bounded_field("random", one_of=("random", "k-centre"))
    level: float = bounded_field(0.0, low=0.0, high=1.0, omit_default=True)

    def shared_errors(self, neighbours: int) -> list[str]:
        """Return a message for each rule between the settings that is broken."""
        messages = []
        if neighbours > self.rows:
            messages.append(f"neighbours is {neighbours} and rows is {self.rows}: the bank needs a row for each neighbour")
        unused = _UNUSED_SETTINGS[self.space]
        changed = [name for name in unused if getattr(self, name) != _BankSpec.__dataclass_fields__[name].default]
        if changed:
            messages.append(f"space {self.space} has no use for {' and '.join(changed)}: leave them out")
        if self.space == "orientations" and self.pool < _LEAST_CELL:
            messages.append(
                f"pool is {self.pool}, expected {_LEAST_CELL} or more with space orientations: the side of a cell in pixels"
            )
        return messages

    def compatibility_errors(self, model: AutoencoderConfig, input_spec: InputSpec, train: TrainSpec) -> list[str]:
        if self.space == "orientations" and input_spec.kind != IMAGE:
            return [f"expected space input or code for input.kind {input_spec.kind}, got orientations: they are of images"]
        if self.space != "input":
            return []
        if input_spec.kind not in VECTOR_KINDS:
            return [f"expected space code for input.kind {input_spec.kind}, got input: its distances mean nothing"]
        return compared_input_errors(self.blur, self.pool, self.level, model, input_spec)


def compared_input_errors(blur: float, pool: int, level: float, model: AutoencoderConfig, input_spec: InputSpec) -> list[str]:
    """Return a message for each setting that does not go with the samples that are compared."""
    if input_spec.kind == TABLE:
        if (blur, pool, level) != (0.0, 1, 0.0):
            found = f"blur is {blur:g}, pool is {pool} and level is {level:g}"
            return [f"{found}, expected 0, 1 and 0 for kind table: columns have no order and no common level"]
        return []
    sides = input_shape(model, input_spec)[1:]
    if any(side % pool for side in sides):
        return [f"pool is {pool}, and does not divide the sides {list(sides)} of a sample"]
    return []


@dataclass(frozen=True)
class KnnScoreSpec(_BankSpec):
    """log d^2 - energy * log ||x||^2, with the distance d to the k-th nearest normal sample (Ramaswamy et al. 2000).

    With `distance: mean` it is the mean distance to the k nearest ones (Angiulli and Pizzuti 2002), which on tables finds more.
    """

    kind: ClassVar[str] = "knn"
    neighbours: int = bounded_field(5, low=1, high=200)  # so many nearest rows are looked at
    distance: str = bounded_field("kth", one_of=("kth", "mean"), omit_default=True)  # to the last of them, or to all on average

    def validation_errors(self) -> list[str]:
        return self.shared_errors(self.neighbours)


@dataclass(frozen=True)
class LocalHullScoreSpec(_BankSpec):
    """log ||r||^2 - energy * log ||x||^2, with the residual r on the affine hull of the nearest normal samples.

    The ridge keeps the hull near its samples: it is relative to the mean diagonal element of their Gram matrix.
    """

    kind: ClassVar[str] = "local-hull"
    neighbours: int = bounded_field(20, low=2, high=64)  # nearest rows that span the hull
    ridge: float = bounded_field(0.3, low=0.05, high=10.0)  # share of the mean energy of the rows that is added to it
    # Of images: small shifts, rotations, scalings and shears of a sample and of its neighbours count as no difference.
    tangents: bool = bounded_field(False, omit_default=True)

    def validation_errors(self) -> list[str]:
        messages = self.shared_errors(self.neighbours)
        if self.tangents and self.space == "code":
            messages.append(f"space {self.space} has no use for tangents: leave them out")
        return messages

    def compatibility_errors(self, model: AutoencoderConfig, input_spec: InputSpec, train: TrainSpec) -> list[str]:
        messages = super().compatibility_errors(model, input_spec, train)
        if self.tangents and input_spec.kind != IMAGE:
            messages.append(f"expected no tangents for input.kind {input_spec.kind}: they are moves of an image")
        return messages
