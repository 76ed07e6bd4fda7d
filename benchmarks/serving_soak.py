"""Keeps the scoring service saturated and watches its memory: `python benchmarks/serving_soak.py --minutes 10`.

Single samples as JSON, batches as .npy and bad requests, all at once, while every prediction is recorded and journals are made
files. Writes benchmarks/records/soak.json and what docs/serving.md says of it (`--docs-only`: the page alone).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import psutil

sys.path.insert(0, str(Path(__file__).parent))
import serving_room as room

from aeops.bundle.detector import usable_cores
from aeops.errors import UsageError
from aeops.files import read_json, write_json
from aeops.kinds.npy_bytes import MEDIA_TYPE
from aeops.machine.network import find_free_port
from aeops.predictions import prediction_store
from aeops.serving.npy import write_npy

ROOT = Path(__file__).parents[1]
RECORD, DOCS = ROOT / "benchmarks" / "records" / "soak.json", ROOT / "docs" / "serving.md"
BEGIN, END = "<!-- soak: written by `python benchmarks/serving_soak.py` -->", "<!-- soak: end -->"
JSON = "application/json"
EVERY = 5.0  # seconds between two looks at the memory
WARM = 0.2  # of the time, before which memory may grow
SINGLE, BATCH, BAD = ("single", 16), ("batch", 4), ("bad", 2)  # clients


def measure(minutes: float, ready: Path | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="ae-soak-") as folder:
        scratch = Path(folder)
        (scratch / "trained").mkdir()
        bundle, which = room.trained_bundle(ready or scratch / "trained")
        project, port = room.scratch_project(scratch / "project", bundle), find_free_port()
        with room.our_service(project, port) as service:
            loads = start_loads(scratch, port, minutes * 60)
            memory = watch(service.pid, minutes * 60)
            told = {name: json.loads(load.communicate(timeout=120)[0]) for name, load in loads.items()}
        recorded = sum(prediction_store.read_call(file, ["id"]).num_rows for file in record_files(project))
    warm = [bytes_ for seconds, bytes_ in memory if seconds >= WARM * minutes * 60]
    return {
        "when": f"{datetime.now(UTC):%Y-%m-%d}",
        "model": which,
        "cores": usable_cores(),
        "minutes": minutes,
        "memory_by_minute": by_minute(memory),
        "memory_warm": warm[0],
        "memory_end": warm[-1],
        "memory_most": max(warm),
        "answers": told,
        "predictions": recorded,
    }


def start_loads(scratch: Path, port: int, seconds: float) -> dict[str, "subprocess.Popen[str]"]:
    samples = room.digits()
    bodies = {
        SINGLE: ("/score", orjson.dumps({"inputs": samples[:1].tolist()}), JSON),
        BATCH: ("/score", write_npy(samples[:64]), MEDIA_TYPE),
        BAD: ("/explain", b'{"inputs": [[1, 2], [3]]}', JSON),
    }
    loads = {}
    for (name, clients), (path, body, media_type) in bodies.items():
        (scratch / name).write_bytes(body)
        command = [sys.executable, str(ROOT / "benchmarks" / "serving_load.py"), str(port), path, str(scratch / name), media_type]
        loads[name] = subprocess.Popen([*command, str(clients), str(seconds)], stdout=subprocess.PIPE, text=True)
    return loads


def watch(pid: int, seconds: float) -> list[tuple[float, int]]:
    """The memory that the service holds (resident bytes), every few seconds."""
    process, begun, found = psutil.Process(pid), time.monotonic(), []
    while (passed := time.monotonic() - begun) < seconds:
        found.append((round(passed, 1), process.memory_info().rss))
        time.sleep(EVERY)
    return found


def by_minute(memory: list[tuple[float, int]]) -> list[int]:
    """The first look of every minute."""
    firsts = {int(seconds // 60): held for seconds, held in reversed(memory)}
    return [firsts[minute] for minute in sorted(firsts)]


def record_files(project: Any) -> list[Path]:
    folder = prediction_store.folder_of(project, "digits")
    journals, files = folder.glob("journal/*.arrow"), folder.glob("*-*-*/*.parquet")
    return list({file.stem: file for file in (*journals, *files)}.values())


def told(recorded: dict[str, Any] | None) -> str:
    if recorded is None:
        return "Not measured yet: `python benchmarks/serving_soak.py --minutes 10` measures it."
    answers = {name: sum(found["statuses"].values()) for name, found in recorded["answers"].items()}
    warm, most, end = (recorded[f"memory_{name}"] / 2**20 for name in ("warm", "most", "end"))
    return (
        f"{recorded['minutes']:g} minutes, {recorded['cores']} cores, {recorded['model']}: {answers['single']:,} requests of one "
        f"sample, {answers['batch']:,} of 64, {answers['bad']:,} bad ones; {recorded['predictions']:,} predictions recorded. "
        f"Memory after the first fifth {warm:.0f} MiB, at most {most:.0f} MiB, at the end {end:.0f} MiB."
    )


def with_told(text: str, recorded: dict[str, Any] | None) -> str:
    """docs/serving.md with what the record says between its marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UsageError(f"{DOCS.name}: the marks of the soak are missing; write {BEGIN} and {END} where it belongs")
    return f"{before}{BEGIN}\n{told(recorded)}\n{END}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description="The scoring service at saturation: is its memory flat?")
    parser.add_argument("--minutes", type=float, default=10.0, help="[10]")
    parser.add_argument(
        "--trained", type=Path, metavar="FOLDER", help="keep the bundle that is trained in this folder, or take it"
    )
    parser.add_argument("--docs-only", action="store_true", help="only write docs/serving.md, from the record")
    given = parser.parse_args()
    if not given.docs_only:
        write_json(RECORD, measure(given.minutes, given.trained))
    recorded = read_json(RECORD) if RECORD.is_file() else None
    DOCS.write_text(with_told(DOCS.read_text(encoding="utf-8"), recorded), encoding="utf-8")


if __name__ == "__main__":
    main()
