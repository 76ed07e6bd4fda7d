"""Training samples/s of this project beside plain Lightning and bare PyTorch loops: `python benchmarks/training_speed.py`.

All train the network of recipes/digits.yaml, a single one, with the same batch on the same digits, on the same device, with the
same number of threads, without augmentation. What differs is what each is about:

- ours: `ae_models.training.train_autoencoder` as a run calls it, set-up, validation, progress file and checkpoints included;
  uint8 samples on the device, channels_last, fused Adam, deterministic; on a GPU, its steps are CUDA graphs.
- steps: those of ours by Lightning's Trainer, without validation, progress file, log of hashes and checkpoints.
- uncaptured (on a GPU): the same without graphs.
- lightning: a Trainer and a module as the manuals write them, with Lightning's own defaults (progress bar, CSV logger,
  a checkpoint an epoch); DataLoader(TensorDataset of float32, shuffle) with its collate, plain Adam, the loss logged.
- loop: a bare PyTorch loop on what ours computes with: uint8 samples, batches by index, channels_last, fused Adam, the same
  learning rates. No validation, no checkpoint. Without the learning rates it learns only the mean image, and a step of such a
  network takes some 0.3 ms less of 5.5 (one thread), so that it would be no measure of steps that learn.
- validating loop: that loop, which does the same validation after each epoch and keeps the weights that were best in memory.
- captured loop (on a GPU): that loop, its step one CUDA graph; a smaller last batch is left out.

`ours_over_loop` compares whole trainings with bare steps, `steps_over_loop` steps with steps, and `ours_over_validating_loop`
trainings with trainings. They take turns; medians over the turns, after one turn unmeasured. On a GPU:
`--device cuda --batch 512 --samples 60000`, or all that is to be measured there by benchmarks/gpu_job.py.
"""

import argparse
import contextlib
import copy
import dataclasses
import io
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from benchmark_tools import ROOT, measurement_facts, mnist_digits
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from ae_models.autoencoder import Autoencoder
from ae_models.ensemble import build_autoencoder
from ae_models.lightning_module import AutoencoderModule
from ae_models.optimisation import learning_rate_at, make_optimizer
from ae_models.sample_sets import ArraySampleSet
from ae_models.spec import FitSpec, NoAugmentationSpec
from ae_models.training import train_autoencoder
from ae_models.training_environment import deterministic_threads, quiet_lightning
from aeops.files import write_json
from aeops.project import Project
from aeops.recipe.reader import read_recipe

VALIDATION_SAMPLES = 200


class PlainModule(pl.LightningModule):
    """The same network with plain squared error, as Lightning's manual would have a user write it."""

    def __init__(self, autoencoder: Autoencoder, learning_rate: float) -> None:
        super().__init__()
        self.autoencoder, self.learning_rate = autoencoder, learning_rate

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        (x,) = batch
        loss = F.mse_loss(self.autoencoder.decode(self.autoencoder.encode(x)), x)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate)


def train_ours(spec: FitSpec, samples: np.ndarray) -> None:
    with tempfile.TemporaryDirectory() as folder:
        validation = ArraySampleSet(samples[:VALIDATION_SAMPLES])
        train_autoencoder(spec.weights, ArraySampleSet(samples), validation, Path(folder), progress_bar=False)


def train_lightning(spec: FitSpec, samples: np.ndarray) -> None:
    x = torch.from_numpy(samples.astype(np.float32) / 255)
    loader = DataLoader(TensorDataset(x), batch_size=spec.train.batch, shuffle=True)
    # The progress bar is drawn, but into a string: this script prints JSON alone.
    hidden = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(hidden), contextlib.redirect_stderr(hidden):
        trainer = pl.Trainer(max_epochs=spec.train.epochs, default_root_dir=folder, accelerator=spec.train.accelerator, devices=1)
        trainer.fit(PlainModule(Autoencoder(spec.model, spec.input), spec.train.learning_rate), loader)


