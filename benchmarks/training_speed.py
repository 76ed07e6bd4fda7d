"""Training samples/s of this project beside plain Lightning and bare PyTorch loops: `python benchmarks/training_speed.py`.

All train the network of recipes/digits.yaml, a single one, with the same batch on the same digits, on the same device, with the
same number of threads, without augmentation. What differs is what each is about:

- ours: `ae_models.training.train_autoencoder` as a run calls it, set-up, validation, progress file and checkpoints included;
  uint8 samples on the device, channels_last, fused Adam, deterministic; on a GPU, its steps are CUDA graphs.
- uncaptured (on a GPU): the same without graphs.
- lightning: a Trainer and a module as the manuals write them, with Lightning's own defaults (progress bar, CSV logger,
  a checkpoint an epoch); DataLoader(TensorDataset of float32, shuffle) with its collate, plain Adam, the loss logged.
- loop: a bare PyTorch loop on what ours computes with: uint8 samples, batches by index, channels_last, fused Adam. No
  schedule, no validation, no checkpoint.
- captured loop (on a GPU): that loop, its step one CUDA graph; a smaller last batch is left out.

They take turns; medians over the turns, after one turn unmeasured. On a GPU: `--device cuda --batch 512 --samples 60000`, or all
that is to be measured there by benchmarks/gpu_job.py.
"""

import argparse
import contextlib
import dataclasses
import io
import json
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
        on_gpu = self.device.type == "cuda"
        rate = spec.train.learning_rate
        self.optimizer = torch.optim.Adam(self.autoencoder.parameters(), lr=rate, fused=True, capturable=on_gpu)
        self.data = torch.from_numpy(samples).to(self.device)

    def orders(self, spec: FitSpec) -> Iterator[tuple[Tensor, ...]]:
        """Yield the batches of each epoch, by the indices of their samples."""
        for _ in range(spec.train.epochs):
            yield torch.split(torch.randperm(len(self.data), device=self.device), spec.train.batch)

    def take(self, batch: Tensor) -> None:
        x = (self.data[batch].float() / 255).contiguous(memory_format=torch.channels_last)
        loss = F.mse_loss(self.autoencoder.decode(self.autoencoder.encode(x)), x)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()


def train_loop(spec: FitSpec, samples: np.ndarray) -> None:
    step = LoopStep(spec, samples)
    for batches in step.orders(spec):
        for batch in batches:
            step.take(batch)


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
                indices.copy_(batch)
                graph.replay()


Training = Callable[[FitSpec, np.ndarray], None]
TRAININGS: dict[str, Training] = {"ours": train_ours, "lightning": train_lightning, "loop": train_loop}
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
        "ratios": {f"ours_over_{name}": round(medians["ours"] / median, 2) for name, median in medians.items() if name != "ours"},
    }


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
