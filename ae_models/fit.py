"""From a FitSpec and samples to a bundle and a history: train, calibrate, export. Files out, nothing else.

Killed at any moment and called again, it goes on from its last checkpoint and ends in the same weights, bit for bit.
"""

import hashlib
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from ae_models import bundle as bundles
from ae_models import checkpoint, memory, score, threshold, tokens
from ae_models.autoencoder import Autoencoder
from ae_models.encode import TokensEncode
from ae_models.errors import TrainingError
from ae_models.export import Scorer
from ae_models.feed import seed_draws
from ae_models.files import as_json, write_aside
from ae_models.module import EVALUATION_SEED, Training, evaluation_batch
from ae_models.parts import build
from ae_models.progress import PROGRESS, Progress, history_csv
from ae_models.rows import ArrayRows, Rows, Samples, as_rows, total_bytes
from ae_models.spec import TEXT, FitSpec, InputSpec, QuantisedBottleneck, TrainSpec
from ae_models.trail import TRAIL, Trail

EXPORT_ROWS = 64  # calibration samples on which ONNX is compared with torch


def fit(
    spec: FitSpec,
    train: Samples | Rows,
    validation: Samples | Rows,
    calibration: Samples | Rows,
    *,
    checkpoints: Path,
    content_sha256: str,
    recipe: str,
    bundle: Path,
    history: Path,
    progress_bar: bool = True,
) -> None:
    """Trains, calibrates and writes `bundle` and `history` (history.csv, trail.csv, export.json).

    Args:
        spec: all that decides the result beside the samples.
        train, validation, calibration: raw samples (n, *spec.input.shape), values in its [low, high]: arrays, or rows of a
            file (`ae_models.rows.NpyRows`), which may be larger than memory.
        checkpoints: a folder of this training's own, outside the results: last.ckpt, key.json, progress.jsonl,
            trail.csv.
        content_sha256: names the dataset, for bundle.json.
        recipe: names the bundle.
        bundle, history: folders, replaced when the training has ended.
        progress_bar: whether to draw one on stderr.

    Raises:
        TrainingError: samples that cannot be, fewer threads than `spec.train.threads`, or a loss that is no number.
        SpecError: too few calibration samples for the false-alarm rate.
    """
    parts = {"train": as_rows(train), "validation": as_rows(validation), "calibration": as_rows(calibration)}
    for name, samples in parts.items():
        demand_samples(name, samples, spec.input)
    demand_threads(spec.train.threads)
    rows = parts["calibration"].shape[0]
    threshold.calibrate(spec.threshold, np.zeros(rows, np.float32))  # too few of them is said before the training
    with steady(spec.train.threads), quiet():
        tokenizer, parts = tokenised(spec, parts) if spec.input.kind == TEXT else (None, parts)
        training = trained(spec, parts["train"], parts["validation"], checkpoints, progress_bar)
        scorer = calibrated(spec, training.autoencoder, parts["calibration"])
        exported = bundles.write(
            bundle,
            bundle_document(spec, training, scorer, content_sha256, recipe),
            scorer,
            served_samples(scorer.autoencoder, parts["calibration"]),
            tokenizer=tokenizer,
            word_counts=word_counts(scorer.autoencoder, parts["train"], spec.model.bottleneck),
        )
    history.mkdir(parents=True, exist_ok=True)
    write_aside(history / "history.csv", history_csv(checkpoints / PROGRESS))
    write_aside(history / TRAIL, (checkpoints / TRAIL).read_text(encoding="utf-8"))
    write_aside(history / "export.json", as_json(exported))
    checkpoint.forget(checkpoints)
    (checkpoints / TRAIL).unlink()


def demand_samples(name: str, samples: Rows, source: InputSpec) -> None:
    """Raises TrainingError for an empty set, another shape, or a value that is NaN or out of [low, high]."""
    if samples.shape[1:] != tuple(source.shape) or samples.shape[0] < 2:
        raise TrainingError(f"{name}: an array of shape {samples.shape} given; (2 or more, {str(source.shape)[1:-1]}) is allowed")
    for block in samples.blocks():
        low, high = block.min(), block.max()
        if not (source.low <= low and high <= source.high):  # false for NaN too
            raise TrainingError(f"{name}: values from {low} to {high} given; {source.low:g} to {source.high:g} allowed")


