"""From a FitSpec and samples to a bundle and a history: train, calibrate, export. Files out, nothing else.

Killed at any moment and called again, it goes on from its last checkpoint and ends in the same weights, bit for bit.
"""

import hashlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
import torch

from ae_models import bundle as bundles
from ae_models import checkpoint, score, threshold
from ae_models.autoencoder import Autoencoder
from ae_models.errors import TrainingError
from ae_models.export import Scorer
from ae_models.files import as_json, write_aside
from ae_models.module import EVALUATION_BATCH, Training
from ae_models.parts import build
from ae_models.progress import PROGRESS, Progress, history_csv
from ae_models.spec import FitSpec, InputSpec, TrainSpec

Samples = npt.NDArray[Any]
EXPORT_ROWS = 64  # calibration samples on which ONNX is compared with torch


def fit(
    spec: FitSpec,
    train: Samples,
    validation: Samples,
    calibration: Samples,
    *,
    checkpoints: Path,
    content_sha256: str,
    recipe: str,
    bundle: Path,
    history: Path,
    progress_bar: bool = True,
) -> None:
    """Trains, calibrates and writes `bundle` and `history` (history.csv, export.json).

    Args:
        spec: all that decides the result beside the samples.
        train, validation, calibration: raw samples (n, c, h, w) of spec.input's shape, values in its [low, high].
        checkpoints: a folder of this training's own, outside the results: last.ckpt, key.json, progress.jsonl.
        content_sha256: names the dataset, for bundle.json.
        recipe: names the bundle.
        bundle, history: folders, replaced when the training has ended.
        progress_bar: whether to draw one on stderr.

    Raises:
        TrainingError: samples that cannot be, or a loss that is no number.
        SpecError: too few calibration samples for the false-alarm rate.
    """
    parts = {"train": train, "validation": validation, "calibration": calibration}
    for name, samples in parts.items():
        demand_samples(name, samples, spec.input)
    threshold.calibrate(spec.threshold, np.zeros(len(calibration), np.float32))  # too few of them is said before the training
    with steady(spec.train.threads), quiet():
        training = trained(spec, train, validation, checkpoints, progress_bar)
        scorer = calibrated(spec, training.autoencoder, calibration)
        document = bundle_document(spec, training, scorer, content_sha256, recipe)
        exported = bundles.write(bundle, document, scorer, calibration[:EXPORT_ROWS])
    history.mkdir(parents=True, exist_ok=True)
    write_aside(history / "history.csv", history_csv(checkpoints / PROGRESS))
    write_aside(history / "export.json", as_json(exported))
    checkpoint.forget(checkpoints)


def demand_samples(name: str, samples: Samples, source: InputSpec) -> None:
    """Raises TrainingError for an empty set, another shape, or a value that is NaN or out of [low, high]."""
    if samples.shape[1:] != tuple(source.shape) or len(samples) < 2:
        raise TrainingError(f"{name}: an array of shape {samples.shape} given; (2 or more, {str(source.shape)[1:-1]}) is allowed")
    low, high = samples.min(), samples.max()
    if not (source.low <= low and high <= source.high):  # false for NaN too
        raise TrainingError(f"{name}: values from {low} to {high} given; {source.low:g} to {source.high:g} allowed")


def trained(spec: FitSpec, train: Samples, validation: Samples, checkpoints: Path, progress_bar: bool) -> Training:
    """Trains to the end, from the checkpoint where there is one of this very training."""
    torch.manual_seed(spec.train.seed)
    training = Training(Autoencoder(spec.model, spec.input), spec.train, tensor(train), tensor(validation))
    trainer = pl.Trainer(
        max_epochs=spec.train.epochs,
        accelerator=spec.train.accelerator,
        devices=1,
        precision=precision(spec.train),  # type: ignore[arg-type]
        deterministic=True,
        callbacks=[Progress(checkpoints, progress_bar), checkpoint.Checkpoints(checkpoints)],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        default_root_dir=checkpoints,
    )
    key = training_key(spec, train, validation, trainer)
    resume = checkpoint.open_folder(checkpoints, key)
    trainer.fit(training, ckpt_path=resume, weights_only=True)
    return training


def tensor(samples: Samples) -> torch.Tensor:
    """A copy: a memory-mapped array is not writable, which torch asks for."""
    return torch.from_numpy(np.array(samples))


def precision(spec: TrainSpec) -> str:
    """What `auto` means here: bfloat16 where the GPU computes in it, else 32 bits."""
    if spec.precision != "auto":
        return spec.precision
    on_gpu = spec.accelerator != "cpu" and torch.cuda.is_available()
    return "bf16-mixed" if on_gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "32"


def training_key(spec: FitSpec, train: Samples, validation: Samples, trainer: pl.Trainer) -> dict[str, Any]:
    """All that decides the weights: a checkpoint serves only the training that would have made it."""
    return {
        "spec": spec.plain(),
        "samples": [samples_sha256(samples) for samples in (train, validation)],
        "torch": torch.__version__,
        "lightning": version("pytorch-lightning"),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "device": str(trainer.strategy.root_device),
        "precision": trainer.precision,
    }


def samples_sha256(samples: Samples) -> str:
    head = f"{samples.dtype} {samples.shape}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(samples).tobytes()).hexdigest()


@torch.no_grad()
def calibrated(spec: FitSpec, autoencoder: Autoencoder, calibration: Samples) -> Scorer:
    """The trained autoencoder, in evaluation mode on the CPU, with the threshold of its scores on samples it never saw."""
    autoencoder = autoencoder.cpu().eval()
    scored = build(score.KINDS, spec.score)
    scores = []
    for raw in torch.split(tensor(calibration), EVALUATION_BATCH):
        x = autoencoder.normalise(raw)
        scores.append(scored(x, autoencoder(x)[0]))
    return Scorer(autoencoder, scored, threshold.calibrate(spec.threshold, torch.cat(scores).numpy()))


def bundle_document(spec: FitSpec, training: Training, scorer: Scorer, content_sha256: str, recipe: str) -> dict[str, Any]:
    sections = spec.plain()
    return {
        "recipe": recipe,
        **{key: sections[key] for key in ("input", "model", "score")},
        "threshold": scorer.threshold.plain(spec.threshold),
        "train": {**sections["train"], "steps": spec.train.epochs * training.steps_an_epoch},
        "data": {"content_sha256": content_sha256},
        "code": {"shape": [spec.model.bottleneck.size]},
        "torch": torch.__version__.partition("+")[0],
    }


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
