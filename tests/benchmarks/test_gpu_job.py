"""benchmarks/gpu_job.py at its smallest size, on the CPU."""

import json
from pathlib import Path

import gpu_job
import pytest

SMALL = ["--device", "cpu", "--batches", "32", "--samples", "64", "--epochs", "1", "--repeats", "1", "--recipe", ""]


@pytest.mark.long  # processes that load torch, Lightning and pytest
def test_it_writes_what_each_part_measured(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    gpu_job.main([*SMALL, "--out", str(out)])
    record = json.loads(out.read_text(encoding="utf-8"))
    assert record["bits"]["passed"]
    speed = record["speed at a batch of 32"]
    assert speed["setting"] == {"recipe": "digits", "samples": 64, "epochs": 1, "batch": 32}
    assert set(speed["samples_per_second"]) == {"ours", "steps", "lightning", "loop", "validating loop"}


def test_what_a_failed_part_said_is_written_and_its_status_is_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "gpu.json"
    monkeypatch.setattr(gpu_job, "measure_parts", lambda args: iter([("bits", gpu_job.run_part(["false"], 10.0))]))
    with pytest.raises(SystemExit) as ended:
        gpu_job.main([*SMALL, "--out", str(out)])
    assert ended.value.code == 1
    assert json.loads(out.read_text(encoding="utf-8"))["bits"]["command"] == ["false"]
    assert gpu_job.run_part(["sleep", "9"], 0.1)["said"] == "stopped after 0 s"
