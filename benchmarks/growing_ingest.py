"""What 200 samples more cost: `python benchmarks/growing_ingest.py` writes benchmarks/records/growing.json.

A folder of small PNGs, real digits with another value in a corner each, is ingested and accepted by the recipe that `ae new`
proposes for it; then some files are added, and it is ingested and accepted again. The same with the rows of a CSV file with
ids, which has to be parsed as a whole to find the new ones. Counted: the samples that the second ingest has decoded or
compared, and the shards that DVC has to push.
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
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_tools import RECORDS, ROOT, measurement_facts, save_record
from ingest_speed import write_digits

from aeops.cli.main import main as ae
from aeops.data.dataset import read_index
from aeops.files import file_sha256
from aeops.machine.stored_json import read_json
from aeops.project import Project, find_project
from aeops.recipe.reader import load_recipe
from aeops.stages.ingest import ingest
from aeops.stages.validate import validate

RECORD = RECORDS / "growing.json"
SAMPLES, ADDED = 100_000, 200
SETTLING = 2.5  # seconds until a file counts as one that was not written just now
COLUMNS = 12


def write_rows(file: Path, count: int) -> None:
    """Write a CSV file of numbers with an id a row; the first rows are the same however many there are."""
    draw = np.random.default_rng(0)
    values = draw.normal(size=(SAMPLES + ADDED, COLUMNS))[:count]
    lines = [f"part-{number:06d}," + ",".join(f"{value:.4f}" for value in row) for number, row in enumerate(values)]
    file.write_text(f"part,{','.join(f'v{column}' for column in range(COLUMNS))}\n" + "\n".join(lines) + "\n", encoding="utf-8")


def timed(name: str, step: Callable[[], object]) -> dict[str, float]:
    """Return the seconds that a step takes, and those of CPU time, which others on the machine hardly change."""
    started_at, before = time.perf_counter(), os.times()
    step()
    seconds, after = time.perf_counter() - started_at, os.times()
    return {f"{name}_seconds": round(seconds, 2), f"{name}_cpu_seconds": round(sum(after[:4]) - sum(before[:4]), 2)}


def accept(project: Project, name: str) -> dict[str, Any]:
    """Ingest and validate what is there.

    Returns:
        Seconds of both; samples that were read and that were new; bytes and number of the shards that are not those of before.
    """
    recipe, incoming, dataset = load_recipe(project, name), project.incoming(name), project.dataset(name)
    before = {file_sha256(file) for file in dataset.glob("shards/*")}
    ingest_seconds = timed("ingest", lambda: ingest(recipe, project, incoming))
    document = read_json(incoming / "dataset.json", "rows")
    validate_seconds = timed("validate", lambda: validate(recipe, project, incoming))
    new_shards = [file for file in dataset.glob("shards/*") if file_sha256(file) not in before]
    growth = document.get("growth", {"read": document["rows"], "counts": {"new": document["rows"]}})
    return {
        "read": growth["read"],
        "new": growth["counts"].get("new", 0),
        **ingest_seconds,
        **validate_seconds,
        "new_shards": len(new_shards),
        "new_shard_bytes": sum(file.stat().st_size for file in new_shards),
    }


def measure(
    root: Path, count: int, added: int, write: Callable[[Path, int], None], source: str, options: list[str]
) -> dict[str, Any]:
    """Accept `count` samples, add some and accept them; return what both took.

    Args:
        root: an empty folder for the project.
        count: samples at first.
        added: samples that are added.
        write: writes so many samples to the source.
        source: the path of the source below `root`.
        options: of `ae new`.
    """
    project = Project(root, root / ".ae")
    (root / "recipes").mkdir(parents=True)
    shutil.copy(ROOT / "dvc.yaml", root)
    write(root / source, count)
    with chdir(root), redirect_stdout(io.StringIO()):
        code = ae(["new", "mine", "--from", source, "--yes", "--labels", "none", *options])
    assert code == 0, "ae new has refused the samples"
    first = accept(project, "mine")
    write(root / source, count + added)
    time.sleep(SETTLING)
    second = accept(project, "mine")
    assert len(read_index(project.dataset("mine"))) == count + added
    return {"first": first, "second": second}


def write_new_digits(folder: Path, count: int) -> None:
    """Write the PNGs up to this number that are not there, and leave the others as they are."""
    there = sum(1 for _ in folder.rglob("*.png"))
    write_digits(folder, count, first=there)
    if not there:
        time.sleep(SETTLING)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the record, and write it."""
    parser = argparse.ArgumentParser(description="Measure what some samples more cost a dataset that is there.")
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--added", type=int, default=ADDED)
    parser.add_argument("--out", type=Path, default=RECORD)
    arguments = parser.parse_args(argv)
    os.environ.pop("AE_HOME", None)
    sizes = (arguments.samples, arguments.added)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        measured = {
            "images": measure(root / "images", *sizes, write_new_digits, "digits", []),
            "rows": measure(root / "rows", *sizes, write_rows, "rows.csv", ["--id", "part"]),
        }
    setting = {"samples": arguments.samples, "added": arguments.added}
    facts = measurement_facts(find_project(ROOT), "python benchmarks/growing_ingest.py")
    record = {**facts, "setting": setting, **measured}
    save_record(arguments.out, record)
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