def train_steps(spec: FitSpec, samples: np.ndarray) -> None:
    autoencoder = build_autoencoder(spec.model, spec.input, spec.train.members, seed=spec.train.seed)
    sample_set = ArraySampleSet(samples)
    module = AutoencoderModule(autoencoder, spec.train, sample_set, ArraySampleSet(samples[:VALIDATION_SAMPLES]), resident=True)
    trainer = pl.Trainer(
        max_epochs=spec.train.epochs,
        accelerator=spec.train.accelerator,
        devices=1,
        deterministic=True,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    trainer.fit(module)


def train_uncaptured(spec: FitSpec, samples: np.ndarray) -> None:
    train_ours(dataclasses.replace(spec, train=dataclasses.replace(spec.train, capture="never")), samples)


class LoopStep:
    """A step of the bare loop: what it needs, made once.

    Args:
        spec: of the training.
        samples: (n, 1, 28, 28) uint8.
    """

    def __init__(self, spec: FitSpec, samples: np.ndarray) -> None:
        self.device = torch.device("cpu" if spec.train.accelerator == "cpu" else "cuda")
        self.autoencoder = Autoencoder(spec.model, spec.input).to(self.device)
        self.autoencoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = make_optimizer(self.autoencoder.parameters(), self.device)
        self.learning_rate: Tensor = self.optimizer.param_groups[0]["lr"]
        self.peak, self.total_steps = spec.train.learning_rate, spec.train.epochs * math.ceil(len(samples) / spec.train.batch)
        self.data = torch.from_numpy(samples).to(self.device)
        self.steps_done = 0
        self.best_weights: dict[str, Tensor] = {}

    def orders(self, spec: FitSpec) -> Iterator[tuple[Tensor, ...]]:
        """Yield the batches of each epoch, by the indices of their samples."""
        for _ in range(spec.train.epochs):
            yield torch.split(torch.randperm(len(self.data), device=self.device), spec.train.batch)

    def set_rate(self) -> None:
        """Set the learning rate of the next step."""
        self.learning_rate.fill_(learning_rate_at(self.peak, self.steps_done, self.total_steps))
        self.steps_done += 1

    def take(self, batch: Tensor) -> None:
        x = (self.data[batch].float() / 255).contiguous(memory_format=torch.channels_last)
        loss = F.mse_loss(self.autoencoder.decode(self.autoencoder.encode(x)), x)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    @torch.no_grad()
    def validation_error(self) -> float:
        x = self.data[:VALIDATION_SAMPLES].float() / 255
        y = self.autoencoder.decode(self.autoencoder.encode(x)).clamp(0.0, 1.0)
        return float(F.mse_loss(y, x))


def train_loop(spec: FitSpec, samples: np.ndarray) -> None:
    step = LoopStep(spec, samples)
    for batches in step.orders(spec):
        for batch in batches:
            step.set_rate()
            step.take(batch)


def train_validating_loop(spec: FitSpec, samples: np.ndarray) -> None:
    step = LoopStep(spec, samples)
    least_error = math.inf
    for batches in step.orders(spec):
        for batch in batches:
            step.set_rate()
            step.take(batch)
        error = step.validation_error()
        if error < least_error:
            least_error = error
            step.best_weights = copy.deepcopy(step.autoencoder.state_dict())


def train_captured_loop(spec: FitSpec, samples: np.ndarray) -> None:
    step = LoopStep(spec, samples)
    indices = torch.zeros(spec.train.batch, dtype=torch.int64, device=step.device)
    beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(3):
            step.take(indices)
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step.take(indices)
    for batches in step.orders(spec):
        for batch in batches:
            if len(batch) == len(indices):
                step.set_rate()
                indices.copy_(batch)
                graph.replay()


Training = Callable[[FitSpec, np.ndarray], None]
TRAININGS: dict[str, Training] = {
    "ours": train_ours,
    "steps": train_steps,
    "lightning": train_lightning,
    "loop": train_loop,
    "validating loop": train_validating_loop,
}
ON_GPU: dict[str, Training] = TRAININGS | {"uncaptured": train_uncaptured, "captured loop": train_captured_loop}


def measure(spec: FitSpec, samples: np.ndarray, repeats: int) -> dict[str, list[float]]:
    """Return the samples per second of each measured turn, by training."""
    on_gpu = spec.train.accelerator == "gpu"
    trainings = ON_GPU if on_gpu else TRAININGS
    speeds: dict[str, list[float]] = {name: [] for name in trainings}
    for turn in range(repeats + 1):
        for name, train in trainings.items():
            torch.use_deterministic_algorithms(False)
            started_at = time.perf_counter()
            train(spec, samples)
            if on_gpu:
                torch.cuda.synchronize()
            if turn > 0:  # the first turn warms up
                speeds[name].append(len(samples) * spec.train.epochs / (time.perf_counter() - started_at))
    return speeds


def build_record(speeds: dict[str, list[float]], spec: FitSpec, sample_count: int) -> dict[str, Any]:
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    machine = {
        "torch_threads": torch.get_num_threads(),
        "lightning": version("pytorch-lightning"),
        "device": torch.cuda.get_device_name() if spec.train.accelerator == "gpu" else "cpu",
    }
    facts = measurement_facts(Project(ROOT, ROOT / ".ae"), "python benchmarks/training_speed.py")
    return {
        **facts,
        "machine": facts["machine"] | machine,
        "setting": {"recipe": "digits", "samples": sample_count, "epochs": spec.train.epochs, "batch": spec.train.batch},
        "samples_per_second": {name: round(value) for name, value in medians.items()},
        "every_turn": {name: [round(value) for value in values] for name, values in speeds.items()},
        "ratios": compare_medians(medians),
    }


def compare_medians(medians: dict[str, float]) -> dict[str, float]:
    """Return the ratios of samples per second: of ours over each other training, and of the steps alone over the loop."""
    ratios = {}
    for name, median in medians.items():
        if name not in ("ours", "steps"):
            ratios["ours_over_" + name.replace(" ", "_")] = round(medians["ours"] / median, 2)
    return ratios | {"steps_over_loop": round(medians["steps"] / medians["loop"], 2)}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON to write; it is printed in any case")
    parser.add_argument("--repeats", type=int, default=5, help="measured turns of each training [5]")
    parser.add_argument("--epochs", type=int, default=8, help="epochs per turn, of which a run has 50 [8]")
    parser.add_argument("--samples", type=int, default=5000, help="digits that are trained on, repeated beyond 5000 [5000]")
    parser.add_argument("--batch", type=int, help="samples a step [that of the recipe]")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where all are trained [cpu]")
    args = parser.parse_args(arguments)
    spec = read_recipe(ROOT / "recipes" / "digits.yaml").fit
    changes = {
        "epochs": args.epochs,
        "members": 1,
        "augment": NoAugmentationSpec(),
        "batch": args.batch or spec.train.batch,
        "accelerator": "gpu" if args.device == "cuda" else "cpu",
    }
    spec = dataclasses.replace(spec, train=dataclasses.replace(spec.train, **changes))
    digits = mnist_digits()[0]
    samples = digits[np.arange(args.samples) % len(digits)]
    with deterministic_threads(spec.train.threads), quiet_lightning():
        record = build_record(measure(spec, samples, args.repeats), spec, len(samples))
    if args.out:
        write_json(args.out, record)
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
