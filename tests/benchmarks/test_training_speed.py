"""benchmarks/training_speed.py at its smallest size."""

import json
from pathlib import Path

import pytest
import training_speed


def test_it_measures_each_training_of_the_same_digits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "speed.json"
    training_speed.main(["--samples", "64", "--epochs", "1", "--repeats", "1", "--out", str(out)])
    record = json.loads(out.read_text(encoding="utf-8"))
    assert json.loads(capsys.readouterr().out) == record
    assert record["setting"] == {"recipe": "digits", "samples": 64, "epochs": 1, "batch": 64}
    speeds = record["samples_per_second"]
    assert set(speeds) == {"ours", "steps", "lightning", "loop", "validating loop"}
    assert all(speed > 0 for speed in speeds.values())
    assert record["ratios"]["ours_over_loop"] == pytest.approx(speeds["ours"] / speeds["loop"], abs=0.05)
    assert record["ratios"]["steps_over_loop"] == pytest.approx(speeds["steps"] / speeds["loop"], abs=0.05)
    assert set(record["ratios"]) == {"ours_over_lightning", "ours_over_loop", "ours_over_validating_loop", "steps_over_loop"}
    assert {"commit", "with_changes", "machine"} <= set(record)
