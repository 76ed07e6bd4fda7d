"""benchmarks/workers_speed.py at its smallest size."""

import json
from pathlib import Path

import pytest
import workers_speed
from benchmark_tools import RECORDS, ROOT


@pytest.mark.long  # a worker's process loads Lightning, twice
def test_it_measures_the_same_training_by_one_worker_and_by_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "speed.json"
    workers_speed.main(["--samples", "300", "--epochs", "1", "--repeats", "1", "--batches", "32", "--out", str(out)])
    record = json.loads(out.read_text(encoding="utf-8"))
    assert json.loads(capsys.readouterr().out) == record
    assert record["setting"] == {"recipe": "digits", "samples": 300, "epochs": 1, "repeats": 1}
    speeds = record["by_batch"]["32"]
    assert set(workers_speed.SETTINGS) < set(speeds)
    assert speeds["two_workers"]["start_and_first_epoch_seconds"] > 0
    ratio = speeds["two_workers"]["samples_per_cpu_second"] / speeds["one_core"]["samples_per_cpu_second"]
    assert speeds["two_workers_cpu"]["over_one_core"] == pytest.approx(ratio, abs=0.02)
    assert {"commit", "load_average", "machine"} <= set(record)


def test_the_speed_is_that_between_the_ends_of_two_epochs() -> None:
    first, last = workers_speed.Moment(wall=3.0, cpu=2.0), workers_speed.Moment(wall=5.0, cpu=6.0)
    assert workers_speed.figures(1.0, first, last, sample_count=100) == {
        "samples_per_second": 50.0,
        "samples_per_cpu_second": 25.0,
        "start_and_first_epoch_seconds": 2.0,
    }


def test_the_page_has_the_figures_of_the_record() -> None:
    record = json.loads((RECORDS / "workers.json").read_text(encoding="utf-8"))
    assert workers_speed.table(record) in (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
