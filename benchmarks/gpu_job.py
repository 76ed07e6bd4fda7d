"""All that is to be measured on a GPU, in some ten minutes: `python benchmarks/gpu_job.py --out gpu.json`.

- bits: the tests that compare captured steps with others on this GPU (tests/science/test_training_steps.py).
- speed at several batches: benchmarks/training_speed.py; images/s of the network of the recipe `digits` (a code of 16 numbers)
  by this project with and without CUDA graphs, plain Lightning and bare loops.
- recipe: seconds and metrics of a whole run of one recipe at the budget that it names for a GPU.

Each part is a process of its own with a limit of time, and the file is written anew after each: what was measured before the
time is up stays. A part that fails is in the file with the end of what it said, and the script ends with status 1.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmark_tools import ROOT, measurement_facts

from aeops.files import write_json
from aeops.project import Project

BATCHES = (64, 512, 4096)
SAID_CHARACTERS = 2000  # of what a part that failed said last


def run_part(command: Sequence[str], limit_seconds: float) -> dict[str, Any]:
    """Return the seconds of a command and whether it ended well, else with what it said last."""
    started_at = time.monotonic()
    try:
        done = subprocess.run(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=max(1.0, limit_seconds)
        )
    except subprocess.TimeoutExpired:
        return {"passed": False, "said": f"stopped after {limit_seconds:.0f} s", "command": list(command)}
    part: dict[str, Any] = {"passed": done.returncode == 0, "seconds": round(time.monotonic() - started_at, 1)}
    if not part["passed"]:
        part |= {"said": done.stdout[-SAID_CHARACTERS:], "command": list(command)}
    return part


def measure_speed(args: argparse.Namespace, batch: int, limit_seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "speed.json"
        command = [sys.executable, "benchmarks/training_speed.py", "--device", args.device, "--batch", str(batch)]
        command += [
            "--samples",
            str(args.samples),
            "--epochs",
            str(args.epochs),
            "--repeats",
            str(args.repeats),
            "--out",
            str(out),
        ]
        part = run_part(command, limit_seconds)
        if part["passed"]:
            speed = json.loads(out.read_text(encoding="utf-8"))
            part |= {name: speed[name] for name in ("setting", "samples_per_second", "ratios")}
        return part


def measure_parts(args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each part's name and what was measured, until the time is up."""
    ends_at = time.monotonic() + 60 * args.minutes
    bits = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/science/test_training_steps.py",
        "-k",
        "captured",
    ]
    yield "bits", run_part(bits, ends_at - time.monotonic())
    for batch in args.batches:
        yield f"speed at a batch of {batch}", measure_speed(args, batch, ends_at - time.monotonic())
    if args.recipe:
        accelerator = "gpu" if args.device == "cuda" else "cpu"
        settings = ["--set", f"train.budget={args.budget}", "--set", f"train.accelerator={accelerator}"]
        command = [sys.executable, "-m", "aeops.cli.main", "run", args.recipe, *settings]
        yield f"recipe {args.recipe}", run_part(command, ends_at - time.monotonic()) | {"budget": args.budget}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON to write")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="[cuda]; cpu: to try this script")
    parser.add_argument("--minutes", type=float, default=10.0, help="after which nothing is measured any more [10]")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES, help=f"samples a step [{' '.join(map(str, BATCHES))}]")
    parser.add_argument("--samples", type=int, default=60_000, help="digits that are trained on [60000]")
    parser.add_argument("--epochs", type=int, default=4, help="epochs per turn [4]")
    parser.add_argument("--repeats", type=int, default=3, help="measured turns of each training [3]")
    parser.add_argument("--recipe", default="cifar-colour", help="that is run; empty: none [cifar-colour]")
    parser.add_argument("--budget", type=float, default=3.0, help="its train.budget [3, which cifar-colour names for a GPU]")
    args = parser.parse_args(arguments)
    record = measurement_facts(Project(ROOT, ROOT / ".ae"), "python benchmarks/gpu_job.py") | {"device": args.device}
    passed = True
    for name, part in measure_parts(args):
        record[name] = part
        passed = passed and part["passed"]
        write_json(args.out, record)
        print(json.dumps({name: part}), flush=True)
    if not passed:
        sys.exit(1)


if __name__ == "__main__":
    main()
