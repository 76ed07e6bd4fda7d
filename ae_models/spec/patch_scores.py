"""Section `score` of kind `patch-bank`: the distances of an image's patches to those of normal images."""

from dataclasses import dataclass
from typing import ClassVar

from ae_models.spec.autoencoder import AutoencoderConfig
from ae_models.spec.encoders import ConvEncoderSpec, OnnxEncoderSpec
from ae_models.spec.fields import bounded_field
from ae_models.spec.inputs import IMAGE, InputSpec
from ae_models.spec.training import TrainSpec

__all__ = ["PatchBankScoreSpec"]


@dataclass(frozen=True)
class PatchBankScoreSpec:
    """log of the largest distance of a patch's features to their nearest neighbour in a bank (PatchCore, Roth et al. 2022)."""

    kind: ClassVar[str] = "patch-bank"
    supported_inputs: ClassVar[tuple[str, ...]] = (IMAGE,)
    rows: int = bounded_field(1000, low=2, high=20_000)  # patches in the bank; all of the training images' where these are fewer
    coreset: str = bounded_field("k-centre", one_of=("random", "k-centre"))  # how they are chosen, out of 20,000 at most
    neighbours: int = bounded_field(9, low=1, high=1000)  # rows that the largest distance is weighed by; 1: it is not weighed
    blur: float = bounded_field(1.0, low=0.0, high=64.0)  # of the map of distances: standard deviation in pixels; 0: none

    def validation_errors(self) -> list[str]:
        if self.neighbours > self.rows:
            return [f"neighbours is {self.neighbours} and rows is {self.rows}: neighbours are rows of the bank"]
        return []

    def compatibility_errors(self, model: AutoencoderConfig, input_spec: InputSpec, train: TrainSpec) -> list[str]:
        if not isinstance(model.encode, ConvEncoderSpec | OnnxEncoderSpec):
            return [f"patch-bank needs maps of features, as of model.encode conv or onnx, got {model.encode.kind}"]
        return []
