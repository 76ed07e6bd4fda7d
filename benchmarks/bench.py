"""`make bench`: how fast the pipeline is, on a fresh clone of HEAD. Writes benchmarks/records/pipeline.json.

Wall-clock seconds depend on the machine, so the record names it; training speed is recorded as ratios against a plain
Lightning training and a bare PyTorch loop on the same network, batch and machine (benchmarks/training_speed.py). Everything
is measured on the code of HEAD, whose commit the record names; it also says whether the working tree had other changes, which
were not measured.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark_tools import RECORDS, clean_environment, clone_head, measurement_facts, save_record

from aeops.project import find_project

ENVIRONMENT, FIRST_RUN, SECOND_RUN = "environment_ready", "first_run", "second_run_nothing_changed"
HELP, TRAINING_SPEED = "help", "training_speed"
PARTS = (ENVIRONMENT, FIRST_RUN, SECOND_RUN, HELP, TRAINING_SPEED)  # in the order in which a newcomer meets them


@dataclass(frozen=True)
class Clone:
    """A fresh clone of HEAD and its interpreter: its own one once `make env` ran there, else the one that runs this script."""

    root: Path

    def python(self) -> str:
        own = self.root / ".venv" / "bin" / "python"
        return str(own) if own.exists() else sys.executable

    def ae(self) -> list[str]:
        own = self.root / ".venv" / "bin" / "ae"
        return [str(own)] if own.exists() else [sys.executable, "-m", "aeops.cli.main"]

    def time(self, command: list[str]) -> float:
        """Return the seconds that a command takes in the clone."""
        # An interpreter from outside has the original checkout installed: the clone's code goes first.
        environment = clean_environment(PYTHONPATH=str(self.root))
        started_at = time.monotonic()
        subprocess.run(command, cwd=self.root, env=environment, check=True, stdout=subprocess.DEVNULL)
        return time.monotonic() - started_at


def pipeline_seconds(clone: Clone, parts: Sequence[str], help_runs: int) -> dict[str, float]:
    """Return the seconds of each chosen part that a newcomer waits for."""
    seconds: dict[str, float] = {}
    if ENVIRONMENT in parts:
        seconds[ENVIRONMENT] = clone.time(["make", "env"])
    for part in (FIRST_RUN, SECOND_RUN):
        if part in parts:
            seconds[part] = clone.time([*clone.ae(), "run", "digits"])
    if HELP in parts:
        seconds[HELP] = statistics.median(clone.time([*clone.ae(), "--help"]) for _ in range(help_runs))
    return {part: round(value, 2) for part, value in seconds.items()}


def training_speed(clone: Clone, settings: list[str]) -> dict[str, Any]:
    """Return the record of benchmarks/training_speed.py, run in the clone with these settings."""
    with tempfile.TemporaryDirectory(prefix="ae-bench-") as folder:
        out = Path(folder) / "speed.json"
        command = [clone.python(), "benchmarks/training_speed.py", "--out", str(out), *settings]
        clone.time(command)
        return dict(json.loads(out.read_text(encoding="utf-8")))


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Return the record of the chosen parts, measured in a clone of HEAD."""
    project = find_project()
    record = measurement_facts(project, "make bench")
    with tempfile.TemporaryDirectory(prefix="ae-bench-") as folder:
        clone = Clone(Path(folder) / "clone")
        clone_head(project, clone.root)
        record["seconds"] = pipeline_seconds(clone, args.parts, args.help_runs)
        if TRAINING_SPEED in args.parts:
            settings = [f"--repeats={args.repeats}", f"--epochs={args.epochs}", f"--samples={args.samples}"]
            record[TRAINING_SPEED] = training_speed(clone, settings)
    return record


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=f"of {', '.join(PARTS)} [all]")
    parser.add_argument("--help-runs", type=int, default=7, help="runs of `ae --help` [7]")
    parser.add_argument("--repeats", type=int, default=5, help="measured turns of each training [5]")
    parser.add_argument("--epochs", type=int, default=8, help="epochs per turn of a training [8]")
    parser.add_argument("--samples", type=int, default=5000, help="digits per epoch of a training [5000]")
    parser.add_argument("--out", type=Path, default=RECORDS / "pipeline.json", help="JSON to write [%(default)s]")
    args = parser.parse_args(arguments)
    if SECOND_RUN in args.parts and FIRST_RUN not in args.parts:
        parser.error(f"--parts {SECOND_RUN} needs {FIRST_RUN} as well")
    record = measure(args)
    save_record(args.out, record)
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
