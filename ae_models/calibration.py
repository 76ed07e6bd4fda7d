"""A calibration: from trained weights, a score, a threshold and samples to a bundle. Takes seconds and trains nothing.

    samples = SampleRoles(train, validation, calibration)
    calibrate(spec, Path("training"), samples, content_sha256=content_sha256, bundle=Path("bundle"))

The same weights can be calibrated again with another score or threshold. What a score or a threshold needs to know of the
samples is measured here, so all of them are at hand.
"""

import hashlib
import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ae_models.autoencoder import Autoencoder
from ae_models.bundle import write_bundle
from ae_models.checksums import refused_training
from ae_models.combined_score import build_score
from ae_models.data_loading import EVALUATION_SEED, iterate_batches, seed_generators
from ae_models.export import AnomalyScorer
from ae_models.factory import build_part
from ae_models.mappings import map_values
from ae_models.sample_sets import SampleArray, SampleRoles, SampleSet, as_sample_set, require_samples
from ae_models.score_interface import Score
from ae_models.score_samples import ScoreSamples
from ae_models.spec import FitSpec, InputSpec, QuantisedBottleneckSpec, SampleRules, ThresholdSpec, TokenEncoderSpec, spec_to_dict
from ae_models.text_sets import encode_text_set
from ae_models.threshold_interface import CalibrationScores
from ae_models.threshold_laws import nearest_centre
from ae_models.threshold_samples import SampleGroups, ThresholdSamples, fit_groups
from ae_models.thresholds import THRESHOLDS
from ae_models.training_environment import deterministic_threads, require_threads
from ae_models.training_result import TrainingFacts, TrainingResult, load_training

__all__ = ["LabelledSets", "bundle_document", "calibrate", "calibrate_scorer"]

_EXPORT_ROWS = 64  # calibration samples on which ONNX is compared with torch
_HASH_DIGITS = 12  # of a SHA-256 in a message


def calibrate(
    spec: FitSpec,
    training: Path,
    samples: SampleRoles,
    *,
    content_sha256: str,
    bundle: Path,
    rules: SampleRules | None = None,
    extras: ThresholdSamples | None = None,
    calibration_sha256: str | None = None,
) -> None:
    """Calibrate trained weights, export them and write `bundle`.

    Args:
        spec: its sections score and threshold count; the others must be those that the weights were trained with.
        training: the folder that `ae_models.training.train_weights` wrote.
        samples: those of the training, and the calibration samples.
        content_sha256: names the dataset of the samples.
        bundle: folder, replaced at the end.
        rules: of the served model; None: it flags samples with missing values, and expects nothing else of them.
        extras: labels and labelled anomalies, for the kinds of threshold that read them.
        calibration_sha256: names the calibration samples in bundle.json, where they are no part of the dataset.

    Raises:
        BundleError: `training` is incomplete, altered, or of another spec or dataset.
        SampleError: samples that are not valid, or scores that no threshold can be chosen from.
        TrainingError: fewer threads than `spec.train.threads`.
        SpecError: too few samples for the threshold.
    """
    extras = extras or ThresholdSamples()
    result = load_training(training)
    if problems := _find_mismatches(result.facts, spec, content_sha256):
        raise refused_training(training, "; ".join(problems))
    _require_all(samples, extras, spec.input)
    require_threads(spec.train.threads)
    with deterministic_threads(spec.train.threads):
        torch.use_deterministic_algorithms(True)  # as Lightning does while it trains
        groups, labelled = None, None
        if spec.threshold.reads_groups:
            groups = fit_groups(extras, samples.train, spec.input)
        raw_samples, samples = samples, _as_model_reads(samples, result)
        if spec.threshold.reads_novelty and extras.novelty is not None:
            labelled = LabelledSets(samples.validation, _encode_texts(extras.novelty, result))
        score = _fit_score(spec, result, raw_samples)
        scorer = calibrate_scorer(
            spec.threshold, result.autoencoder, score, samples.calibration, rules, groups=groups, labelled=labelled
        )
        write_bundle(
            bundle,
            bundle_document(spec, result.facts, scorer, backbone=result.backbone, calibration_sha256=calibration_sha256),
            scorer,
            _serving_samples(scorer.autoencoder, samples.calibration),
            tokenizer=result.tokenizer,
            word_counts=_count_words(scorer.autoencoder, samples.train, spec),
            backbone=result.backbone,
        )


