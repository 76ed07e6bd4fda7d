"""How fast an inbox is scored: `python benchmarks/batch_scoring.py` writes its record and the table of docs/scoring.md.

A model of the recipe `digits` is champion of a scratch project; what it has learnt changes no speed. 100,000 digits lie in its
inbox (the 5,000 real ones twenty times, each time with another value in a corner, so that no two samples are the same), and
`ae score digits --inbox` is timed as a person types it, page and all: once as ten files, once as a single one. Beside that stands
the same model, called by bare onnxruntime on the same samples in memory.
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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_tools import RECORDS, ROOT, measurement_facts, mnist_digits, replace_section, save_record
from served_champion import TRAINED_HELP, scratch_project, server_environment, trained_bundle

from ae_models.onnx_runtime import onnxruntime
from aeops.machine.stored_json import read_json
from aeops.project import Project

RECORD, DOCS = RECORDS / "batch_scoring.json", ROOT / "docs" / "scoring.md"
BEGIN, END = "<!-- record -->", "<!-- record: end -->"
FILE_COUNTS = {"ten_files": 10, "one_file": 1}
DIGITS, REPEATS, BLOCK = 100_000, 3, 1024
TARGET = 60  # seconds, in the slower of the two cases
PEAK = re.compile(r"peak (\d+)")
# A process of its own, so that the peak is of the scoring alone.
TIMED = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); \
print('peak', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"


def distinct_digits(count: int) -> np.ndarray:
    """Return uint8 (count, 28, 28), no two of them the same."""
    real = mnist_digits()[0][:, 0]
    indices = np.arange(count)
    samples = real[indices % len(real)]
    samples[:, 0, 0] = indices // len(real)  # a corner that all of them leave black
    return samples


def score_inbox(project: Project, samples: np.ndarray, file_count: int) -> dict[str, Any]:
    """Time `ae score` over an inbox of so many files.

    Returns:
        Seconds, digits per second and peak memory in MiB.
    """
    for name in ("inbox", "scoring", "predictions"):
        shutil.rmtree(project.home / name, ignore_errors=True)
    inbox = project.home / "inbox" / "digits"
    inbox.mkdir(parents=True)
    for number, part in enumerate(np.array_split(samples, file_count)):
        np.save(inbox / f"{number}.npy", part)
        os.utime(inbox / f"{number}.npy", (0, 0))  # a fresh file may still be being written and is left for later
    command = [sys.executable, "-c", TIMED, sys.executable, "-m", "aeops.cli.main", "score", "digits", "--inbox", "--json"]
    started_at = time.perf_counter()
    done = subprocess.run(command, cwd=project.root, env=server_environment(), check=True, stdout=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - started_at
    end_of_json = done.stdout.rindex("}") + 1
    reply = json.loads(done.stdout[:end_of_json])
    assert reply["samples"] == len(samples), reply["says"]
    [peak] = PEAK.findall(done.stdout[end_of_json:])
    return {"seconds": seconds, "digits_per_second": len(samples) / seconds, "peak_mib": int(peak) / 1024}


def bare_seconds(model: Path, samples: np.ndarray) -> float:
    """Return the seconds that onnxruntime alone takes for the same outputs, block by block, the samples in memory."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    names = ["score", "p_value", "is_anomaly", "code"]
    session.run(names, {"input": samples[:BLOCK, None].astype(np.float32)})
    started_at = time.perf_counter()
    for first in range(0, len(samples), BLOCK):
        session.run(names, {"input": samples[first : first + BLOCK, None].astype(np.float32)})
    return time.perf_counter() - started_at


def measure(digit_count: int, repeats: int, trained: Path | None) -> dict[str, Any]:
    """Return the medians over turns in which both cases and bare onnxruntime are measured."""
    samples = distinct_digits(digit_count)
    turns: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="ae-bench-") as folder:
        scratch = Path(folder)
        bundle, description = trained_bundle(trained, scratch)
        project = scratch_project(scratch / "project", bundle)
        for _ in range(repeats):
            turn: dict[str, Any] = {name: score_inbox(project, samples, count) for name, count in FILE_COUNTS.items()}
            turns.append(turn | {"bare": bare_seconds(bundle / "model.onnx", samples)})
    cases: dict[str, dict[str, float]] = {}
    shares: dict[str, float] = {}
    for name in FILE_COUNTS:
        cases[name] = {key: round(statistics.median(turn[name][key] for turn in turns), 1) for key in turns[0][name]}
        shares[name] = round(statistics.median(turn["bare"] / turn[name]["seconds"] for turn in turns), 2)
    return {
        "digits": digit_count,
        "model": description,
        "ways": cases,
        "bare_onnxruntime_seconds": round(statistics.median(turn["bare"] for turn in turns), 1),
        "share_of_bare_speed": shares,
    }


def summarize(record: dict[str, Any]) -> str:
    """Return the table of docs/scoring.md."""
    lines = ["| | seconds | digits a second | memory | of bare speed |", "|---|---|---|---|---|"]
    for name, result in record["ways"].items():
        figures = [f"{result['seconds']:.1f} s", f"{result['digits_per_second']:,.0f}", f"{result['peak_mib']:.0f} MiB"]
        cells = [name.replace("_", " "), *figures, f"{record['share_of_bare_speed'][name]:.0%}"]
        lines.append(f"| {' | '.join(cells)} |")
    seconds = record["bare_onnxruntime_seconds"]
    speed = f"{record['digits'] / seconds:,.0f}" if seconds else ""
    lines.append(f"| bare onnxruntime | {seconds:.1f} s | {speed} | | |")
    machine = record["machine"]
    slowest = max(result["seconds"] for result in record["ways"].values())
    verdict = "met" if slowest < TARGET else "**missed**"
    summary = f"On {machine['platform.threads']} cores of {machine['platform.cpu']}. Target: under {TARGET} s: {verdict}."
    return "\n".join([*lines, "", summary])


def update_page(text: str, record: dict[str, Any]) -> str:
    """Return docs/scoring.md with the table of the record."""
    return replace_section(text, BEGIN, END, summarize(record), DOCS.name)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--digits", type=int, default=DIGITS, help=f"in the inbox [{DIGITS}]")
    parser.add_argument("--repeats", type=int, default=REPEATS, help=f"turns of each case [{REPEATS}]")
    parser.add_argument("--trained", type=Path, metavar="FOLDER", help=TRAINED_HELP)
    parser.add_argument(
        "--out", type=Path, default=RECORD, help="JSON to write; docs/scoring.md quotes the default [%(default)s]"
    )
    parser.add_argument("--docs-only", action="store_true", help="only write docs/scoring.md, from the record")
    args = parser.parse_args(arguments)
    if not args.docs_only:
        facts = measurement_facts(Project(ROOT, ROOT / ".ae"), "python benchmarks/batch_scoring.py")
        record = facts | measure(args.digits, args.repeats, args.trained)
        save_record(args.out, record)
        print(json.dumps(record, indent=2))
    if args.out == RECORD:
        DOCS.write_text(update_page(DOCS.read_text(encoding="utf-8"), read_json(RECORD)), encoding="utf-8")


if __name__ == "__main__":
    main()
