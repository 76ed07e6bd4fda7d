"""Settings that decide the weights of a trained autoencoder, beside the samples: neither score nor threshold is among them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ae_models.spec.autoencoder import AutoencoderConfig
from ae_models.spec.compatibility import check_compatibility
from ae_models.spec.inputs import InputSpec
from ae_models.spec.reader import SpecReader, spec_to_dict
from ae_models.spec.training import TrainSpec

__all__ = ["WeightsSpec"]


@dataclass(frozen=True)
class WeightsSpec:
    """The sections of a FitSpec that a training reads."""

    input: InputSpec
    model: AutoencoderConfig
    train: TrainSpec

    @classmethod
    def from_dict(cls, raw_spec: Mapping[str, Any], source: str) -> "WeightsSpec":
        """Read a mapping with the keys input, model and train.

        Args:
            raw_spec: as `to_dict` returns it; other keys are ignored.
            source: named in every message.

        Raises:
            SpecError: with every mistake in it.
        """
        reader = SpecReader(source)
        input_spec = reader.read(InputSpec, raw_spec.get("input"), "input")
        model = reader.read(AutoencoderConfig, raw_spec.get("model"), "model")
        train = reader.read(TrainSpec, raw_spec.get("train"), "train")
        reader.finish()
        for path, reason in check_compatibility(model, input_spec, None, train):
            reader.mistake(path, reason)
        reader.finish()
        return cls(input_spec, model, train)

    def to_dict(self) -> dict[str, Any]:
        """Return the sections as JSON-ready dicts."""
        document: dict[str, Any] = spec_to_dict(self)
        return document
