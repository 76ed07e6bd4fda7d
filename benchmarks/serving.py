"""The scoring service beside others on the same model and machine: `python benchmarks/serving.py`.

Requests with one sample from 16 clients, as JSON, and with 256 samples from 2 clients: as .npy to `ae serve`, as JSON to
`mlflow models serve`, which takes no other, and as base64 in JSON to LitServe; and bare onnxruntime in a loop, without a server.
All servers are up at once and idle but for the one that is measured; turns alternate, and medians are quoted. `ae serve` records
every prediction meanwhile, as it always does; the others record nothing.

Writes benchmarks/records/serving.json and what docs/serving.md says of it (`--docs-only`: the page alone, from the record).
"""

import argparse
import base64
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import orjson
import psutil

sys.path.insert(0, str(Path(__file__).parent))
import serving_room as room

from ae_models.runtime import onnxruntime
from aeops.bundle.detector import Detector, outputs, usable_cores
from aeops.errors import UsageError
from aeops.files import read_json, write_json
from aeops.kinds.npy_bytes import MEDIA_TYPE
from aeops.machine.network import find_free_port
from aeops.registry.store import open_store
from aeops.report.model_card import table
from aeops.serving.npy import write_npy

ROOT = Path(__file__).parents[1]
RECORD, DOCS = ROOT / "benchmarks" / "records" / "serving.json", ROOT / "docs" / "serving.md"
BEGIN, END = "<!-- speed: written by `python benchmarks/serving.py` -->", "<!-- speed: end -->"
OURS, MLFLOW, LITSERVE, BARE = "ae serve", "mlflow models serve", "LitServe", "bare onnxruntime"
BATCH = 256
SINGLE_CLIENTS, BATCH_CLIENTS = 16, 2
JSON = "application/json"
WANTED = {"requests": 6.0, "p99": 0.020, "images": 25.0, "of_bare": 0.8}


@dataclass(frozen=True)
class Contender:
    """A server and how it is asked: the path, and body and media type for one sample and for a batch."""

    name: str
    port: int
    path: str
    single: tuple[Path, str]
    batch: tuple[Path, str]
    pid: int


# ---------------------------------------------------------------- measuring


def load(contender: Contender, what: tuple[Path, str], clients: int, seconds: float) -> dict[str, Any]:
    """Asks for that long; raises where an answer is not 200."""
    command = [sys.executable, str(ROOT / "benchmarks" / "serving_load.py"), str(contender.port), contender.path]
    done = subprocess.run(
        [*command, str(what[0]), what[1], str(clients), str(seconds)], capture_output=True, text=True, timeout=600, check=True
    )
    told: dict[str, Any] = json.loads(done.stdout)
    if set(told["statuses"]) != {"200"}:
        raise RuntimeError(f"{contender.name} answered {told['statuses']}")
    return told


def bare(bundle: Path, seconds: float) -> tuple[float, float]:
    """Images a second and CPU seconds an image of onnxruntime in a loop, in a process of its own, with its own defaults: a run
    of 256 images by all cores."""
    command = [sys.executable, __file__, "--bare", str(bundle), "--seconds", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True, env=room.environment())
    images, used = map(float, done.stdout.split())
    return images, used


def loop(bundle: Path, seconds: float) -> tuple[float, float]:
    detector = Detector(bundle)
    batch = detector.check(room.digits()[:BATCH])
    session = onnxruntime.InferenceSession(str(bundle / "model.onnx"), providers=["CPUExecutionProvider"])
    names = outputs(reconstruction=False, code=False)
    session.run(names, {"input": batch})
    begun, used, done = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - begun < seconds:
        session.run(names, {"input": batch})
        done += BATCH
    return done / (time.perf_counter() - begun), (time.process_time() - used) / done


def turn(contenders: list[Contender], bundle: Path, seconds: float) -> dict[str, dict[str, float]]:
    """One turn of all, one after the other."""
    found: dict[str, dict[str, float]] = {contender.name: {} for contender in contenders}
    for contender in contenders:
        before, told = processor_seconds(contender.pid), load(contender, contender.single, SINGLE_CLIENTS, seconds)
        used = (processor_seconds(contender.pid) - before) / told["requests"]
        single = {"requests_a_second": told["requests"] / told["seconds"], "p50": told["p50"], "p99": told["p99"]}
        found[contender.name] |= single | {"cpu_a_request": used, "load_cores": told["cores"]}
    images, used = bare(bundle, seconds)
    found[BARE] = {"images_a_second": images, "cpu_an_image": used}
    for contender in contenders:
        before, told = processor_seconds(contender.pid), load(contender, contender.batch, BATCH_CLIENTS, seconds)
        count = BATCH * told["requests"]
        used = (processor_seconds(contender.pid) - before) / count
        batch = {"images_a_second": count / told["seconds"], "cpu_an_image": used, "load_cores_batch": told["cores"]}
        found[contender.name] |= batch
    return found


