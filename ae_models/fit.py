"""A fit: from a FitSpec and samples to a bundle and a history. It trains, calibrates and exports, and only writes files.

Killed at any moment and called again, it goes on from its last checkpoint and ends in the same weights, bit for bit.
"""

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from ae_models import tokens
from ae_models.atomic_files import atomic_write, json_text
from ae_models.autoencoder import Autoencoder
from ae_models.available_memory import fits_in_memory
from ae_models.bundle import write_bundle
from ae_models.checkpoint import CheckpointCallback, find_checkpoint, remove_checkpoint
from ae_models.data_loading import seed_generators
from ae_models.encoders import TokenEncoder
from ae_models.errors import SampleError
from ae_models.export import AnomalyScorer
from ae_models.factory import build_part
from ae_models.lightning_module import EVALUATION_SEED, AutoencoderModule, evaluation_batch_size
from ae_models.sample_sets import ArraySampleSet, SampleArray, SampleSet, as_sample_set, samples_sha256, total_bytes
from ae_models.scores import SCORES
from ae_models.spec import TEXT, FitSpec, InputSpec, QuantisedBottleneckSpec, TrainSpec, spec_to_dict
from ae_models.thresholds import THRESHOLDS
from ae_models.training_environment import deterministic_threads, quiet_lightning, require_accelerator, require_threads
from ae_models.training_progress import PROGRESS_FILE, ProgressCallback, history_csv
from ae_models.weight_hash_log import WEIGHT_HASH_FILE, WeightHashCallback

__all__ = ["calibrate_scorer", "fit", "train_autoencoder"]

_EXPORT_ROWS = 64  # calibration samples on which ONNX is compared with torch


def fit(
    spec: FitSpec,
    train: SampleArray | SampleSet,
    validation: SampleArray | SampleSet,
    calibration: SampleArray | SampleSet,
    *,
    checkpoints: Path,
    content_sha256: str,
    recipe: str,
    bundle: Path,
    history: Path,
    progress_bar: bool = True,
) -> None:
    """Train, calibrate and write `bundle` and `history` (history.csv, trail.csv, export.json).

    Args:
        spec: every setting that decides the result beside the samples.
        train: raw samples (n, *spec.input.shape), values in its [low, high]: an array, or a file
            (`ae_models.sample_sets.NpySampleSet`), which may exceed memory.
        validation: the same, evaluated after each epoch.
        calibration: the same, for the threshold alone.
        checkpoints: a folder of this training's own, outside the results: last.ckpt, key.json, progress.jsonl, trail.csv.
        content_sha256: names the dataset, for bundle.json.
        recipe: names the bundle.
        bundle: folder, replaced when the training has ended.
        history: folder, whose files are replaced when the training has ended.
        progress_bar: whether to draw one on stderr.

    Raises:
        SampleError: samples that are not valid.
        DivergenceError: a loss that is not finite.
        TrainingError: fewer threads than `spec.train.threads`.
        SpecError: too few calibration samples for the false-alarm rate, or a GPU is asked for that this machine lacks.
    """
    sample_sets = {
        "train": as_sample_set(train),
        "validation": as_sample_set(validation),
        "calibration": as_sample_set(calibration),
    }
    for name, samples in sample_sets.items():
        _require_samples(name, samples, spec.input)
    # Before the training, which may take hours.
    require_threads(spec.train.threads)
    require_accelerator(spec.train.accelerator)
    build_part(THRESHOLDS, spec.threshold).require_rows(sample_sets["calibration"].shape[0])
    with deterministic_threads(spec.train.threads), quiet_lightning():
        tokenizer = None
        if spec.input.kind == TEXT:
            tokenizer, sample_sets = _tokenize(spec, sample_sets)
        training = train_autoencoder(spec, sample_sets["train"], sample_sets["validation"], checkpoints, progress_bar)
        scorer = calibrate_scorer(spec, training.autoencoder, sample_sets["calibration"])
        export_check = write_bundle(
            bundle,
            _bundle_document(spec, training, scorer, content_sha256, recipe),
            scorer,
            _serving_samples(scorer.autoencoder, sample_sets["calibration"]),
            tokenizer=tokenizer,
            word_counts=_count_words(scorer.autoencoder, sample_sets["train"], spec),
        )
    history.mkdir(parents=True, exist_ok=True)
    atomic_write(history / "history.csv", history_csv(checkpoints / PROGRESS_FILE))
    atomic_write(history / WEIGHT_HASH_FILE, (checkpoints / WEIGHT_HASH_FILE).read_text(encoding="utf-8"))
    atomic_write(history / "export.json", json_text(export_check._asdict()))
    remove_checkpoint(checkpoints)
    (checkpoints / WEIGHT_HASH_FILE).unlink()