def tokenised(spec: FitSpec, parts: dict[str, Rows]) -> tuple[str, dict[str, Rows]]:
    """A tokenizer trained on the training texts, as its JSON, and every part as token ids (n, tokens)."""
    encode = spec.model.encode
    texts = {name: np.concatenate(list(samples.blocks())) for name, samples in parts.items()}
    tokenizer = tokens.train(texts["train"], encode.vocabulary)
    ids = {name: ArrayRows(tokens.ids(tokenizer, rows, encode.length)) for name, rows in texts.items()}
    return tokens.as_json(tokenizer), dict(ids)


def trained(spec: FitSpec, train: Rows, validation: Rows, checkpoints: Path, progress_bar: bool) -> Training:
    """Trains to the end, from the checkpoint where there is one of this very training."""
    torch.manual_seed(spec.train.seed)
    autoencoder = Autoencoder(spec.model, spec.input)
    if isinstance(autoencoder.encode, TokensEncode):
        autoencoder.encode.count(batches(train))
    trainer = pl.Trainer(
        max_epochs=spec.train.epochs_in_all,
        accelerator=spec.train.accelerator,
        devices=1,
        precision=precision(spec.train),  # type: ignore[arg-type]
        deterministic=True,
        callbacks=[Progress(checkpoints, progress_bar), Trail(checkpoints), checkpoint.Checkpoints(checkpoints)],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        default_root_dir=checkpoints,
    )
    resident = memory.fits(total_bytes(train) + total_bytes(validation), trainer.strategy.root_device)
    training = Training(autoencoder, spec.train, train, validation, resident)
    resume = checkpoint.open_folder(checkpoints, training_key(spec, train, validation, trainer))
    trainer.fit(training, ckpt_path=resume, weights_only=True)
    return training


def precision(spec: TrainSpec) -> str:
    """What `auto` means here: bfloat16 where the GPU computes in it, else 32 bits."""
    if spec.precision != "auto":
        return spec.precision
    on_gpu = spec.accelerator != "cpu" and torch.cuda.is_available()
    return "bf16-mixed" if on_gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "32"


def training_key(spec: FitSpec, train: Rows, validation: Rows, trainer: pl.Trainer) -> dict[str, Any]:
    """All that decides the weights: a checkpoint serves only the training that would have made it."""
    return {
        "spec": spec.plain(),
        "samples": [samples_sha256(samples) for samples in (train, validation)],
        "torch": torch.__version__,
        "lightning": version("pytorch-lightning"),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "device": str(trainer.strategy.root_device),
        "precision": trainer.precision,
        "trail": TRAIL,  # a checkpoint without one beside it, as older versions wrote them, would end in half a trail
    }


def samples_sha256(samples: Rows) -> str:
    total = hashlib.sha256(f"{samples.dtype} {samples.shape}".encode())
    for block in samples.blocks():
        total.update(np.ascontiguousarray(block).data)
    return total.hexdigest()


# ---------------------------------------------------------------- what a trained autoencoder says of samples


def batches(samples: Rows) -> Iterator[Tensor]:
    """All samples in order, as many at once as evaluation takes."""
    for block in samples.blocks():
        raw = torch.from_numpy(np.array(block))
        yield from torch.split(raw, evaluation_batch(raw))


@torch.no_grad()
def calibrated(spec: FitSpec, autoencoder: Autoencoder, calibration: Rows) -> Scorer:
    """The trained autoencoder, in evaluation mode on the CPU, with the threshold of its scores on samples it never saw."""
    autoencoder = autoencoder.cpu().eval()
    scored = build(score.KINDS, spec.score)
    seed_draws(torch.device("cpu"), EVALUATION_SEED)
    scores = []
    for raw in batches(calibration):
        clean, _ = autoencoder.pair(autoencoder.normalise(raw))
        scores.append(scored(autoencoder.answer(autoencoder.served(clean))[0]))
    return Scorer(autoencoder, scored, threshold.calibrate(spec.threshold, torch.cat(scores).numpy()))


