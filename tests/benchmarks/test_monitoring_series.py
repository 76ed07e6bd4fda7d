"""benchmarks/monitoring_series.py at its smallest size; tests/monitoring/test_series_blocks.py holds its record and page."""

import json
from pathlib import Path

import monitoring_series
import pytest


@pytest.mark.slow
def test_a_small_simulation_is_recorded_and_summarised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "series.json"
    monitoring_series.main(["--streams", "2", "--out", str(out)])
    record = json.loads(out.read_text(encoding="utf-8"))
    assert json.loads(capsys.readouterr().out) == record
    assert [row["memory"] for row in record["false_alarms"]] == list(monitoring_series.MEMORIES)
    assert "2 series of each memory in which nothing changes" in monitoring_series.summarize(record)
