"""A training: from a WeightsSpec and samples to trained weights on disk. Neither score nor threshold changes it.

Killed at any moment and called again, it goes on from its last checkpoint and ends in the same weights, bit for bit.
"""

import hashlib
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from ae_models.autoencoder import Autoencoder
from ae_models.available_memory import fits_in_memory
from ae_models.checkpoint import CHECKPOINT_FILE, CheckpointCallback, LocalCheckpointIO, find_checkpoint, remove_checkpoint
from ae_models.data_loading import iterate_batches
from ae_models.encoders import TokenEncoder
from ae_models.ensemble import build_autoencoder
from ae_models.lightning_module import AutoencoderModule
from ae_models.sample_sets import SampleArray, SampleSet, as_sample_set, require_samples, samples_sha256, total_bytes
from ae_models.spec import OnnxEncoderSpec, TokenEncoderSpec, TrainSpec, WeightsSpec, input_shape, with_backbone
from ae_models.text_sets import encode_text_set, train_tokenizer_on
from ae_models.training_environment import deterministic_threads, quiet_lightning, require_accelerator, require_threads
from ae_models.training_progress import PROGRESS_FILE, ProgressCallback, history_csv
from ae_models.training_result import BACKBONE_FILE, WEIGHT_HASH_FILE, TrainingFacts, write_training
from ae_models.training_worker import ALONE, TrainingWorker
from ae_models.weight_hash_log import WeightHashCallback

__all__ = ["finish_training", "train_autoencoder", "train_weights"]


def train_weights(
    spec: WeightsSpec,
    train: SampleArray | SampleSet,
    validation: SampleArray | SampleSet,
    *,
    checkpoints: Path,
    content_sha256: str,
    recipe: str,
    training: Path,
    progress_bar: bool = True,
    backbone: Path | None = None,
    worker: TrainingWorker | None = None,
) -> None:
    """Train and write `training`: see `ae_models.training_result`.

    The last checkpoint stays until `finish_training`: called again before that, this writes the same result without training.

    Args:
        spec: every setting that decides the weights beside the samples.
        train: raw samples (n, *spec.input.shape), values in its [low, high]: an array, or a file
            (`ae_models.sample_sets.NpySampleSet`), which may exceed memory.
        validation: the same, evaluated after each epoch.
        checkpoints: a folder of this training's own, outside the results: last.ckpt, key.json, progress.jsonl, trail.csv.
        content_sha256: names the dataset.
        recipe: names the model.
        training: folder, replaced when the training has ended.
        progress_bar: whether to draw one on stderr.
        backbone: file of the frozen network that `spec.model.encode.path` names, where it lies elsewhere.
        worker: which of the workers this process is, where someone else has started all of them with the same arguments and
            joined them in torch's default process group; the first one alone writes. None: where `spec.train.devices` asks for
            several, they are started here and end before this returns.

    Raises:
        SampleError: samples that are not valid.
        DivergenceError: a loss that is not finite.
        WorkerError: one of several workers ended, such as by a kill; called again, the training goes on.
        TrainingError: fewer threads than `spec.train.threads`, or workers on machines that differ.
        SpecError: GPUs are asked for that this machine lacks; or a frozen network that cannot be used.
    """
    train_set, validation_set = as_sample_set(train), as_sample_set(validation)
    require_samples("train", train_set, spec.input)
    require_samples("validation", validation_set, spec.input)
    require_threads(spec.train.threads)
    require_accelerator(spec.train, 1 if worker is not None else spec.train.workers)
    tokenizer, backbone_content = None, None
    with deterministic_threads(spec.train.threads), quiet_lightning():
        encoder, built_spec = spec.model.encode, spec
        if isinstance(encoder, OnnxEncoderSpec):
            built_spec, backbone_content = _read_backbone(spec, encoder, backbone or Path(encoder.path))
        if isinstance(encoder, TokenEncoderSpec):
            tokenizer = train_tokenizer_on(train_set, encoder.vocabulary)
            train_set = encode_text_set(tokenizer, train_set, encoder.length)
            validation_set = encode_text_set(tokenizer, validation_set, encoder.length)
        module = train_autoencoder(built_spec, train_set, validation_set, checkpoints, progress_bar, worker)
    if module.worker.is_first:
        _write_result(training, spec, module, checkpoints, content_sha256, recipe, tokenizer, backbone_content)


def _read_backbone(spec: WeightsSpec, encoder: OnnxEncoderSpec, file: Path) -> tuple[WeightsSpec, bytes]:
    """Check a frozen network.

    Returns:
        The spec with the path of its file and its SHA-256, so that no other content is trained with, and the content.

    Raises:
        SpecError: it cannot be used.
    """
    from ae_models.onnx_verification import read_backbone  # late: no other training needs onnxruntime, which takes .3 s to import

    located_encoder = replace(encoder, path=str(file))
    content = read_backbone(located_encoder, input_shape(spec.model, spec.input))
    pinned_encoder = replace(located_encoder, path_sha256=hashlib.sha256(content).hexdigest())
    return replace(spec, model=replace(spec.model, encode=pinned_encoder)), content


def _write_result(
    training: Path,
    spec: WeightsSpec,
    module: AutoencoderModule,
    checkpoints: Path,
    content_sha256: str,
    recipe: str,
    tokenizer: str | None,
    backbone: bytes | None,
) -> None:
    """Write what a training came to; see `train_weights` and `ae_models.training_result`."""
    facts = TrainingFacts(
        recipe=recipe,
        spec=spec,
        steps=module.total_steps,
        content_sha256=content_sha256,
        torch_version=torch.__version__.partition("+")[0],
    )
    write_training(
        training,
        facts,
        module.autoencoder,
        history=history_csv(checkpoints / PROGRESS_FILE, spec.train.members),
        weight_hashes=(checkpoints / WEIGHT_HASH_FILE).read_text(encoding="utf-8"),
        tokenizer=tokenizer,
        backbone=backbone,
    )


