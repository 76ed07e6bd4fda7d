"""The scoring service beside others on the same model and machine: `python benchmarks/serving_speed.py`.

Requests with one sample from 16 clients, as JSON, and with 256 samples from 2 clients: as .npy to `ae serve`, as JSON to
`mlflow models serve`, which takes no other, and as base64 in JSON to LitServe; and bare onnxruntime in a loop, without a server.
All servers are up at once and idle but for the one that is measured; turns alternate, and medians are quoted. `ae serve` records
every prediction meanwhile, as it always does; the others record nothing.

Writes benchmarks/records/serving.json and the section of docs/serving.md that quotes it (`--docs-only`: the section alone).
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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import orjson
import psutil
from benchmark_tools import RECORDS, ROOT, replace_section, save_record, shuffled_digits
from served_champion import (
    TRAINED_HELP,
    linear_bundle,
    our_service,
    scratch_project,
    server_environment,
    started,
    trained_bundle,
)

from ae_models.onnx_runtime import onnxruntime
from aeops.bundle.detector import Detector, output_names, usable_cores
from aeops.kinds.npy_bytes import MEDIA_TYPE
from aeops.machine.network import find_free_port
from aeops.machine.stored_json import read_json
from aeops.project import Project
from aeops.registry.store import open_store
from aeops.report.model_card import markdown_table
from aeops.serving.npy import write_npy

RECORD, DOCS = RECORDS / "serving.json", ROOT / "docs" / "serving.md"
BEGIN, END = "<!-- speed: written by `python benchmarks/serving_speed.py` -->", "<!-- speed: end -->"
OURS, MLFLOW, LITSERVE, BARE = "ae serve", "mlflow models serve", "LitServe", "bare onnxruntime"
MODELS = ("trained", "linear")
LINEAR_DESCRIPTION = "PCA with 16 components, as the tests serve it"
BATCH = 256
SINGLE_CLIENTS, BATCH_CLIENTS = 16, 2
JSON = "application/json"
TARGETS = {"requests": 6.0, "p99": 0.020, "images": 25.0, "of_bare": 0.8}


@dataclass(frozen=True)
class Request:
    """A body that is posted again and again."""

    body: Path
    media_type: str


@dataclass(frozen=True)
class Contender:
    """A server and its requests: one for one sample and one for a batch."""

    name: str
    port: int
    path: str
    single: Request
    batch: Request
    pid: int


# ---------------------------------------------------------------- measuring


def load(contender: Contender, request: Request, clients: int, seconds: float) -> dict[str, Any]:
    """Keep a server busy for that long.

    Raises:
        RuntimeError: an answer is not 200.
    """
    command = [sys.executable, str(ROOT / "benchmarks" / "serving_load.py"), str(contender.port), contender.path]
    command += [str(request.body), request.media_type, str(clients), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    if set(result["statuses"]) != {"200"}:
        raise RuntimeError(f"{contender.name} answered {result['statuses']}, expected 200 alone")
    return result


def bare_speed(bundle: Path, seconds: float) -> tuple[float, float]:
    """Measure onnxruntime in a loop, in a process of its own: a run of 256 images on all cores, with its defaults.

    Returns:
        Images per second, and CPU seconds per image.
    """
    command = [sys.executable, __file__, "--bare", str(bundle), "--seconds", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True, env=server_environment())
    images, cpu_seconds = map(float, done.stdout.split())
    return images, cpu_seconds


def run_bare(bundle: Path, seconds: float) -> tuple[float, float]:
    """Run onnxruntime in a loop; return what `bare_speed` does."""
    detector = Detector(bundle)
    batch = detector.check(shuffled_digits()[:BATCH]).model_input
    session = onnxruntime.InferenceSession(str(bundle / "model.onnx"), providers=["CPUExecutionProvider"])
    names = output_names(reconstruction=False, code=False)
    session.run(names, {"input": batch})
    started_at, cpu_before, images = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - started_at < seconds:
        session.run(names, {"input": batch})
        images += BATCH
    return images / (time.perf_counter() - started_at), (time.process_time() - cpu_before) / images


def run_turn(contenders: list[Contender], bundle: Path, seconds: float) -> dict[str, dict[str, float]]:
    """Measure all contenders one after the other."""
    turn: dict[str, dict[str, float]] = {contender.name: {} for contender in contenders}
    for contender in contenders:
        cpu_before = processor_seconds(contender.pid)
        result = load(contender, contender.single, SINGLE_CLIENTS, seconds)
        cpu_seconds = processor_seconds(contender.pid) - cpu_before
        turn[contender.name] |= {
            "requests_a_second": result["requests"] / result["seconds"],
            "p50": result["p50"],
            "p99": result["p99"],
            "cpu_a_request": cpu_seconds / result["requests"],
            "load_cores": result["cores"],
        }
    images, cpu_an_image = bare_speed(bundle, seconds)
    turn[BARE] = {"images_a_second": images, "cpu_an_image": cpu_an_image}
    for contender in contenders:
        cpu_before = processor_seconds(contender.pid)
        result = load(contender, contender.batch, BATCH_CLIENTS, seconds)
        cpu_seconds = processor_seconds(contender.pid) - cpu_before
        images = BATCH * result["requests"]
        turn[contender.name] |= {
            "images_a_second": images / result["seconds"],
            "cpu_an_image": cpu_seconds / images,
            "load_cores_batch": result["cores"],
        }
    return turn


def processor_seconds(pid: int) -> float:
    """Return the CPU seconds of a server and its children so far, which other work on the machine hardly changes."""
    process = psutil.Process(pid)
    return sum(sum(one.cpu_times()[:2]) for one in (process, *process.children(recursive=True)))


@contextlib.contextmanager
def running_contenders(project: Project, bundle: Path, scratch: Path) -> Iterator[list[Contender]]:
    """Start all servers over the same bundle and warm them up; they end with the block."""
    our_port, mlflow_port, lit_port = (find_free_port() for _ in range(3))
    mlflow_command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/digits@champion"]
    mlflow_command += ["--env-manager", "local", "-p", str(mlflow_port)]
    lit_command = [sys.executable, str(ROOT / "benchmarks" / "serving_litserve.py"), str(bundle), str(lit_port)]
    with contextlib.ExitStack() as servers:
        ours = servers.enter_context(our_service(project, our_port))
        settings = {"MLFLOW_TRACKING_URI": open_store(project).uri, "PYTHONPATH": ""}
        ping = f"http://127.0.0.1:{mlflow_port}/ping"
        mlflow = servers.enter_context(started(mlflow_command, scratch, ping, scratch / "mlflow.log", **settings))
        health = f"http://127.0.0.1:{lit_port}/health"
        lit = servers.enter_context(started(lit_command, scratch, health, scratch / "litserve.log"))
        requests = write_requests(scratch)
        single = requests["single"]
        contenders = [
            Contender(OURS, our_port, "/score", single, requests["npy"], ours.pid),
            Contender(MLFLOW, mlflow_port, "/invocations", single, requests["batch"], mlflow.pid),
            Contender(LITSERVE, lit_port, "/predict", single, requests["base64"], lit.pid),
        ]
        for contender in contenders:
            load(contender, contender.single, 1, 1.0)  # the first answers take longest
        yield contenders


def write_requests(folder: Path) -> dict[str, Request]:
    batch = shuffled_digits()[:BATCH]
    npy = write_npy(batch)
    bodies = {
        "single": (orjson.dumps({"inputs": batch[:1].tolist()}), JSON),
        "batch": (orjson.dumps({"inputs": batch.tolist()}), JSON),
        "npy": (npy, MEDIA_TYPE),
        "base64": (orjson.dumps({"npy": base64.b64encode(npy).decode()}), JSON),
    }
    requests = {}
    for name, (body, media_type) in bodies.items():
        (folder / name).write_bytes(body)
        requests[name] = Request(folder / name, media_type)
    return requests


def measure(turns: int, seconds: float, models: Sequence[str], trained: Path | None) -> dict[str, Any]:
    """Return the record of the chosen models, measured one after the other."""
    packages = ("onnxruntime", "uvicorn", "starlette", "mlflow", "litserve")
    record: dict[str, Any] = {
        "when": f"{datetime.now(UTC):%Y-%m-%d}",
        "cores": usable_cores(),
        "turns": turns,
        "seconds": seconds,
        "versions": {name: installed(name) for name in packages},
        "models": {},
    }
    with tempfile.TemporaryDirectory(prefix="ae-serving-") as folder:
        for name in models:
            scratch = Path(folder) / name
            scratch.mkdir()
            if name == "linear":
                bundle, description = linear_bundle(scratch / "linear-bundle"), LINEAR_DESCRIPTION
            else:
                bundle, description = trained_bundle(trained, scratch)
            record["models"][name] = {"about": description} | measure_model(bundle, turns, seconds, scratch)
            print(name, json.dumps(record["models"][name]["median"], indent=1), flush=True)
    return record


def measure_model(bundle: Path, turns: int, seconds: float, scratch: Path) -> dict[str, Any]:
    project = scratch_project(scratch / "project", bundle)
    with running_contenders(project, bundle, scratch) as contenders:
        results = [run_turn(contenders, bundle, seconds) for _ in range(turns)]
    return {"turns": results, "median": medians(results), "load": os.getloadavg()[1]}


def medians(turns: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    result: dict[str, dict[str, float]] = {}
    for name, values in turns[0].items():
        result[name] = {key: statistics.median(turn[name][key] for turn in turns) for key in values}
    return result


# ---------------------------------------------------------------- docs/serving.md


def ratios(model: dict[str, Any]) -> dict[str, float]:
    """Return medians over ratios within a turn, so that other work on the machine counts for both servers."""
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
    return statistics.median(turn[OURS][key] / turn[other][key] for turn in turns)


def summarize(record: dict[str, Any] | None) -> str:
    """Return the section of docs/serving.md."""
    if record is None:
        return "Not measured yet: `python benchmarks/serving_speed.py` measures it."
    parts = [
        f"{record['cores']} cores, {record['turns']} turns of {record['seconds']:g} s each, alternating; medians. Ratios "
        "are those within a turn; CPU time, which other work on the machine hardly changes, says most."
    ]
    for model in record["models"].values():
        parts += [
            f"**{model['about'][0].upper()}{model['about'][1:]}** (load average {model['load']:.1f}):",
            speed_table(model),
            comparison(model),
        ]
    return "\n\n".join(parts)


def speed_table(model: dict[str, Any]) -> str:
    head = ["", "requests/s", "p50 ms", "p99 ms", "CPU ms a request"]
    head += [f"images/s at {BATCH}", "CPU µs an image", "cores of the load"]
    rows = [[name, *speed_cells(result)] for name, result in model["median"].items()]
    return markdown_table(head, rows)


def speed_cells(result: dict[str, float]) -> list[str]:
    cells = [""] * 4
    if "requests_a_second" in result:
        cells = [f"{result['requests_a_second']:,.0f}", f"{result['p50'] * 1e3:.1f}", f"{result['p99'] * 1e3:.1f}"]
        cells.append(f"{result['cpu_a_request'] * 1e3:.2f}")
    cells += [f"{result['images_a_second']:,.0f}", f"{result['cpu_an_image'] * 1e6:.1f}"]
    cells.append(f"{result['load_cores']:.2f}, {result['load_cores_batch']:.2f}" if "load_cores" in result else "")
    return cells


def comparison(model: dict[str, Any]) -> str:
    ratio = ratios(model)
    return (
        f"`ae serve` beside `mlflow models serve`: **{ratio['requests']:.1f}** times its requests/s (wanted "
        f"{TARGETS['requests']:g}), **{ratio['images']:.1f}** times its images/s (wanted {TARGETS['images']:g}); "
        f"**{ratio['of_bare']:.0%}** of bare onnxruntime (wanted {TARGETS['of_bare']:.0%}); p99 {ratio['p99'] * 1000:.1f} ms "
        f"(wanted under {TARGETS['p99'] * 1000:g}). Beside LitServe: {ratio['requests_litserve']:.1f} times its requests/s, "
        f"{ratio['images_litserve']:.1f} times its images/s. By CPU time alone: MLflow's server needs "
        f"{ratio['cpu_requests']:.1f} times as much a request and {ratio['cpu_images']:.1f} times as much an image, and "
        f"{ratio['cpu_of_bare']:.0%} of what `ae serve` needs an image is what bare onnxruntime needs."
    )


def update_page(text: str, record: dict[str, Any] | None) -> str:
    """Return docs/serving.md with the section that quotes the record."""
    return replace_section(text, BEGIN, END, summarize(record), DOCS.name)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="The scoring service beside mlflow models serve, LitServe and bare onnxruntime.")
    parser.add_argument("--turns", type=int, default=5, help="of all contenders [5]")
    parser.add_argument("--seconds", type=float, default=4.0, help="of load for each contender in a turn [4]")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS, help="that are served [all]")
    parser.add_argument("--trained", type=Path, metavar="FOLDER", help=TRAINED_HELP)
    parser.add_argument(
        "--out", type=Path, default=RECORD, help="JSON to write; docs/serving.md quotes the default [%(default)s]"
    )
    parser.add_argument("--docs-only", action="store_true", help="only write docs/serving.md, from the record")
    parser.add_argument("--bare", type=Path, metavar="BUNDLE", help="only print the speed of onnxruntime in a loop")
    args = parser.parse_args(arguments)
    if args.bare:
        print(*run_bare(args.bare, args.seconds))
        return
    if not args.docs_only:
        save_record(args.out, measure(args.turns, args.seconds, args.models, args.trained))
    if args.out == RECORD:
        record = read_json(RECORD) if RECORD.is_file() else None
        DOCS.write_text(update_page(DOCS.read_text(encoding="utf-8"), record), encoding="utf-8")


if __name__ == "__main__":
    main()