def _require_samples(name: str, samples: SampleSet, input_spec: InputSpec) -> None:
    """Check the shape and the values of a set.

    Raises:
        SampleError: fewer than 2 samples, another shape, or a value that is NaN or out of [low, high].
    """
    if samples.shape[1:] != tuple(input_spec.shape) or samples.shape[0] < 2:
        expected_shape = ", ".join(map(str, ("n", *input_spec.shape)))
        raise SampleError(
            f"the {name} samples have shape {samples.shape}, expected ({expected_shape}) with n >= 2 (input.shape in the spec)"
        )
    for block in samples.blocks():
        low, high = block.min(), block.max()
        if not (input_spec.low <= low and high <= input_spec.high):  # false for NaN too
            raise SampleError(
                f"the {name} samples have values from {low} to {high}, expected {input_spec.low:g} to {input_spec.high:g} "
                "(input.low and input.high in the spec)"
            )


def _tokenize(spec: FitSpec, sample_sets: dict[str, SampleSet]) -> tuple[str, dict[str, SampleSet]]:
    """Train a tokenizer on the training texts.

    Returns:
        The tokenizer's JSON, and every set as token ids (n, tokens).
    """
    encoder: Any = spec.model.encode
    texts = {name: np.concatenate(list(samples.blocks())) for name, samples in sample_sets.items()}
    tokenizer = tokens.train_tokenizer(texts["train"], encoder.vocabulary)
    token_sets: dict[str, SampleSet] = {}
    for name, rows in texts.items():
        token_sets[name] = ArraySampleSet(tokens.encode_texts(tokenizer, rows, encoder.length))
    return tokens.tokenizer_to_json(tokenizer), token_sets


def train_autoencoder(
    spec: FitSpec,
    train: SampleArray | SampleSet,
    validation: SampleArray | SampleSet,
    checkpoints: Path,
    progress_bar: bool,
) -> AutoencoderModule:
    """Train to the end, from the checkpoint where there is one of the same training.

    Args:
        spec: its sections input, model and train decide the weights.
        train: raw samples, or token ids.
        validation: the same, evaluated after each epoch.
        checkpoints: a folder of this training's own.
        progress_bar: whether to draw one on stderr.
    """
    train_set, validation_set = as_sample_set(train), as_sample_set(validation)
    torch.manual_seed(spec.train.seed)
    autoencoder = Autoencoder(spec.model, spec.input)
    if isinstance(autoencoder.encode, TokenEncoder):
        autoencoder.encode.count_tokens(_iterate_batches(train_set))
    callbacks = [
        ProgressCallback(checkpoints, progress_bar),
        WeightHashCallback(checkpoints),
        CheckpointCallback(checkpoints),
    ]
    trainer = pl.Trainer(
        max_epochs=spec.train.total_epochs,
        accelerator=spec.train.accelerator,
        devices=1,
        precision=_choose_precision(spec.train),  # type: ignore[arg-type]
        deterministic=True,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        default_root_dir=checkpoints,
    )
    resident = fits_in_memory(total_bytes(train_set) + total_bytes(validation_set), trainer.strategy.root_device)
    training = AutoencoderModule(autoencoder, spec.train, train_set, validation_set, resident)
    checkpoint = find_checkpoint(checkpoints, _training_key(spec, train_set, validation_set, trainer))
    trainer.fit(training, ckpt_path=checkpoint, weights_only=True)
    return training