def processor_seconds(pid: int) -> float:
    """What a server and its children have had of the cores so far: other work on the machine hardly changes it."""
    process = psutil.Process(pid)
    return sum(sum(one.cpu_times()[:2]) for one in (process, *process.children(recursive=True)))


@contextlib.contextmanager
def contenders(project: Any, bundle: Path, scratch: Path) -> Iterator[list[Contender]]:
    """All servers over the same bundle, up and warm."""
    ours, mlflow, lit = (find_free_port() for _ in range(3))
    serve = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/digits@champion", "--env-manager", "local"]
    lit_command = [sys.executable, str(ROOT / "benchmarks" / "serving_litserve.py"), str(bundle), str(lit)]
    bodies = write_bodies(scratch)
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(room.our_service(project, ours))]
        where = {"MLFLOW_TRACKING_URI": open_store(project).uri, "PYTHONPATH": ""}
        ping = f"http://127.0.0.1:{mlflow}/ping"
        command = [*serve, "-p", str(mlflow)]
        children.append(stack.enter_context(room.started(command, scratch, ping, scratch / "mlflow.log", **where)))
        health, log = f"http://127.0.0.1:{lit}/health", scratch / "litserve.log"
        children.append(stack.enter_context(room.started(lit_command, scratch, health, log)))
        pids = [child.pid for child in children]
        found = [
            Contender(OURS, ours, "/score", (bodies["single"], JSON), (bodies["npy"], MEDIA_TYPE), pids[0]),
            Contender(MLFLOW, mlflow, "/invocations", (bodies["single"], JSON), (bodies["batch"], JSON), pids[1]),
            Contender(LITSERVE, lit, "/predict", (bodies["single"], JSON), (bodies["base64"], JSON), pids[2]),
        ]
        for contender in found:
            load(contender, contender.single, 1, 1.0)  # the first answers take longest
        yield found


def write_bodies(folder: Path) -> dict[str, Path]:
    batch = room.digits()[:BATCH]
    npy = write_npy(batch)
    bodies = {
        "single": orjson.dumps({"inputs": batch[:1].tolist()}),
        "batch": orjson.dumps({"inputs": batch.tolist()}),
        "npy": npy,
        "base64": orjson.dumps({"npy": base64.b64encode(npy).decode()}),
    }
    for name, body in bodies.items():
        (folder / name).write_bytes(body)
    return {name: folder / name for name in bodies}


def measure(turns: int, seconds: float, ready: Path | None) -> dict[str, Any]:
    """Both models, turn after turn."""
    found: dict[str, Any] = {"when": f"{datetime.now(UTC):%Y-%m-%d}", "cores": usable_cores(), "turns": turns, "seconds": seconds}
    found["versions"] = {name: installed(name) for name in ("onnxruntime", "uvicorn", "starlette", "mlflow", "litserve")}
    found["models"] = {}
    with tempfile.TemporaryDirectory(prefix="ae-serving-") as folder:
        scratch = Path(folder)
        (scratch / "trained").mkdir()
        bundle, which = room.trained_bundle(ready or scratch / "trained")
        models = {"trained": (bundle, which)}
        models["linear"] = (room.linear_bundle(scratch / "linear-bundle"), "PCA with 16 components, as the tests serve it")
        for name, (held, about) in models.items():
            place = scratch / f"servers-{name}"
            place.mkdir()
            with contenders(room.scratch_project(scratch / f"project-{name}", held), held, place) as servers:
                told = [turn(servers, held, seconds) for _ in range(turns)]
            found["models"][name] = {"about": about, "turns": told, "median": medians(told), "load": os.getloadavg()[1]}
            print(name, json.dumps(found["models"][name]["median"], indent=1), flush=True)
    return found


