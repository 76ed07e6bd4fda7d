"""Training samples/s of this project beside plain Lightning and a bare PyTorch loop: `python benchmarks/training_speed.py`.

All three train the network of recipes/digits.yaml with its batch on the same 5,000 digits, on the same device, with the
same number of threads, without augmentation. What differs is what each is about:

- ours: `ae_models.training.train_autoencoder` as a run calls it, set-up, validation, progress file and checkpoints included;
  uint8 samples on the device, batches by index, channels_last, fused Adam, deterministic.
- lightning: a Trainer and a module as the manuals write them, with Lightning's own defaults (progress bar, CSV logger,
  a checkpoint an epoch); DataLoader(TensorDataset of float32, shuffle) with its collate, plain Adam, the loss logged.
- loop: a bare PyTorch loop on what ours computes with: uint8 samples, batches by index, channels_last, fused Adam. No
  schedule, no validation, no checkpoint.

The three take turns; medians over the turns, after one turn unmeasured.
"""

import argparse
import contextlib
import dataclasses
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
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
        trainer = pl.Trainer(max_epochs=spec.train.epochs, default_root_dir=folder)
        trainer.fit(PlainModule(Autoencoder(spec.model, spec.input), spec.train.learning_rate), loader)


def train_loop(spec: FitSpec, samples: np.ndarray) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    autoencoder = Autoencoder(spec.model, spec.input).to(device)
    autoencoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(autoencoder.parameters(), lr=spec.train.learning_rate, fused=True)
    data = torch.from_numpy(samples).to(device)
    for _ in range(spec.train.epochs):
        for batch in torch.split(torch.randperm(len(data)), spec.train.batch):
            x = (data[batch].float() / 255).contiguous(memory_format=torch.channels_last)
            loss = F.mse_loss(autoencoder.decode(autoencoder.encode(x)), x)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()


TRAININGS: dict[str, Callable[[FitSpec, np.ndarray], None]] = {
    "ours": train_ours,
    "lightning": train_lightning,
    "loop": train_loop,
}


def measure(spec: FitSpec, samples: np.ndarray, repeats: int) -> dict[str, list[float]]:
    """Return the samples per second of each measured turn, by training."""
    speeds: dict[str, list[float]] = {name: [] for name in TRAININGS}
    for turn in range(repeats + 1):
        for name, train in TRAININGS.items():
            torch.use_deterministic_algorithms(False)
            started_at = time.perf_counter()
            train(spec, samples)
            if turn > 0:  # the first turn warms up
                speeds[name].append(len(samples) * spec.train.epochs / (time.perf_counter() - started_at))
    return speeds


def build_record(speeds: dict[str, list[float]], spec: FitSpec, sample_count: int) -> dict[str, Any]:
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    machine = {
        "torch_threads": torch.get_num_threads(),
        "lightning": version("pytorch-lightning"),
    }
    facts = measurement_facts(Project(ROOT, ROOT / ".ae"), "python benchmarks/training_speed.py")
    return {
        **facts,
        "machine": facts["machine"] | machine,
        "setting": {"recipe": "digits", "samples": sample_count, "epochs": spec.train.epochs, "batch": spec.train.batch},
        "samples_per_second": {name: round(value) for name, value in medians.items()},
        "every_turn": {name: [round(value) for value in values] for name, values in speeds.items()},
        "ratios": {f"ours_over_{name}": round(medians["ours"] / medians[name], 2) for name in ("lightning", "loop")},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON to write; it is printed in any case")
    parser.add_argument("--repeats", type=int, default=5, help="measured turns of each training [5]")
    parser.add_argument("--epochs", type=int, default=4, help="epochs per turn [4]")
    parser.add_argument("--samples", type=int, default=5000, help="digits that are trained on, at most 5000 [5000]")
    args = parser.parse_args(arguments)
    spec = read_recipe(ROOT / "recipes" / "digits.yaml").fit
    spec = dataclasses.replace(spec, train=dataclasses.replace(spec.train, epochs=args.epochs, augment=NoAugmentationSpec()))
    samples = mnist_digits()[0][: args.samples]
    with deterministic_threads(spec.train.threads), quiet_lightning():
        record = build_record(measure(spec, samples, args.repeats), spec, len(samples))
    if args.out:
        write_json(args.out, record)
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