@torch.no_grad()
def served_samples(autoencoder: Autoencoder, samples: Rows) -> Samples:
    """The first samples as a served model gets them, (n, *given_shape) in raw units, or token ids."""
    raw = torch.from_numpy(np.array(samples.take(np.arange(min(EXPORT_ROWS, samples.shape[0])))))
    if not autoencoder.serves_corrupted:
        return autoencoder.pair(raw)[0].numpy()
    seed_draws(torch.device("cpu"), EVALUATION_SEED)
    clean, _ = autoencoder.pair(autoencoder.normalise(raw))
    given: Samples = autoencoder.raw(autoencoder.served(clean)).numpy()
    return given


@torch.no_grad()
def word_counts(autoencoder: Autoencoder, train: Rows, bottleneck: Any) -> Samples | None:
    """How often each word of a codebook stands in each slot of the training samples' codes, (slots, words) int64: what an
    entropy coder has to know. None for other bottlenecks."""
    if not isinstance(bottleneck, QuantisedBottleneck):
        return None
    counts = np.zeros(bottleneck.slots * bottleneck.words, np.int64)
    slot = np.arange(bottleneck.slots) * bottleneck.words
    seed_draws(torch.device("cpu"), EVALUATION_SEED)
    for raw in batches(train):
        clean, _ = autoencoder.pair(autoencoder.normalise(raw))
        words = autoencoder.bottleneck.code(autoencoder.encode(autoencoder.served(clean))).numpy()
        counts += np.bincount((words + slot).reshape(-1), minlength=len(counts))
    return counts.reshape(bottleneck.slots, bottleneck.words)


def bundle_document(spec: FitSpec, training: Training, scorer: Scorer, content_sha256: str, recipe: str) -> dict[str, Any]:
    sections = spec.plain()
    of_text = spec.input.kind == TEXT
    values = "int64" if of_text else "float32"
    quantised = isinstance(spec.model.bottleneck, QuantisedBottleneck)
    return {
        "recipe": recipe,
        **{key: sections[key] for key in ("input", "model", "score")},
        "threshold": scorer.threshold.plain(spec.threshold),
        "train": {**sections["train"], "steps": spec.train.epochs_in_all * training.steps_an_epoch},
        "data": {"content_sha256": content_sha256},
        "given": {"shape": list(scorer.autoencoder.given_shape), "dtype": values},
        "made": {"shape": list(scorer.autoencoder.made_shape), "dtype": values},
        "code": {"shape": list(scorer.autoencoder.bottleneck.code_shape), "dtype": "int64" if quantised else "float32"},
        "torch": torch.__version__.partition("+")[0],
    }


def demand_threads(threads: int) -> None:
    """Refuses an environment in which oneDNN would wait for ever for threads that OpenMP does not start.

    Raises:
        TrainingError: OMP_THREAD_LIMIT is less than `threads`.
    """
    limit = os.environ.get("OMP_THREAD_LIMIT", "").strip()
    if limit.isdecimal() and int(limit) < threads:
        raise TrainingError(
            f"OMP_THREAD_LIMIT={limit} is set and train.threads is {threads}: a training here would never end. "
            "Type unset OMP_THREAD_LIMIT; another number of threads would train other bits"
        )


@contextmanager
def steady(threads: int) -> Iterator[None]:
    """Fixes what decides the order of sums, and gives it back. Lightning sets `use_deterministic_algorithms` itself."""
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    settings: Any = torch.utils.deterministic
    filling = settings.fill_uninitialized_memory
    torch.set_num_threads(threads)
    settings.fill_uninitialized_memory = False  # true writes every new tensor twice; nothing here reads one unwritten
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
        settings.fill_uninitialized_memory = filling


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps Lightning's advice (worker processes, loggers, tips) from the screen; errors still come."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
