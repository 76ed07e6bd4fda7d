"""Seconds to train an ensemble in each way: `python benchmarks/ensemble_speed.py`. The record says why it is done as it is.

Four networks: that of recipes/digits.yaml and a dense one on the same digits, of 4 members each; on one thread, a small dense one
of 8 and of 32 members on 20 random numbers a sample. Each way ends with the same models up to the last bits:

- together: `ae_models.training.train_autoencoder` with `train.members`, as a run calls it.
- one_after_another: the same function once for each seed.
- processes: as many processes as cores, with one thread each, which share the seeds among them; their imports are not counted.

Then one step alone, forward and backward: `loop` computes each member's loss in turn, `stacked` all of them at once by
`ae_models.stacked_members`. A training stacks the members of the small dense network alone, where it is quicker.

The ways take turns; medians over the turns, after one turn unmeasured.
"""

import argparse
import dataclasses
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark_tools import ROOT, measurement_facts, mnist_digits
from torch import Tensor

from ae_models.autoencoder import Autoencoder
from ae_models.ensemble import build_autoencoder
from ae_models.sample_sets import ArraySampleSet
from ae_models.spec import (
    DenseDecoderSpec,
    DenseEncoderSpec,
    IdentityBottleneckSpec,
    InputSpec,
    NoAugmentationSpec,
    WeightsSpec,
)
from ae_models.stacked_members import StackedMembers
from ae_models.training import train_autoencoder
from ae_models.training_environment import deterministic_threads, quiet_lightning
from aeops.files import write_json
from aeops.project import Project
from aeops.recipe.reader import read_recipe

VALIDATION_SAMPLES = 200
SMALL_SHAPE = (1, 4, 5)
STEP_REPEATS = 30  # steps of a turn; single ones are too short to time
Way = Callable[[WeightsSpec, np.ndarray], float]  # seconds
Losses = Callable[[Sequence[Autoencoder], Sequence[Tensor]], Callable[[], Tensor]]


@dataclasses.dataclass(frozen=True)
class Task:
    """A network with its number of members and its samples."""

    spec: WeightsSpec
    samples: np.ndarray


def build_tasks(epochs: int, samples: int) -> dict[str, Task]:
    recipe = read_recipe(ROOT / "recipes" / "digits.yaml").fit.weights
    train = dataclasses.replace(recipe.train, epochs=epochs, augment=NoAugmentationSpec(), members=4)
    conv = dataclasses.replace(recipe, train=train)
    model = dataclasses.replace(conv.model, bottleneck=IdentityBottleneckSpec(16))
    dense = dataclasses.replace(model, encode=DenseEncoderSpec((128,)), decode=DenseDecoderSpec((128,)))
    small = dataclasses.replace(model, encode=DenseEncoderSpec((32, 16)), decode=DenseDecoderSpec((16, 32)))
    images = mnist_digits()[0][:samples]
    numbers = np.random.default_rng(0).integers(0, 256, (samples, *SMALL_SHAPE), dtype=np.uint8)
    small_spec = WeightsSpec(InputSpec(shape=SMALL_SHAPE), small, dataclasses.replace(train, threads=1))
    return {
        "digits_4": Task(conv, images),
        "dense_4": Task(dataclasses.replace(conv, model=dense), images),
        "small_dense_8": Task(with_train(small_spec, members=8), numbers),
        "small_dense_32": Task(with_train(small_spec, members=32), numbers),
    }


def with_train(spec: WeightsSpec, **changes: Any) -> WeightsSpec:
    return dataclasses.replace(spec, train=dataclasses.replace(spec.train, **changes))


# ---------------------------------------------------------------- whole trainings


def train_once(spec: WeightsSpec, samples: np.ndarray) -> None:
    validation = ArraySampleSet(samples[:VALIDATION_SAMPLES])
    with tempfile.TemporaryDirectory() as folder, deterministic_threads(spec.train.threads), quiet_lightning():
        train_autoencoder(spec, ArraySampleSet(samples), validation, Path(folder), progress_bar=False)


def train_together(spec: WeightsSpec, samples: np.ndarray) -> float:
    started_at = time.perf_counter()
    train_once(spec, samples)
    return time.perf_counter() - started_at


def train_one_after_another(spec: WeightsSpec, samples: np.ndarray) -> float:
    started_at = time.perf_counter()
    for index in range(spec.train.members):
        train_once(with_train(spec, members=1, seed=spec.train.seed + index), samples)
    return time.perf_counter() - started_at


def train_share(spec: WeightsSpec, samples: np.ndarray, seeds: Sequence[int], barrier: Barrier) -> None:
    """Train the models of some seeds in this process, after all processes have imported what they need."""
    barrier.wait()
    for seed in seeds:
        train_once(with_train(spec, members=1, seed=seed, threads=1), samples)
    barrier.wait()


