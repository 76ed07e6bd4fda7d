"""`make bench`: how fast the pipeline is, on a fresh clone of HEAD. Writes benchmarks/records/pipeline.json.

Wall-clock seconds depend on the machine, so the record names it; training speed is recorded as ratios against a plain
Lightning training and a bare PyTorch loop on the same network, batch and machine (benchmarks/training_speed.py).
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from aeops.machine.platform_info import platform_facts
from aeops.project import Project, find_project
from aeops.provenance.lineage import git

RECORDS = Path(__file__).parent / "records"
HELP_RUNS = 7


def main() -> None:
    project = find_project()
    with tempfile.TemporaryDirectory(prefix="ae-bench-") as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(project.root), str(clone)], check=True)
        seconds = pipeline_seconds(clone)
    speed = training_speed(project)
    record = {
        "command": "make bench",
        "commit": git(project, "rev-parse", "HEAD"),
        "machine": platform_facts(),
        "seconds": seconds,
        "training_speed": speed,
    }
    RECORDS.mkdir(exist_ok=True)
    (RECORDS / "pipeline.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(record, indent=2))


def pipeline_seconds(clone: Path) -> dict[str, float]:
    """Seconds of each thing a newcomer waits for, in the order he meets them."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("AE_HOME", "MLFLOW_TRACKING_URI", "VIRTUAL_ENV")
    }
    ae = str(clone / ".venv" / "bin" / "ae")
    timed = {
        "environment_ready": took(["make", "env"], clone, environment),
        "first_run": took([ae, "run", "digits"], clone, environment),
        "second_run_nothing_changed": took([ae, "run", "digits"], clone, environment),
    }
    timed["help"] = statistics.median(took([ae, "--help"], clone, environment) for _ in range(HELP_RUNS))
    return {name: round(value, 2) for name, value in timed.items()}


def took(command: list[str], folder: Path, environment: dict[str, str]) -> float:
    started = time.monotonic()
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def training_speed(project: Project) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="ae-bench-") as folder:
        out = Path(folder) / "speed.json"
        subprocess.run([sys.executable, "benchmarks/training_speed.py", "--out", str(out)], cwd=project.root, check=True)
        return dict(json.loads(out.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
