"""How fast a folder of small PNGs becomes a dataset: `python benchmarks/ingest_speed.py` writes benchmarks/records/ingest.json.

Real digits, each a PNG of its own with another value in a corner, are ingested by the recipe that `ae new` proposes for their
folder: decoded, measured, hashed, indexed and written as shards. Beside that, two processes decode the same files with Pillow and
do nothing else. Both begin with the libraries imported and the files in the page cache. They take turns, and the smallest of some
times counts: seconds of the clock, and those of all processes' CPU time, which others on the machine change less.
"""

import argparse
import io
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import chdir, redirect_stdout
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from benchmark_tools import RECORDS, ROOT, measurement_facts, mnist_digits, save_record
from PIL import Image

from aeops.cli.main import main as ae
from aeops.data.dataset import read_index
from aeops.machine.garbage_collection import collect_rarely
from aeops.project import Project, find_project
from aeops.recipe.reader import load_recipe
from aeops.stages.ingest import ingest

RECORD = RECORDS / "ingest.json"
FILES, REPEATS, PROCESSES = 60_000, 3, 2
TARGET = 1.3  # times what Pillow alone takes
EACH_FOLDER = 10_000


def write_digits(folder: Path, count: int, first: int = 0) -> None:
    """Write so many PNGs of 28 x 28 pixels in sub-folders, no two of them the same; those before `first` are there."""
    real = mnist_digits()[0][:, 0]
    for number in range(first, count):
        pixels = real[number % len(real)].copy()
        pixels[0, :2] = divmod(number // len(real) + 1, 256)
        path = folder / f"{number // EACH_FOLDER:03d}" / f"{number:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def decode(paths: Sequence[str]) -> int:
    """Decode files with Pillow; return the number of pixels."""
    pixels = 0
    for path in paths:
        with Image.open(path) as image:
            pixels += np.asarray(image).size
    return pixels


class Seconds(NamedTuple):
    """What something took: seconds of the clock, and of the CPU time of this process and of those that it started."""

    wall: float
    cpu: float


def cpu_seconds() -> float:
    """Return the CPU time of this process and of those that it started and that have ended."""
    return sum(os.times()[:4])


def pillow_seconds(paths: Sequence[str]) -> Seconds:
    """Return what two processes take to decode the files; on the clock, starting them does not count."""
    parts, cpu_before = [paths[start : start + 500] for start in range(0, len(paths), 500)], cpu_seconds()
    with get_context("fork").Pool(PROCESSES) as pool:
        pool.map(decode, [paths[:1]] * PROCESSES)
        started_at = time.perf_counter()
        pixels = sum(pool.map(decode, parts, chunksize=1))
        wall = time.perf_counter() - started_at
    assert pixels == 28 * 28 * len(paths)
    return Seconds(wall, cpu_seconds() - cpu_before)


def timed(step: Callable[[], object]) -> Seconds:
    """Return what a step takes."""
    started_at, cpu_before = time.perf_counter(), cpu_seconds()
    step()
    return Seconds(time.perf_counter() - started_at, cpu_seconds() - cpu_before)


def smallest(measurements: Sequence[Seconds]) -> Seconds:
    """Return the smallest times of some measurements."""
    walls, cpus = zip(*measurements, strict=True)
    return Seconds(min(walls), min(cpus))


def measure(root: Path, count: int, repeats: int) -> dict[str, Any]:
    """Ingest `count` files and decode them with Pillow alone.

    Returns:
        Seconds of both, of the clock and of the CPU, files a second, and the ratios.
    """
    project = Project(root, root / ".ae")
    (root / "recipes").mkdir()
    shutil.copy(ROOT / "dvc.yaml", root)
    write_digits(root / "digits", count)
    with chdir(root), redirect_stdout(io.StringIO()):
        code = ae(["new", "digits", "--from", "digits", "--yes", "--labels", "none"])
    assert code == 0, "ae new has refused the folder"
    recipe, incoming = load_recipe(project, "digits"), project.incoming("digits")

    paths = sorted(str(path) for path in (root / "digits").rglob("*.png"))
    ours, pillow = [], []
    for _ in range(repeats):
        ours.append(timed(lambda: ingest(recipe, project, incoming)))
        pillow.append(pillow_seconds(paths))
    assert len(read_index(incoming)) == count
    ingested, decoded = smallest(ours), smallest(pillow)
    return {
        "seconds": {"ingest": round(ingested.wall, 2), "pillow_on_two_processes": round(decoded.wall, 2)},
        "cpu_seconds": {"ingest": round(ingested.cpu, 2), "pillow_on_two_processes": round(decoded.cpu, 2)},
        "files_per_second": round(count / ingested.wall),
        "ratio": round(ingested.wall / decoded.wall, 2),
        "cpu_ratio": round(ingested.cpu / decoded.cpu, 2),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the record, and write it."""
    parser = argparse.ArgumentParser(description="Measure how fast a folder of small PNGs is ingested, beside Pillow alone.")
    parser.add_argument("--files", type=int, default=FILES)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--out", type=Path, default=RECORD)
    arguments = parser.parse_args(argv)
    os.environ.pop("AE_HOME", None)
    collect_rarely()  # as every stage does
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(Path(folder).resolve(), arguments.files, arguments.repeats)
    setting = {"files": arguments.files, "repeats": arguments.repeats, "processes": PROCESSES, "target_ratio": TARGET}
    facts = measurement_facts(find_project(ROOT), "python benchmarks/ingest_speed.py")
    record = {**facts, "setting": setting, **measured}
    save_record(arguments.out, record)
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