def train_in_processes(spec: WeightsSpec, samples: np.ndarray) -> float:
    context = multiprocessing.get_context("spawn")
    count = min(os.cpu_count() or 1, spec.train.members)
    barrier = context.Barrier(count + 1)
    seeds = range(spec.train.seed, spec.train.seed + spec.train.members)
    workers = []
    for number in range(count):
        workers.append(context.Process(target=train_share, args=(spec, samples, seeds[number::count], barrier), daemon=True))
    for worker in workers:
        worker.start()
    barrier.wait()
    started_at = time.perf_counter()
    barrier.wait()
    seconds = time.perf_counter() - started_at
    for worker in workers:
        worker.join()
    return seconds


WAYS: dict[str, Way] = {
    "together": train_together,
    "one_after_another": train_one_after_another,
    "processes": train_in_processes,
}


# ---------------------------------------------------------------- one step


def loop_losses(members: Sequence[Autoencoder], batches: Sequence[Tensor]) -> Callable[[], Tensor]:
    """Return a function that computes each member's loss in turn, (members,)."""
    return lambda: torch.stack([member.loss(x) for member, x in zip(members, batches, strict=True)])


def stacked_losses(members: Sequence[Autoencoder], batches: Sequence[Tensor]) -> Callable[[], Tensor]:
    """Return a function that computes all members' losses at once, (members,), whether or not a training would."""
    stacked = StackedMembers(members)
    inputs, targets = zip(*(member.training_pair(x) for member, x in zip(members, batches, strict=True)), strict=True)
    return lambda: stacked.losses(inputs, targets)


def draw_step(spec: WeightsSpec, samples: np.ndarray) -> tuple[list[Autoencoder], list[Tensor]]:
    """Return the members with fresh weights and a batch of each."""
    members, batches = [], []
    for index in range(spec.train.members):
        member = build_autoencoder(spec.model, spec.input, 1, seed=index)
        rows = np.random.default_rng(index).integers(0, len(samples), spec.train.batch)
        members.append(member)
        batches.append(member.normalise(torch.from_numpy(samples[rows])))
    return members, batches


def time_step(losses: Losses) -> Way:
    """Return a function that measures the seconds of a step, forward and backward."""

    def seconds_per_step(spec: WeightsSpec, samples: np.ndarray) -> float:
        compute_losses = losses(*draw_step(spec, samples))
        with deterministic_threads(spec.train.threads):
            started_at = time.perf_counter()
            for _ in range(STEP_REPEATS):
                compute_losses().sum().backward()  # type: ignore[no-untyped-call]
            return (time.perf_counter() - started_at) / STEP_REPEATS

    return seconds_per_step


STEPS = {"loop": time_step(loop_losses), "stacked": time_step(stacked_losses)}


# ---------------------------------------------------------------- the record


def measure(task: Task, ways: dict[str, Way], repeats: int) -> dict[str, list[float]]:
    """Return the seconds of each measured turn, by way."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            turn_seconds = way(task.spec, task.samples)
            if turn > 0:  # the first turn warms up
                seconds[name].append(turn_seconds)
    return seconds


def summarise(seconds: dict[str, list[float]], reference: str) -> dict[str, Any]:
    """Return the medians, and how many times as long as the reference each other way takes."""
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = {f"{name}_over_{reference}": round(medians[name] / medians[reference], 2) for name in medians if name != reference}
    return {"seconds": {name: round(value, 4) for name, value in medians.items()}, "ratios": ratios}


def build_record(tasks: dict[str, Task], ways: dict[str, Way], repeats: int) -> dict[str, Any]:
    facts = measurement_facts(Project(ROOT, ROOT / ".ae"), "python benchmarks/ensemble_speed.py")
    record: dict[str, Any] = {**facts, "repeats": repeats, "networks": {}}
    for name, task in tasks.items():
        train = task.spec.train
        record["networks"][name] = {
            "setting": {"members": train.members, "samples": len(task.samples), "epochs": train.epochs, "batch": train.batch},
            "threads": train.threads,
            "training": summarise(measure(task, ways, repeats), "together"),
            "step": summarise(measure(task, STEPS, repeats), "loop"),
        }
    return record


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON to write; it is printed in any case")
    parser.add_argument("--repeats", type=int, default=3, help="measured turns of each way [3]")
    parser.add_argument("--epochs", type=int, default=2, help="epochs per turn [2]")
    parser.add_argument("--samples", type=int, default=2500, help="samples that are trained on, at most 5000 [2500]")
    parser.add_argument("--networks", nargs="+", metavar="NETWORK", help="some of them alone [all]")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), metavar="WAY", help="with together [all]")
    args = parser.parse_args(arguments)
    tasks = build_tasks(args.epochs, args.samples)
    chosen_tasks = {name: tasks[name] for name in args.networks or tasks}
    chosen_ways = {name: way for name, way in WAYS.items() if name in {"together", *args.ways}}
    record = build_record(chosen_tasks, chosen_ways, args.repeats)
    if args.out:
        write_json(args.out, record)
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