def medians(turns: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    return {
        name: {key: statistics.median(one[name][key] for one in turns) for key in values} for name, values in turns[0].items()
    }


# ---------------------------------------------------------------- docs/serving.md


def ratios(model: dict[str, Any]) -> dict[str, float]:
    """The medians over turns of ours beside another of the same turn: what else the machine does then counts for both."""
    turns = model["turns"]
    return {
        "requests": median_ratio(turns, "requests_a_second", MLFLOW),
        "p99": model["median"][OURS]["p99"],
        "images": median_ratio(turns, "images_a_second", MLFLOW),
        "cpu_requests": 1 / median_ratio(turns, "cpu_a_request", MLFLOW),
        "cpu_images": 1 / median_ratio(turns, "cpu_an_image", MLFLOW),
        "cpu_of_bare": 1 / median_ratio(turns, "cpu_an_image", BARE),
        "of_bare": median_ratio(turns, "images_a_second", BARE),
        "requests_litserve": median_ratio(turns, "requests_a_second", LITSERVE),
        "images_litserve": median_ratio(turns, "images_a_second", LITSERVE),
    }


def median_ratio(turns: list[dict[str, dict[str, float]]], key: str, other: str) -> float:
    return statistics.median(one[OURS][key] / one[other][key] for one in turns)


def told(recorded: dict[str, Any] | None) -> str:
    """The record as docs/serving.md shows it."""
    if recorded is None:
        return "Not measured yet: `python benchmarks/serving.py` measures it."
    parts = [
        f"{recorded['cores']} cores, {recorded['turns']} turns of {recorded['seconds']:g} s each, alternating; medians. Ratios "
        "are those within a turn; CPU time, which other work on the machine hardly changes, says most."
    ]
    for model in recorded["models"].values():
        parts += [
            f"**{model['about'][0].upper()}{model['about'][1:]}** (load average {model['load']:.1f}):",
            speeds(model),
            compared(model),
        ]
    return "\n\n".join(parts)


def speeds(model: dict[str, Any]) -> str:
    head = [
        "",
        "requests/s",
        "p50 ms",
        "p99 ms",
        "CPU ms a request",
        f"images/s at {BATCH}",
        "CPU µs an image",
        "cores of the load",
    ]
    rows = []
    for name, found in model["median"].items():
        times = [f"{found[key] * 1000:.1f}" if key in found else "" for key in ("p50", "p99")]
        requests = f"{found['requests_a_second']:,.0f}" if "requests_a_second" in found else ""
        cores = f"{found['load_cores']:.2f}, {found['load_cores_batch']:.2f}" if "load_cores" in found else ""
        used = f"{found['cpu_a_request'] * 1e3:.2f}" if "cpu_a_request" in found else ""
        rows.append(
            [name, requests, *times, used, f"{found['images_a_second']:,.0f}", f"{found['cpu_an_image'] * 1e6:.1f}", cores]
        )
    return table(head, rows)


def compared(model: dict[str, Any]) -> str:
    found = ratios(model)
    return (
        f"`ae serve` beside `mlflow models serve`: **{found['requests']:.1f}** times its requests/s (wanted "
        f"{WANTED['requests']:g}), **{found['images']:.1f}** times its images/s (wanted {WANTED['images']:g}); "
        f"**{found['of_bare']:.0%}** of bare onnxruntime (wanted {WANTED['of_bare']:.0%}); p99 {found['p99'] * 1000:.1f} ms "
        f"(wanted under {WANTED['p99'] * 1000:g}). Beside LitServe: {found['requests_litserve']:.1f} times its requests/s, "
        f"{found['images_litserve']:.1f} times its images/s. By CPU time alone: MLflow's server needs "
        f"{found['cpu_requests']:.1f} times as much a request and {found['cpu_images']:.1f} times as much an image, and "
        f"{found['cpu_of_bare']:.0%} of what `ae serve` needs an image is what bare onnxruntime needs."
    )


def with_told(text: str, recorded: dict[str, Any] | None) -> str:
    """docs/serving.md with what the record says between its marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UsageError(f"{DOCS.name}: the marks of the measurement are missing; write {BEGIN} and {END} where it belongs")
    return f"{before}{BEGIN}\n{told(recorded)}\n{END}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description="The scoring service beside mlflow models serve, LitServe and bare onnxruntime.")
    parser.add_argument("--turns", type=int, default=5, help="of all contenders [5]")
    parser.add_argument("--seconds", type=float, default=4.0, help="that each is asked for in a turn [4]")
    parser.add_argument("--docs-only", action="store_true", help="only write docs/serving.md, from the record")
    parser.add_argument(
        "--trained", type=Path, metavar="FOLDER", help="keep the bundle that is trained in this folder, or take it"
    )
    parser.add_argument("--bare", type=Path, metavar="BUNDLE", help="only print the images a second of onnxruntime in a loop")
    given = parser.parse_args()
    if given.bare:
        print(*loop(given.bare, given.seconds))
        return
    if not given.docs_only:
        write_json(RECORD, measure(given.turns, given.seconds, given.trained))
    recorded = read_json(RECORD) if RECORD.is_file() else None
    DOCS.write_text(with_told(DOCS.read_text(encoding="utf-8"), recorded), encoding="utf-8")


if __name__ == "__main__":
    main()
