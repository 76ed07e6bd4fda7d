"""A whole fit: every setting that decides the result beside the samples."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ae_models.spec.autoencoder import AutoencoderConfig
from ae_models.spec.combined_score import ScoreSpec
from ae_models.spec.compatibility import PART_SPECS, check_compatibility
from ae_models.spec.inputs import InputSpec
from ae_models.spec.reader import SpecReader, spec_to_dict
from ae_models.spec.thresholds import ThresholdSpec
from ae_models.spec.training import TrainSpec
from ae_models.spec.weights import WeightsSpec

__all__ = ["FitReading", "FitSpec", "read_fit_spec"]


@dataclass(frozen=True)
class FitSpec:
    """Settings of a fit: the content of the file that `python -m ae_models fit --spec FILE` reads."""

    input: InputSpec
    model: AutoencoderConfig
    score: ScoreSpec
    threshold: ThresholdSpec
    train: TrainSpec

    @classmethod
    def from_dict(cls, raw_spec: Mapping[str, Any], source: str) -> "FitSpec":
        """Read a mapping with the keys input, model, score, threshold and train.

        Args:
            raw_spec: as `to_dict` returns it; other keys are ignored.
            source: named in every message.

        Raises:
            SpecError: with every mistake in it.
        """
        reader = SpecReader(source)
        read_result = read_fit_spec(reader, raw_spec)
        reader.finish()
        assert read_result.spec is not None, "finish() raises where there are mistakes"
        return read_result.spec

    @property
    def weights(self) -> WeightsSpec:
        """The sections that decide the weights."""
        return WeightsSpec(self.input, self.model, self.train)

    def to_dict(self) -> dict[str, Any]:
        """Return the sections as JSON-ready dicts."""
        document: dict[str, Any] = spec_to_dict(self)
        return document


class FitReading(NamedTuple):
    """Result of reading the sections of a FitSpec.

    Attributes:
        spec: the whole, or None where any section has mistakes.
        input_spec: the section `input`, or None where it has mistakes itself.
    """

    spec: FitSpec | None
    input_spec: InputSpec | None


def read_fit_spec(reader: SpecReader, raw_spec: Mapping[str, Any]) -> FitReading:
    """Read the five sections of a FitSpec and check that they go together.

    Args:
        reader: collects the mistakes.
        raw_spec: a mapping with the keys input, model, score, threshold and train; other keys are ignored.
    """
    mistakes_before = len(reader.mistakes)
    input_spec = reader.read(InputSpec, raw_spec.get("input"), "input")
    model = reader.read(AutoencoderConfig, raw_spec.get("model"), "model")
    score = reader.read_kind(PART_SPECS["score"], raw_spec.get("score"), "score")
    threshold = reader.read_kind(PART_SPECS["threshold"], raw_spec.get("threshold"), "threshold")
    train = reader.read(TrainSpec, raw_spec.get("train"), "train")
    if len(reader.mistakes) == mistakes_before:
        for path, reason in check_compatibility(model, input_spec, score, train, threshold):
            reader.mistake(path, reason)
    if len(reader.mistakes) > mistakes_before:
        return FitReading(None, input_spec)
    return FitReading(FitSpec(input_spec, model, score, threshold, train), input_spec)
