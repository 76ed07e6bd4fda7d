"""A trained model on disk: bundle.json, weights.safetensors, scorer.safetensors, model.onnx, decoder.onnx, SHA256SUMS,
tokenizer.json for texts, and backbone.onnx, the file of a frozen network, where the model has one. No pickle.

It is written atomically; loading verifies the checksums before anything else is read. To change its content: raise
`BUNDLE_FORMAT` and keep `load_bundle` reading every older one (tests/fixtures holds one of each).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.numpy import load_file, save_file

from ae_models.atomic_files import atomic_folder, json_text
from ae_models.checksums import refused_bundle, verify_bundle, write_checksums
from ae_models.combined_score import build_score
from ae_models.ensemble import build_autoencoder
from ae_models.export import AnomalyScorer, export_onnx
from ae_models.mappings import map_values, select_keys
from ae_models.sample_sets import SampleArray
from ae_models.spec import FitSpec, SampleRules, spec_to_dict, with_backbone
from ae_models.thresholds import load_threshold, threshold_spec
from ae_models.training_result import BACKBONE_FILE, WEIGHTS_FILE, weight_arrays

__all__ = ["BUNDLE_FORMAT", "Bundle", "fit_sections", "load_bundle", "write_bundle"]

BUNDLE_FORMAT = 4
# Format 1 has no decoder.onnx, and no `given` and `made` in its document; formats 1 and 2 have no `export` and no `samples`
# in it: their networks take no value outside the range, and none that is missing. Formats 1 to 3 have no `score_facts` in it,
# and no arrays of a score, as their scores have learnt nothing of samples.
_READABLE_FORMATS = (1, 2, 3, 4)
_SCORE_PREFIX = "score."  # of a score's arrays in scorer.safetensors
_DOCUMENT, _SCORER, _MODEL = "bundle.json", "scorer.safetensors", "model.onnx"
_DECODER, _TOKENIZER = "decoder.onnx", "tokenizer.json"


@dataclass(frozen=True)
class Bundle:
    """A bundle in memory.

    Attributes:
        document: bundle.json.
        scorer: the whole model, in evaluation mode, on the CPU.
    """

    document: dict[str, Any]
    scorer: AnomalyScorer


def write_bundle(
    folder: Path,
    document: Mapping[str, Any],
    scorer: AnomalyScorer,
    samples: SampleArray,
    *,
    tokenizer: str | None,
    word_counts: SampleArray | None,
    backbone: bytes | None = None,
) -> None:
    """Write a bundle, replacing the one in `folder`.

    Args:
        folder: of the bundle.
        document: bundle.json without its `format` and its `export`, the comparison of the ONNX model with torch.
        scorer: the model.
        samples: some inputs of the served model (n >= 2, *input_shape), for that comparison.
        tokenizer: its JSON, where samples are texts.
        word_counts: (slots, words) of the training samples' codes, where the bottleneck is quantised.
        backbone: content of the frozen network's file, where the model has one.
    """
    scorer_arrays = scorer.threshold.stored_arrays
    for name, values in scorer.score.stored_arrays().items():
        scorer_arrays[f"{_SCORE_PREFIX}{name}"] = values
    if word_counts is not None:
        scorer_arrays["word_counts"] = word_counts
    with atomic_folder(folder) as new_folder:
        export_check = export_onnx(scorer, new_folder / _MODEL, new_folder / _DECODER, samples)
        whole_document = {"format": BUNDLE_FORMAT, **document, "export": export_check._asdict()}
        (new_folder / _DOCUMENT).write_text(json_text(whole_document), encoding="utf-8")
        save_file(weight_arrays(scorer.autoencoder), new_folder / WEIGHTS_FILE)
        save_file(scorer_arrays, new_folder / _SCORER)
        if tokenizer is not None:
            (new_folder / _TOKENIZER).write_text(tokenizer, encoding="utf-8")
        if backbone is not None:
            (new_folder / BACKBONE_FILE).write_bytes(backbone)
        write_checksums(new_folder)


def load_bundle(folder: Path) -> Bundle:
    """Verify a bundle, rebuild its model from bundle.json and load the weights.

    Raises:
        BundleError: see `ae_models.checksums.verify_bundle`; or a format that this version does not know.
        SpecError: a model that this version does not know.
    """
    verify_bundle(folder)
    document = json.loads((folder / _DOCUMENT).read_text(encoding="utf-8"))
    if document.get("format") not in _READABLE_FORMATS:
        expected = f"{_READABLE_FORMATS[0]} to {_READABLE_FORMATS[-1]}"
        raise refused_bundle(folder, f"expected format {expected}, got {document.get('format')!r}: use the version that wrote it")
    spec = FitSpec.from_dict(fit_sections(document), str(folder / _DOCUMENT))
    model = with_backbone(spec.model, folder / BACKBONE_FILE)
    autoencoder = build_autoencoder(model, spec.input, spec.train.members)
    weights = load_file(folder / WEIGHTS_FILE)
    autoencoder.load_state_dict(map_values(torch.from_numpy, weights))
    arrays = load_file(folder / _SCORER)
    threshold = load_threshold(document["threshold"], arrays)
    score = build_score(spec.score, autoencoder)
    score.load_arrays(_score_arrays(arrays))
    rules = SampleRules.from_dict(document["samples"]) if "samples" in document else None
    scorer = AnomalyScorer(autoencoder, score, threshold, rules)
    return Bundle(document, scorer.eval())


def _score_arrays(arrays: Mapping[str, SampleArray]) -> dict[str, SampleArray]:
    """Return the arrays of scorer.safetensors that the score has learnt, by the names of its buffers."""
    score_arrays = {}
    for name, values in arrays.items():
        if name.startswith(_SCORE_PREFIX):
            score_arrays[name.removeprefix(_SCORE_PREFIX)] = values
    return score_arrays


def fit_sections(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sections of a FitSpec in a bundle.json, without what the training added."""
    sections = select_keys(document, ("input", "model", "score"))
    sections["threshold"] = spec_to_dict(threshold_spec(document["threshold"]))
    sections["train"] = dict(document["train"])
    sections["train"].pop("steps", None)
    return sections
