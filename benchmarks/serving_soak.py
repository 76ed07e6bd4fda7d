"""Keeps the scoring service saturated and watches its memory: `python benchmarks/serving_soak.py --minutes 10`.

Single samples as JSON, batches as .npy and bad requests, all at once, while every prediction is recorded and journals are made
files. Writes benchmarks/records/soak.json and the section of docs/serving.md that quotes it (`--docs-only`: the section alone).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import psutil
from benchmark_tools import RECORDS, ROOT, replace_section, save_record, shuffled_digits
from served_champion import TRAINED_HELP, our_service, scratch_project, trained_bundle

from aeops.bundle.detector import usable_cores
from aeops.kinds.npy_bytes import MEDIA_TYPE
from aeops.machine.network import find_free_port
from aeops.machine.stored_json import read_json
from aeops.predictions import prediction_store
from aeops.project import Project
from aeops.serving.npy import write_npy

RECORD, DOCS = RECORDS / "soak.json", ROOT / "docs" / "serving.md"
BEGIN, END = "<!-- soak: written by `python benchmarks/serving_soak.py` -->", "<!-- soak: end -->"
JSON = "application/json"
LOOKS, LONGEST_PAUSE = 20, 5.0  # looks at the memory at least, and seconds between two of them at most
WARM_SHARE = 0.2  # of the time, before which memory may grow
CLIENTS = {"single": 16, "batch": 4, "bad": 2}


def measure(minutes: float, trained: Path | None) -> dict[str, Any]:
    duration = minutes * 60
    with tempfile.TemporaryDirectory(prefix="ae-soak-") as folder:
        scratch = Path(folder)
        bundle, description = trained_bundle(trained, scratch)
        project, port = scratch_project(scratch / "project", bundle), find_free_port()
        with our_service(project, port) as service, ExitStack() as loads:
            started = start_loads(scratch, port, duration)
            for load in started.values():
                loads.callback(load.kill)
            memory = watch_memory(service.pid, duration)
            results = {name: json.loads(load.communicate(timeout=120)[0]) for name, load in started.items()}
        recorded = sum(prediction_store.read_call(file, ["id"]).num_rows for file in prediction_files(project))
    warm = [resident for seconds, resident in memory if seconds >= WARM_SHARE * duration]
    return {
        "when": f"{datetime.now(UTC):%Y-%m-%d}",
        "model": description,
        "cores": usable_cores(),
        "minutes": minutes,
        "memory_by_minute": by_minute(memory),
        "memory_warm": warm[0],
        "memory_end": warm[-1],
        "memory_most": max(warm),
        "answers": results,
        "predictions": recorded,
    }


def start_loads(scratch: Path, port: int, duration: float) -> dict[str, "subprocess.Popen[str]"]:
    samples = shuffled_digits()
    requests = {
        "single": ("/score", orjson.dumps({"inputs": samples[:1].tolist()}), JSON),
        "batch": ("/score", write_npy(samples[:64]), MEDIA_TYPE),
        "bad": ("/explain", b'{"inputs": [[1, 2], [3]]}', JSON),
    }
    loads = {}
    for name, (path, body, media_type) in requests.items():
        (scratch / name).write_bytes(body)
        script = str(ROOT / "benchmarks" / "serving_load.py")
        command = [sys.executable, script, str(port), path, str(scratch / name), media_type, str(CLIENTS[name]), str(duration)]
        loads[name] = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    return loads


def watch_memory(pid: int, duration: float) -> list[tuple[float, int]]:
    """Return the memory that a process holds over the time, as (seconds, resident bytes)."""
    process, started_at, memory = psutil.Process(pid), time.monotonic(), []
    while (elapsed := time.monotonic() - started_at) < duration:
        memory.append((round(elapsed, 1), process.memory_info().rss))
        time.sleep(min(LONGEST_PAUSE, duration / LOOKS))
    return memory


def by_minute(memory: list[tuple[float, int]]) -> list[int]:
    """Return the first look of every minute."""
    firsts = {int(seconds // 60): resident for seconds, resident in reversed(memory)}
    return [firsts[minute] for minute in sorted(firsts)]


def prediction_files(project: Project) -> list[Path]:
    folder = prediction_store.predictions_folder(project, "digits")
    journals, files = folder.glob("journal/*.arrow"), folder.glob("*-*-*/*.parquet")
    return list({file.stem: file for file in (*journals, *files)}.values())


def summarize(record: dict[str, Any] | None) -> str:
    """Return the section of docs/serving.md."""
    if record is None:
        return "Not measured yet: `python benchmarks/serving_soak.py --minutes 10` measures it."
    answers = {name: sum(result["statuses"].values()) for name, result in record["answers"].items()}
    warm, most, end = (record[f"memory_{name}"] / 2**20 for name in ("warm", "most", "end"))
    return (
        f"{record['minutes']:g} minutes, {record['cores']} cores, {record['model']}: {answers['single']:,} requests of one "
        f"sample, {answers['batch']:,} of 64, {answers['bad']:,} bad ones; {record['predictions']:,} predictions recorded. "
        f"Memory after the first fifth {warm:.0f} MiB, at most {most:.0f} MiB, at the end {end:.0f} MiB."
    )


def update_page(text: str, record: dict[str, Any] | None) -> str:
    """Return docs/serving.md with the section that quotes the record."""
    return replace_section(text, BEGIN, END, summarize(record), DOCS.name)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="The scoring service at saturation: is its memory flat?")
    parser.add_argument("--minutes", type=float, default=10.0, help="[10]")
    parser.add_argument("--trained", type=Path, metavar="FOLDER", help=TRAINED_HELP)
    parser.add_argument(
        "--out", type=Path, default=RECORD, help="JSON to write; docs/serving.md quotes the default [%(default)s]"
    )
    parser.add_argument("--docs-only", action="store_true", help="only write docs/serving.md, from the record")
    args = parser.parse_args(arguments)
    if not args.docs_only:
        save_record(args.out, measure(args.minutes, args.trained))
    if args.out == RECORD:
        record = read_json(RECORD) if RECORD.is_file() else None
        DOCS.write_text(update_page(DOCS.read_text(encoding="utf-8"), record), encoding="utf-8")


if __name__ == "__main__":
    main()