def finish_training(checkpoints: Path) -> None:
    """Remove the checkpoint of a training, once all that is made of its result is in place; its progress stays."""
    remove_checkpoint(checkpoints)
    (checkpoints / WEIGHT_HASH_FILE).unlink(missing_ok=True)


def train_autoencoder(
    spec: WeightsSpec,
    train: SampleArray | SampleSet,
    validation: SampleArray | SampleSet,
    checkpoints: Path,
    progress_bar: bool,
    worker: TrainingWorker | None = None,
) -> AutoencoderModule:
    """Train to the end, from the checkpoint where there is one of the same training.

    Args:
        spec: the settings that decide the weights.
        train: raw samples, or token ids.
        validation: the same, evaluated after each epoch.
        checkpoints: a folder of this training's own.
        progress_bar: whether to draw one on stderr.
        worker: see `train_weights`.
    """
    train_set, validation_set = as_sample_set(train), as_sample_set(validation)
    if worker is not None or spec.train.workers == 1:
        return _train_as(worker or ALONE, spec, train_set, validation_set, checkpoints, progress_bar)
    from ae_models.local_workers import local_workers  # late: a training on one device needs no process group

    with local_workers(spec, train_set, validation_set, checkpoints) as first_worker:
        return _train_as(first_worker, spec, train_set, validation_set, checkpoints, progress_bar)


def _train_as(
    worker: TrainingWorker,
    spec: WeightsSpec,
    train_set: SampleSet,
    validation_set: SampleSet,
    checkpoints: Path,
    progress_bar: bool,
) -> AutoencoderModule:
    """Train as one of the workers, or alone."""
    autoencoder = build_autoencoder(spec.model, spec.input, spec.train.members, seed=spec.train.seed)
    for member in autoencoder.members:
        if isinstance(member.encode, TokenEncoder):
            member.encode.count_tokens(iterate_batches(train_set))
    _learn_preprocessing(autoencoder, train_set)
    worker.require_alike(autoencoder)
    trainer = _make_trainer(worker, spec.train, checkpoints, progress_bar)
    sample_bytes = worker.local_count * (total_bytes(train_set) + total_bytes(validation_set))
    resident = fits_in_memory(sample_bytes, trainer.strategy.root_device)
    training = AutoencoderModule(autoencoder, spec.train, train_set, validation_set, resident, worker)
    key = _training_key(spec, train_set, validation_set, trainer, worker)
    checkpoint = worker.agree_on_file(partial(find_checkpoint, checkpoints, key), checkpoints / CHECKPOINT_FILE)
    trainer.fit(training, ckpt_path=checkpoint, weights_only=True)
    return training


def _make_trainer(worker: TrainingWorker, spec: TrainSpec, checkpoints: Path, progress_bar: bool) -> pl.Trainer:
    logs = (ProgressCallback(checkpoints, progress_bar), WeightHashCallback(checkpoints))
    return pl.Trainer(
        max_epochs=spec.total_epochs,
        accelerator=spec.accelerator,
        devices=worker.devices,
        strategy=worker.strategy,
        plugins=[*worker.plugins, LocalCheckpointIO()],
        precision=_choose_precision(spec),  # type: ignore[arg-type]
        deterministic=True,
        callbacks=[*logs, CheckpointCallback(checkpoints, logs)],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        default_root_dir=checkpoints,
    )


def _learn_preprocessing(autoencoder: Autoencoder, train: SampleSet) -> None:
    """Let the preprocessing of a table's rows learn from the training rows; every member has the same."""
    first = autoencoder.preprocessing
    if first is None:
        return
    first.learn(train)
    for member in autoencoder.members[1:]:
        assert member.preprocessing is not None, "members have one spec"
        member.preprocessing.load_state_dict(first.state_dict())


def _choose_precision(spec: TrainSpec) -> str:
    """Return the precision; `auto` means bfloat16 where the GPU computes in it, else 32 bits."""
    if spec.precision != "auto":
        return spec.precision
    on_gpu = spec.accelerator != "cpu" and torch.cuda.is_available()
    if on_gpu and torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16-mixed"
    return "32"


def _training_key(
    spec: WeightsSpec, train: SampleSet, validation: SampleSet, trainer: pl.Trainer, worker: TrainingWorker
) -> dict[str, Any]:
    """Return everything that decides the weights: a checkpoint serves only the training that would have made it."""
    model = with_backbone(spec.model, Path(BACKBONE_FILE))  # by its content alone, wherever its file lies
    train_spec = replace(spec.train, capture="auto")  # with graphs or without, a step computes the same bits
    workers = {"workers": worker.count} if worker.count > 1 else {}  # of one alone, the key of older versions
    return workers | {
        "spec": replace(spec, model=model, train=train_spec).to_dict(),
        "samples": [samples_sha256(train), samples_sha256(validation)],
        "torch": torch.__version__,
        "lightning": version("pytorch-lightning"),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "device": str(trainer.strategy.root_device),
        "precision": trainer.precision,
        "steps": "an epoch at once",  # Lightning does not go on from a checkpoint that counts other batches
        "trail": WEIGHT_HASH_FILE,  # a checkpoint of an older version, without a log beside it, would end in half a log
    }
