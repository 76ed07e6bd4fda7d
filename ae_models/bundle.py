"""A trained model on disk: bundle.json, weights.safetensors, scorer.safetensors, model.onnx, decoder.onnx, SHA256SUMS, and
tokenizer.json for texts. No pickle.

Written aside and renamed, so it is whole or not there; loading checks the sums before anything else is read. To change
what is in it: raise FORMAT and keep `load` reading every older one (tests/fixtures holds one of each).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import nn

from ae_models import score
from ae_models.autoencoder import Autoencoder
from ae_models.export import Scorer, export_onnx
from ae_models.files import as_json, folder_aside
from ae_models.parts import build
from ae_models.spec import FitSpec
from ae_models.sums import refused, verify, write_sums
from ae_models.threshold import Threshold

FORMAT = 2
FORMATS = (1, 2)  # that `load` reads; format 1 has no decoder.onnx, and no `given` and `made` in its document
DOCUMENT, WEIGHTS, SCORER, ONNX = "bundle.json", "weights.safetensors", "scorer.safetensors", "model.onnx"
DECODER, TOKENIZER = "decoder.onnx", "tokenizer.json"


@dataclass(frozen=True)
class Bundle:
    """A bundle in memory.

    Attributes:
        document: bundle.json.
        scorer: the whole model, in evaluation mode, on the CPU.
    """

    document: dict[str, Any]
    scorer: Scorer


def write(
    folder: Path,
    document: Mapping[str, Any],
    scorer: Scorer,
    samples: np.ndarray,
    *,
    tokenizer: str | None,
    word_counts: np.ndarray | None,
) -> dict[str, Any]:
    """Writes a bundle, replacing the one in `folder`.

    Args:
        folder: the bundle's.
        document: bundle.json without its `format`.
        scorer: the model.
        samples: some as they are served (n >= 2, *given_shape), on which the ONNX model is compared with torch.
        tokenizer: its JSON, where samples are texts.
        word_counts: (slots, words) of the training samples' codes, where the bottleneck is quantised.

    Returns:
        the comparison, as `ae_models.export.export_onnx` gives it.
    """
    scores = {"calibration_scores": scorer.calibration_scores.numpy()}
    with folder_aside(folder) as aside:
        (aside / DOCUMENT).write_text(as_json({"format": FORMAT, **document}), encoding="utf-8")
        exported = export_onnx(scorer, aside / ONNX, aside / DECODER, samples)
        save_file(weights(scorer.autoencoder), aside / WEIGHTS)
        save_file(scores if word_counts is None else scores | {"word_counts": word_counts}, aside / SCORER)
        if tokenizer is not None:
            (aside / TOKENIZER).write_text(tokenizer, encoding="utf-8")
        write_sums(aside)
        for file in aside.iterdir():
            file.chmod(0o644)  # safetensors makes 0600; another user may have to serve it
    return exported


def weights(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: np.ascontiguousarray(value.numpy()) for name, value in module.state_dict().items()}


def load(folder: Path) -> Bundle:
    """Verifies a bundle, then rebuilds its model from the sentence in bundle.json and fills in the weights.

    Raises:
        BundleError: see `ae_models.sums.verify`; or a format that this version does not know.
        SpecError: a sentence that this version does not know.
    """
    verify(folder)
    document = json.loads((folder / DOCUMENT).read_text(encoding="utf-8"))
    if document.get("format") not in FORMATS:
        known = " and ".join(map(str, FORMATS))
        raise refused(folder, f"its format is {document.get('format')!r}; {known} are allowed: use the version that wrote it")
    spec = FitSpec.from_plain(spec_of(document), str(folder / DOCUMENT))
    autoencoder = Autoencoder(spec.model, spec.input)
    autoencoder.load_state_dict({name: torch.from_numpy(value) for name, value in load_file(folder / WEIGHTS).items()})
    scores = load_file(folder / SCORER)["calibration_scores"]
    threshold = Threshold(document["threshold"]["value"], document["threshold"]["rank"], scores)
    return Bundle(document, Scorer(autoencoder, build(score.KINDS, spec.score), threshold).eval())


def spec_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """The FitSpec in a bundle.json: its sections without what the training found out."""
    threshold = {key: document["threshold"][key] for key in ("kind", "false_alarm_rate")}
    train = {key: value for key, value in document["train"].items() if key != "steps"}
    return {key: document[key] for key in ("input", "model", "score")} | {"threshold": threshold, "train": train}
