"""The steps of a training: what they compute does not depend on how they are handed over, and they ask a device for no value."""

import dataclasses
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkout import ROOT
from torch.utils._python_dispatch import TorchDispatchMode

from ae_models import checkpoint
from ae_models.host_copies import HostCopy
from ae_models.lightning_module import AutoencoderModule
from ae_models.spec import FitSpec, InputSpec, WeightsSpec
from ae_models.training import train_weights
from ae_models.value_range import allowed_range
from aeops.recipe.reader import read_recipe

RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
WORDS = ("the", "cat", "sat", "on", "a", "mat", "and", "ran")
ROWS, BATCH = 5, 3  # a whole batch and a smaller one: both sizes that a training has
READS = {"aten::_local_scalar_dense", "aten::item", "aten::nonzero", "aten::is_nonzero", "aten::equal"}

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class ReadsOfValues(TorchDispatchMode):
    """Collects the operations that make the host wait for a value of the device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        if name in READS:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def random_samples(input_spec: InputSpec) -> np.ndarray:
    random = np.random.default_rng(0)
    if input_spec.kind == "text":
        texts = [" ".join(random.choice(WORDS, 12)).encode()[: input_spec.shape[0]] for _ in range(ROWS)]
        return np.stack([np.frombuffer(text.ljust(input_spec.shape[0], b"\0"), np.uint8) for text in texts])
    if input_spec.kind == "table":
        return random.integers(0, 2, (ROWS, *input_spec.shape)).astype(np.float64)
    low, high = allowed_range(input_spec)
    values = random.random((ROWS, *input_spec.shape)) * (high - low) + low
    return values.astype(np.uint8 if input_spec.kind == "image" else np.float32)


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_no_step_of_a_recipe_asks_the_device_for_a_value(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = read_recipe(file).fit.weights
    train = dataclasses.replace(spec.train, epochs=1, budget=1.0, batch=BATCH, accelerator="cpu", threads=1)
    samples, reads, steps = random_samples(spec.input), ReadsOfValues(), []
    take_step = AutoencoderModule.train_step

    def watched_step(module: AutoencoderModule, step_of_epoch: int) -> None:
        with reads:
            take_step(module, step_of_epoch)
        steps.append(step_of_epoch)

    monkeypatch.setattr(AutoencoderModule, "train_step", watched_step)
    train_in(tmp_path, dataclasses.replace(spec, train=train), samples)
    assert steps == [0, 1]
    assert reads.found == []


def test_the_search_for_reads_finds_one() -> None:
    with ReadsOfValues() as reads:
        float(torch.ones(()))
    assert reads.found == ["aten::_local_scalar_dense"]


def train_in(folder: Path, spec: WeightsSpec, samples: np.ndarray) -> None:
    places = {"checkpoints": folder / "checkpoints", "training": folder / "training"}
    train_weights(spec, samples, samples[:2], content_sha256="0" * 64, recipe="small", progress_bar=False, **places)


def written_files(folder: Path) -> dict[str, bytes]:
    names = ("weights.safetensors", "history.csv", "trail.csv")
    return {name: (folder / "training" / name).read_bytes() for name in names}


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 3])
def test_steps_are_the_same_however_many_stand_in_one_of_lightnings_batches(
    steps: int,
    ensemble_spec: FitSpec,
    fitted_ensemble: Any,
    fit_into: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(AutoencoderModule, "steps_per_batch", steps)
    fitted = fit_into(ensemble_spec, tmp_path)
    for name in ("weights.safetensors", "history.csv", "trail.csv"):
        assert (fitted.history / name).read_bytes() == (fitted_ensemble.history / name).read_bytes(), name


def test_a_training_that_is_asked_to_end_takes_no_further_step_and_saves_no_part_of_an_epoch(
    spec: FitSpec, digits: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "MIN_SECONDS_BETWEEN", 0.0)
    steps: list[int] = []
    take_step = AutoencoderModule.train_step

    def interrupted_step(module: AutoencoderModule, step_of_epoch: int) -> None:
        take_step(module, step_of_epoch)
        steps.append(step_of_epoch)
        if len(steps) == 7:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(AutoencoderModule, "train_step", interrupted_step)
    with pytest.raises(SystemExit):
        train_in(tmp_path, spec.weights, digits[:320])
    assert steps == [0, 1, 2, 3, 4, 0, 1]
    saved = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["epoch"] == 0
    assert not (tmp_path / "training").exists()


def test_a_checkpoint_is_written_without_asking_for_object_stores(
    spec: FitSpec, digits: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def import_clients(*_: Any) -> None:
        raise AssertionError("Lightning's way to save imports the client of every object store")

    monkeypatch.setattr("lightning_fabric.plugins.io.torch_io._atomic_save", import_clients)
    train_in(tmp_path, spec.weights, digits[:64])
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.slow
def test_what_a_step_reads_and_changes_stays_at_one_address(
    spec: FitSpec, digits: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a captured graph needs it, also in a process that goes on from a checkpoint."""
    monkeypatch.setattr(checkpoint, "MIN_SECONDS_BETWEEN", 0.0)
    addresses: list[dict[str, int]] = []
    take_step = AutoencoderModule.train_step

    def noting_step(module: AutoencoderModule, step_of_epoch: int) -> None:
        if module.steps_done == stop_at:
            raise OSError("stopped")
        take_step(module, step_of_epoch)
        optimizer = module._optimizer
        tensors = dict(module.state_dict(keep_vars=True)) | dict(module.named_buffers())
        tensors["learning rate"] = optimizer.param_groups[0]["lr"]
        for number, state in enumerate(optimizer.state.values()):
            tensors |= {f"{name} {number}": value for name, value in state.items()}
        addresses.append({name: tensor.data_ptr() for name, tensor in tensors.items()})

    monkeypatch.setattr(AutoencoderModule, "train_step", noting_step)
    stop_at = 7
    with pytest.raises(OSError, match="stopped"):
        train_in(tmp_path, spec.weights, digits[:320])
    assert {"loss_sums", "orders", "train_samples", "learning rate", "exp_avg 0"} <= set(addresses[0])
    assert len(addresses) == stop_at
    assert all(places == addresses[0] for places in addresses)
    addresses.clear()
    stop_at = 100
    train_in(tmp_path, spec.weights, digits[:320])
    assert len(addresses) == 15  # of 20 steps, from the checkpoint of the first epoch
    assert all(places == addresses[0] for places in addresses)