def _require_all(samples: SampleRoles, extras: ThresholdSamples, input_spec: InputSpec) -> None:
    """Raise SampleError for a set that is not of this input."""
    for name, sample_set in vars(samples).items():
        require_samples(name, sample_set, input_spec)
    if extras.novelty is not None:
        require_samples("novelty", extras.novelty, input_spec)


def _fit_score(spec: FitSpec, result: TrainingResult, samples: SampleRoles) -> Score:
    """Return the score of the spec, once it has learnt from training and validation samples as they are stored."""
    score = build_score(spec.score, result.autoencoder)
    encode_texts = partial(_encode_texts, result=result)
    score.fit(
        ScoreSamples(
            result.autoencoder, spec.input, samples.train, samples.validation, spec.train.seed, encode_texts, spec.train.trim
        )
    )
    return score


def _find_mismatches(facts: TrainingFacts, spec: FitSpec, content_sha256: str) -> list[str]:
    """Return why a training is not that of a spec and a dataset; an empty list if it is."""
    problems = []
    trained_sections, sections = facts.spec.to_dict(), spec.weights.to_dict()
    names = [name for name in sections if trained_sections[name] != sections[name]]
    if names:
        problems.append(f"expected the settings of the spec, got others in {' and '.join(names)}")
    if facts.content_sha256 != content_sha256:
        problems.append(f"expected the dataset {content_sha256[:_HASH_DIGITS]}, got {facts.content_sha256[:_HASH_DIGITS]}")
    return problems


def _as_model_reads(samples: SampleRoles, result: TrainingResult) -> SampleRoles:
    """Return the samples as the model reads them: texts as token ids, others as they are."""
    return SampleRoles(
        train=_encode_texts(samples.train, result),
        validation=_encode_texts(samples.validation, result),
        calibration=_encode_texts(samples.calibration, result),
    )


def _encode_texts(samples: SampleSet, result: TrainingResult) -> SampleSet:
    tokenizer, encoder = result.tokenizer, result.facts.spec.model.encode
    if tokenizer is None or not isinstance(encoder, TokenEncoderSpec):
        return samples
    return encode_text_set(tokenizer, samples, encoder.length)


class LabelledSets(NamedTuple):
    """Normal samples and anomalies that a threshold is chosen by, as the model reads them."""

    normal: SampleSet
    novelty: SampleSet


@torch.no_grad()
def calibrate_scorer(
    threshold_spec: ThresholdSpec,
    autoencoder: Autoencoder,
    score: Score,
    calibration: SampleArray | SampleSet,
    rules: SampleRules | None = None,
    *,
    groups: SampleGroups | None = None,
    labelled: LabelledSets | None = None,
) -> AnomalyScorer:
    """Choose the threshold of a trained autoencoder.

    Args:
        threshold_spec: of the threshold.
        autoencoder: put in evaluation mode and on the CPU by this call.
        score: has learnt what it needs to.
        calibration: raw samples that were not trained on.
        rules: as in `calibrate`.
        groups: of the training samples, for a threshold that reads groups.
        labelled: for a threshold that reads labelled anomalies.

    Raises:
        SpecError: too few samples for the threshold.
        SampleError: scores that no threshold can be chosen from.
    """
    autoencoder = autoencoder.cpu().eval()
    outputs = _ScoredSet(autoencoder, score, as_sample_set(calibration), groups)
    scores = CalibrationScores(outputs.scores)
    if groups is not None:
        scores = replace(scores, groups=outputs.groups, group_names=groups.names, group_centres=groups.centres)
    if labelled is not None:
        normal, novelty = _ScoredSet(autoencoder, score, labelled.normal), _ScoredSet(autoencoder, score, labelled.novelty)
        scores = replace(scores, validation=normal.scores, novelty=novelty.scores)
    threshold = build_part(THRESHOLDS, threshold_spec).calibrate(scores)
    return AnomalyScorer(autoencoder, score, threshold, rules)


class _ScoredSet:
    """The scores of a set of samples, (n,), and the place of each sample's group, (n,), where there are groups."""

    def __init__(self, autoencoder: Autoencoder, score: Score, samples: SampleSet, groups: SampleGroups | None = None) -> None:
        seed_generators(torch.device("cpu"), EVALUATION_SEED)
        batch_scores, batch_groups = [], []
        for raw in iterate_batches(samples):
            clean, _ = autoencoder.split_target(autoencoder.normalise(raw))
            output = autoencoder.run(autoencoder.serving_input(clean))
            batch_scores.append(score(output))
            if groups is not None and groups.names:
                batch_groups.append(nearest_centre(output.inputs.flatten(1), torch.from_numpy(groups.centres)))
        self.scores: SampleArray = torch.cat(batch_scores).numpy()
        self.groups: SampleArray | None = torch.cat(batch_groups).numpy() if batch_groups else None


