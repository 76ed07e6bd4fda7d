"""Training on two cores by two workers, beside one worker on two cores and on one: `python benchmarks/workers_speed.py`.

All three train the network of recipes/digits.yaml (one member, no augmentation) on the same digits. Measured is the time from the
end of the first epoch to that of the last one; the start of processes and the first epoch are listed alone. Beside seconds of the
clock, which depend on what else the machine does (`load_average`), there are seconds of CPU, of all processes of a training:
their ratio is what sharing a batch costs.
"""

import argparse
import dataclasses
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from benchmark_tools import ROOT, measurement_facts, shuffled_digits

from ae_models.sample_sets import ArraySampleSet
from ae_models.spec import NoAugmentationSpec, WeightsSpec
from ae_models.training import train_autoencoder
from ae_models.training_environment import deterministic_threads, quiet_lightning
from ae_models.training_progress import PROGRESS_FILE
from aeops.files import write_json
from aeops.project import Project
from aeops.recipe.reader import read_recipe

VALIDATION_SAMPLES = 100
_POLL_SECONDS = 0.01
# Name of a setting -> workers, and threads of each.
NAMES = {"one_core": "one worker, 1 thread", "two_cores": "one worker, 2 threads", "two_workers": "two workers, 1 thread each"}
SETTINGS = {"one_core": (1, 1), "two_cores": (1, 2), "two_workers": (2, 1)}


@dataclasses.dataclass(frozen=True)
class Moment:
    """The end of an epoch: the clock, and seconds of CPU of all processes of the training until then."""

    wall: float
    cpu: float


class EpochClock(threading.Thread):
    """Notes when epochs end, by the lines of a training's progress file."""

    def __init__(self, progress: Path, epochs: int) -> None:
        super().__init__(daemon=True)
        self.progress, self.epochs = progress, epochs
        self.ends: list[Moment] = []

    def run(self) -> None:
        while len(self.ends) < self.epochs:
            time.sleep(_POLL_SECONDS)
            lines = self.progress.read_bytes().count(b"\n") if self.progress.is_file() else 0
            self.ends += [Moment(time.perf_counter(), cpu_seconds())] * (lines - len(self.ends))


def cpu_seconds() -> float:
    """Return the seconds of CPU of this process and of those that it has started and that are alive."""
    process = psutil.Process()
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return float(sum(one.user + one.system for one in times))


def train(spec: WeightsSpec, samples: np.ndarray) -> tuple[float, Moment, Moment]:
    """Return when a training began, and the ends of its first and of its last epoch."""
    started_at = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, deterministic_threads(spec.train.threads), quiet_lightning():
        clock = EpochClock(Path(folder) / PROGRESS_FILE, spec.train.total_epochs)
        clock.start()
        validation = ArraySampleSet(samples[:VALIDATION_SAMPLES])
        train_autoencoder(spec, ArraySampleSet(samples), validation, Path(folder), progress_bar=False)
        clock.join()
    return started_at, clock.ends[0], clock.ends[-1]


def measure(spec: WeightsSpec, samples: np.ndarray, batch: int, epochs: int, repeats: int) -> dict[str, dict[str, float]]:
    """Return the figures of each setting: medians over the turns."""
    turns: dict[str, list[dict[str, float]]] = {name: [] for name in SETTINGS}
    for _ in range(repeats):
        for name, (workers, threads) in SETTINGS.items():
            changes = {"devices": workers, "threads": threads, "batch": batch, "epochs": 1 + epochs}
            of_setting = dataclasses.replace(spec, train=dataclasses.replace(spec.train, accelerator="cpu", **changes))
            turns[name].append(figures(*train(of_setting, samples), len(samples) * epochs))
    return {
        name: {figure: round(statistics.median(turn[figure] for turn in of_setting), 2) for figure in of_setting[0]}
        for name, of_setting in turns.items()
    }


def figures(started_at: float, first: Moment, last: Moment, sample_count: int) -> dict[str, float]:
    """Return the speed of a training on so many samples between the ends of two epochs, and what went before."""
    return {
        "samples_per_second": sample_count / (last.wall - first.wall),
        "samples_per_cpu_second": sample_count / (last.cpu - first.cpu),
        "start_and_first_epoch_seconds": first.wall - started_at,
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


def table(record: dict[str, Any]) -> str:
    """Return the table of docs/scale.md."""
    rows = ["| batch | | images/s | images/s of CPU | start and first epoch |", "|---|---|---|---|---|"]
    for batch, of_batch in record["by_batch"].items():
        for name, words in NAMES.items():
            speed = of_batch[name]
            cells = [batch, words, f"{speed['samples_per_second']:,.0f}", f"{speed['samples_per_cpu_second']:,.0f}"]
            rows.append(f"| {' | '.join(cells)} | {speed['start_and_first_epoch_seconds']:.1f} s |")
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON to write; it is printed in any case")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each setting [3]")
    parser.add_argument("--epochs", type=int, default=5, help="epochs that are measured, after a first one [5]")
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