def test_figures_on_the_cpu_are_there_at_once() -> None:
    figures = HostCopy({"loss": torch.tensor([1.0, 2.0])})
    assert figures.is_ready
    assert figures.wait()["loss"].tolist() == [1.0, 2.0]


@needs_gpu
@pytest.mark.parametrize("members", [1, 2])
def test_captured_steps_compute_the_bits_of_steps_that_are_not(
    members: int, spec: FitSpec, digits: np.ndarray, tmp_path: Path
) -> None:
    train = dataclasses.replace(spec.train, accelerator="gpu", members=members)
    for capture in ("auto", "never"):
        changed = dataclasses.replace(spec.weights, train=dataclasses.replace(train, capture=capture))
        train_in(tmp_path / capture, changed, digits[:330])  # a last batch of ten
    assert written_files(tmp_path / "auto") == written_files(tmp_path / "never")


@needs_gpu
def test_a_part_that_reads_a_value_is_named_with_what_to_set(
    spec: FitSpec, digits: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ae_models.autoencoder import Autoencoder
    from ae_models.errors import TrainingError

    loss_of = Autoencoder.loss_of

    def reading_loss(self: Autoencoder, inputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        loss: torch.Tensor = loss_of(self, inputs, target)
        return loss * float(loss.detach() > 0)

    monkeypatch.setattr(Autoencoder, "loss_of", reading_loss)
    gpu = dataclasses.replace(spec.weights, train=dataclasses.replace(spec.train, accelerator="gpu"))
    with pytest.raises(TrainingError, match=r"cannot be captured as a CUDA graph: .* set train\.capture: never"):
        train_in(tmp_path, gpu, digits[:320])
