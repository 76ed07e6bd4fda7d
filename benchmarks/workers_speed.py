"""Training on two cores by two workers, beside one worker on two cores and on one: `python benchmarks/workers_speed.py`.

All three train the network of recipes/digits.yaml (one member, no augmentation) on the same digits. A turn of each trains twice,
the second time for more epochs: the difference is what epochs cost, without the start of processes, which is listed alone.
Beside seconds of the clock, which depend on what else the machine does (`load_average`), there are seconds of CPU, of all
processes of a training: their ratio is what sharing a batch costs.
"""

import argparse
import dataclasses
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_tools import ROOT, measurement_facts, shuffled_digits

from ae_models.sample_sets import ArraySampleSet
from ae_models.spec import NoAugmentationSpec, WeightsSpec
from ae_models.training import train_autoencoder
from ae_models.training_environment import deterministic_threads, quiet_lightning
from aeops.files import write_json
from aeops.project import Project
from aeops.recipe.reader import read_recipe

VALIDATION_SAMPLES = 100
# Name of a setting -> workers, and threads of each.
SETTINGS = {"one_core": (1, 1), "two_cores": (1, 2), "two_workers": (2, 1)}


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a training took: seconds of the clock, and of CPU by this process and those that it waited for."""

    wall: float
    cpu: float

    def minus(self, other: "Cost") -> "Cost":
        return Cost(self.wall - other.wall, self.cpu - other.cpu)


def train(spec: WeightsSpec, samples: np.ndarray) -> Cost:
    started_at, cpu_before = time.perf_counter(), cpu_seconds()
    with tempfile.TemporaryDirectory() as folder, deterministic_threads(spec.train.threads), quiet_lightning():
        validation = ArraySampleSet(samples[:VALIDATION_SAMPLES])
        train_autoencoder(spec, ArraySampleSet(samples), validation, Path(folder), progress_bar=False)
    return Cost(time.perf_counter() - started_at, cpu_seconds() - cpu_before)


def cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure(spec: WeightsSpec, samples: np.ndarray, batch: int, epochs: int, repeats: int) -> dict[str, dict[str, float]]:
    """Return the figures of each setting: medians over the turns."""
    turns: dict[str, list[tuple[Cost, Cost]]] = {name: [] for name in SETTINGS}
    for _ in range(repeats):
        for name, (workers, threads) in SETTINGS.items():
            changes = {"devices": workers, "threads": threads, "batch": batch}
            of_setting = dataclasses.replace(spec.train, accelerator="cpu", **changes)
            short = train(dataclasses.replace(spec, train=dataclasses.replace(of_setting, epochs=1)), samples)
            long = train(dataclasses.replace(spec, train=dataclasses.replace(of_setting, epochs=1 + epochs)), samples)
            turns[name].append((short, long.minus(short)))
    return {name: figures(costs, len(samples) * epochs, epochs) for name, costs in turns.items()}


def figures(costs: Sequence[tuple[Cost, Cost]], sample_count: int, epochs: int) -> dict[str, float]:
    """Return medians over turns, each the cost of one epoch with its start, and that of `epochs` further ones."""
    return {
        "samples_per_second": round(statistics.median(sample_count / further.wall for _, further in costs), 1),
        "samples_per_cpu_second": round(statistics.median(sample_count / further.cpu for _, further in costs), 1),
        "start_seconds": round(statistics.median(short.wall - further.wall / epochs for short, further in costs), 2),
    }


def build_record(measured: dict[str, dict[str, dict[str, float]]], setting: dict[str, Any]) -> dict[str, Any]:
    def ratios(figures_of: dict[str, dict[str, float]], figure: str) -> dict[str, float]:
        two = figures_of["two_workers"][figure]
        return {f"over_{name}": round(two / figures_of[name][figure], 2) for name in ("one_core", "two_cores")}

    facts = measurement_facts(Project(ROOT, ROOT / ".ae"), "python benchmarks/workers_speed.py")
    return facts | {
        "setting": setting,
        "cores": len(os.sched_getaffinity(0)),
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "by_batch": {
            batch: {
                **of_batch,
                "two_workers_wall": ratios(of_batch, "samples_per_second"),
                "two_workers_cpu": ratios(of_batch, "samples_per_cpu_second"),
            }
            for batch, of_batch in measured.items()
        },
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON to write; it is printed in any case")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each setting [3]")
    parser.add_argument("--epochs", type=int, default=5, help="further epochs, whose cost is measured [5]")
    parser.add_argument("--samples", type=int, default=2000, help="digits that are trained on, at most 5000 [2000]")
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 512], help="samples a batch of all workers [64 512]")
    args = parser.parse_args(arguments)
    spec = read_recipe(ROOT / "recipes" / "digits.yaml").fit.weights
    spec = dataclasses.replace(spec, train=dataclasses.replace(spec.train, members=1, augment=NoAugmentationSpec()))
    samples = shuffled_digits()[: args.samples]
    measured = {str(batch): measure(spec, samples, batch, args.epochs, args.repeats) for batch in args.batches}
    setting = {"recipe": "digits", "samples": args.samples, "epochs": args.epochs, "repeats": args.repeats}
    record = build_record(measured, setting)
    if args.out:
        write_json(args.out, record)
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
