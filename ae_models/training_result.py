"""Result of a training on disk: training.json, weights.safetensors, history.csv, trail.csv, SHA256SUMS, tokenizer.json for texts,
and backbone.onnx, the file of a frozen network, where the model has one.

It holds nothing of score and threshold, so calibrations can be made of it again and again. It is written atomically; loading
verifies the checksums before anything else is read. To change its content: raise `TRAINING_FORMAT` and keep `load_training`
reading every older one (tests/fixtures holds one of each).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn

from ae_models.atomic_files import atomic_folder, json_text
from ae_models.autoencoder import Autoencoder
from ae_models.checksums import refused_training, verify_training, write_checksums
from ae_models.ensemble import build_autoencoder
from ae_models.sample_sets import SampleArray
from ae_models.spec import WeightsSpec, with_backbone

__all__ = [
    "BACKBONE_FILE",
    "HISTORY_FILE",
    "TRAINING_FORMAT",
    "WEIGHTS_FILE",
    "WEIGHT_HASH_FILE",
    "TrainingFacts",
    "TrainingResult",
    "load_training",
    "tensor_arrays",
    "weight_arrays",
    "write_training",
]

TRAINING_FORMAT = 1
HISTORY_FILE, WEIGHT_HASH_FILE, WEIGHTS_FILE = "history.csv", "trail.csv", "weights.safetensors"
BACKBONE_FILE = "backbone.onnx"  # as it was given, byte for byte
_DOCUMENT, _TOKENIZER = "training.json", "tokenizer.json"


@dataclass(frozen=True)
class TrainingFacts:
    """Everything about a training that a bundle repeats.

    Attributes:
        recipe: names the model.
        spec: the settings that decided the weights.
        steps: of the optimiser.
        content_sha256: names the dataset.
        torch_version: that trained.
    """

    recipe: str
    spec: WeightsSpec
    steps: int
    content_sha256: str
    torch_version: str


@dataclass(frozen=True)
class TrainingResult:
    """A training's result in memory.

    Attributes:
        facts: content of training.json.
        autoencoder: with the trained weights, in evaluation mode, on the CPU.
        tokenizer: its JSON, where samples are texts.
        backbone: content of the frozen network's file, where the model has one.
    """

    facts: TrainingFacts
    autoencoder: Autoencoder
    tokenizer: str | None
    backbone: bytes | None


def write_training(
    folder: Path,
    facts: TrainingFacts,
    autoencoder: Autoencoder,
    *,
    history: str,
    weight_hashes: str,
    tokenizer: str | None,
    backbone: bytes | None,
) -> None:
    """Write the result of a training, replacing the one in `folder`.

    Args:
        folder: of the result.
        facts: content of training.json.
        autoencoder: the trained model, on any device.
        history: content of history.csv.
        weight_hashes: content of trail.csv.
        tokenizer: its JSON, where samples are texts.
        backbone: content of the frozen network's file, where the model has one.
    """
    with atomic_folder(folder) as new_folder:
        (new_folder / _DOCUMENT).write_text(json_text(_facts_document(facts)), encoding="utf-8")
        save_file(weight_arrays(autoencoder), new_folder / WEIGHTS_FILE)
        (new_folder / HISTORY_FILE).write_text(history, encoding="utf-8")
        (new_folder / WEIGHT_HASH_FILE).write_text(weight_hashes, encoding="utf-8")
        if tokenizer is not None:
            (new_folder / _TOKENIZER).write_text(tokenizer, encoding="utf-8")
        if backbone is not None:
            (new_folder / BACKBONE_FILE).write_bytes(backbone)
        write_checksums(new_folder)


def load_training(folder: Path) -> TrainingResult:
    """Verify the result of a training, rebuild its model and load the weights.

    Raises:
        BundleError: see `ae_models.checksums.verify_training`; or a format that this version does not know.
        SpecError: a model that this version does not know.
    """
    verify_training(folder)
    document = json.loads((folder / _DOCUMENT).read_text(encoding="utf-8"))
    if document.get("format") != TRAINING_FORMAT:
        raise refused_training(folder, f"expected format {TRAINING_FORMAT}, got {document.get('format')!r}")
    facts = TrainingFacts(
        recipe=document["recipe"],
        spec=WeightsSpec.from_dict(document, str(folder / _DOCUMENT)),
        steps=document["steps"],
        content_sha256=document["data"]["content_sha256"],
        torch_version=document["torch"],
    )
    model = with_backbone(facts.spec.model, folder / BACKBONE_FILE)
    autoencoder = build_autoencoder(model, facts.spec.input, facts.spec.train.members)
    # As it was trained: the memory order of the weights decides the order in which a convolution sums, and so the last bits.
    autoencoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its hints
    autoencoder.load_state_dict({name: torch.from_numpy(values) for name, values in load_file(folder / WEIGHTS_FILE).items()})
    tokenizer, backbone = None, None
    if (folder / _TOKENIZER).is_file():
        tokenizer = (folder / _TOKENIZER).read_text(encoding="utf-8")
    if (folder / BACKBONE_FILE).is_file():
        backbone = (folder / BACKBONE_FILE).read_bytes()
    return TrainingResult(facts, autoencoder.eval(), tokenizer, backbone)


def weight_arrays(module: nn.Module) -> dict[str, SampleArray]:
    """Return a module's parameters and buffers by name, C-contiguous, as a weights file holds them."""
    return tensor_arrays(module.state_dict())


def tensor_arrays(tensors: Mapping[str, Tensor]) -> dict[str, SampleArray]:
    """Return tensors by name as C-contiguous arrays."""
    return {name: np.ascontiguousarray(value.detach().cpu().numpy()) for name, value in tensors.items()}


def _facts_document(facts: TrainingFacts) -> dict[str, Any]:
    return {
        "format": TRAINING_FORMAT,
        "recipe": facts.recipe,
        **facts.spec.to_dict(),
        "steps": facts.steps,
        "data": {"content_sha256": facts.content_sha256},
        "torch": facts.torch_version,
    }