def _choose_precision(spec: TrainSpec) -> str:
    """Return the precision; `auto` means bfloat16 where the GPU computes in it, else 32 bits."""
    if spec.precision != "auto":
        return spec.precision
    on_gpu = spec.accelerator != "cpu" and torch.cuda.is_available()
    if on_gpu and torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16-mixed"
    return "32"


def _training_key(spec: FitSpec, train: SampleSet, validation: SampleSet, trainer: pl.Trainer) -> dict[str, Any]:
    """Return everything that decides the weights: a checkpoint serves only the training that would have made it."""
    return {
        "spec": spec.to_dict(),
        "samples": [samples_sha256(train), samples_sha256(validation)],
        "torch": torch.__version__,
        "lightning": version("pytorch-lightning"),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "device": str(trainer.strategy.root_device),
        "precision": trainer.precision,
        "trail": WEIGHT_HASH_FILE,  # a checkpoint of an older version, without a log beside it, would end in half a log
    }


# ---------------------------------------------------------------- the trained model


def _iterate_batches(samples: SampleSet) -> Iterator[Tensor]:
    """Yield all samples in order, in batches for evaluation."""
    for block in samples.blocks():
        raw = torch.from_numpy(np.array(block))
        yield from torch.split(raw, evaluation_batch_size(raw))


@torch.no_grad()
def calibrate_scorer(spec: FitSpec, autoencoder: Autoencoder, calibration: SampleArray | SampleSet) -> AnomalyScorer:
    """Choose the threshold of a trained autoencoder.

    Args:
        spec: its sections score and threshold count.
        autoencoder: put in evaluation mode and on the CPU by this call.
        calibration: raw samples that were not trained on.

    Raises:
        SpecError: too few calibration samples for the false-alarm rate.
    """
    autoencoder = autoencoder.cpu().eval()
    score_module = build_part(SCORES, spec.score)
    seed_generators(torch.device("cpu"), EVALUATION_SEED)
    batch_scores = []
    for raw in _iterate_batches(as_sample_set(calibration)):
        clean, _ = autoencoder.split_target(autoencoder.normalise(raw))
        batch_scores.append(score_module(autoencoder.run(autoencoder.serving_input(clean))))
    threshold = build_part(THRESHOLDS, spec.threshold).calibrate(torch.cat(batch_scores).numpy())
    return AnomalyScorer(autoencoder, score_module, threshold)


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
    for raw in _iterate_batches(train):
        clean, _ = autoencoder.split_target(autoencoder.normalise(raw))
        codes = autoencoder.bottleneck.to_code(autoencoder.encode(autoencoder.serving_input(clean))).numpy()
        counts += np.bincount((codes + slot_offsets).reshape(-1), minlength=len(counts))
    return counts.reshape(bottleneck.slots, bottleneck.words)


def _bundle_document(
    spec: FitSpec, training: AutoencoderModule, scorer: AnomalyScorer, content_sha256: str, recipe: str
) -> dict[str, Any]:
    sections = spec.to_dict()
    autoencoder = scorer.autoencoder
    sample_dtype = "int64" if autoencoder.is_text else "float32"
    code_dtype = "int64" if isinstance(spec.model.bottleneck, QuantisedBottleneckSpec) else "float32"
    return {
        "recipe": recipe,
        "input": sections["input"],
        "model": sections["model"],
        "score": sections["score"],
        "threshold": spec_to_dict(spec.threshold) | scorer.threshold.to_dict(),
        "train": {**sections["train"], "steps": spec.train.total_epochs * training.steps_per_epoch},
        "data": {"content_sha256": content_sha256},
        "given": {"shape": list(autoencoder.input_shape), "dtype": sample_dtype},
        "made": {"shape": list(autoencoder.output_shape), "dtype": sample_dtype},
        "code": {"shape": list(autoencoder.bottleneck.code_shape), "dtype": code_dtype},
        "torch": torch.__version__.partition("+")[0],
    }