@torch.no_grad()
def _serving_samples(autoencoder: Autoencoder, samples: SampleSet) -> SampleArray:
    """Return the first samples as inputs of the served model, (n, *input_shape) in raw units, or token ids."""
    indices = np.arange(min(_EXPORT_ROWS, samples.shape[0]))
    raw = torch.from_numpy(np.array(samples.take(indices)))
    if not autoencoder.serves_corrupted:
        return autoencoder.split_target(raw)[0].numpy()
    seed_generators(torch.device("cpu"), EVALUATION_SEED)
    clean, _ = autoencoder.split_target(autoencoder.normalise(raw))
    inputs: SampleArray = autoencoder.denormalise(autoencoder.serving_input(clean)).numpy()
    return inputs


@torch.no_grad()
def _count_words(autoencoder: Autoencoder, train: SampleSet, spec: FitSpec) -> SampleArray | None:
    """Count each word of a codebook in each slot of the training samples' codes, for an entropy coder.

    Returns:
        (slots, words) int64, or None for other bottlenecks.
    """
    bottleneck = spec.model.bottleneck
    if not isinstance(bottleneck, QuantisedBottleneckSpec):
        return None
    counts = np.zeros(bottleneck.slots * bottleneck.words, np.int64)
    slot_offsets = np.arange(bottleneck.slots) * bottleneck.words
    seed_generators(torch.device("cpu"), EVALUATION_SEED)
    for raw in iterate_batches(train):
        clean, _ = autoencoder.split_target(autoencoder.normalise(raw))
        codes = autoencoder.bottleneck.to_code(autoencoder.encode(autoencoder.serving_input(clean))).numpy()
        counts += np.bincount((codes + slot_offsets).reshape(-1), minlength=len(counts))
    return counts.reshape(bottleneck.slots, bottleneck.words)


def _column_facts(autoencoder: Autoencoder) -> dict[str, Any]:
    """Return what was learnt of a table's columns, for a reader of the bundle."""
    if autoencoder.preprocessing is None:
        return {}
    facts = []
    for column, learnt in zip(autoencoder.preprocessing.columns, autoencoder.preprocessing.facts(), strict=True):
        facts.append({"name": column.name, **map_values(_finite_or_none, learnt._asdict())})
    return {"column_facts": facts}


def _finite_or_none(value: float) -> float | None:
    """Return a number as JSON can hold it."""
    if math.isfinite(value):
        return value
    return None


def bundle_document(
    spec: FitSpec,
    facts: TrainingFacts,
    scorer: AnomalyScorer,
    *,
    backbone: bytes | None = None,
    calibration_sha256: str | None = None,
) -> dict[str, Any]:
    """Return bundle.json without its `format` and its `export`.

    Args:
        spec: of the fit.
        facts: of the training.
        scorer: the model.
        backbone: content of the frozen network's file, where the model has one.
        calibration_sha256: as in `calibrate`.
    """
    data = {"content_sha256": facts.content_sha256}
    if calibration_sha256 is not None:
        data["calibration_sha256"] = calibration_sha256
    if backbone is not None:
        data["backbone_sha256"] = hashlib.sha256(backbone).hexdigest()
    sections = spec.to_dict()
    autoencoder, score_facts = scorer.autoencoder, scorer.score.learnt_facts()
    sample_dtype = autoencoder.sample_dtype
    code_dtype = "int64" if isinstance(spec.model.bottleneck, QuantisedBottleneckSpec) else "float32"
    return {
        "recipe": facts.recipe,
        "input": sections["input"],
        **_column_facts(autoencoder),
        "model": sections["model"],
        "samples": scorer.rules.to_dict(),
        "score": sections["score"],
        **({"score_facts": score_facts} if score_facts else {}),
        "threshold": spec_to_dict(spec.threshold) | scorer.threshold.to_dict(),
        "train": {**sections["train"], "steps": facts.steps},
        "data": data,
        "given": {"shape": list(autoencoder.given_shape), "dtype": sample_dtype},
        "made": {"shape": list(autoencoder.made_shape), "dtype": sample_dtype},
        "code": {"shape": list(autoencoder.bottleneck.code_shape), "dtype": code_dtype},
        "torch": facts.torch_version,
    }
