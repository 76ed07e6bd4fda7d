"""benchmarks/monitoring_simulation.py at its smallest size; tests/monitoring/test_simulation.py holds its record and page."""

import json
from pathlib import Path

import monitoring_simulation
import pytest


@pytest.mark.slow
def test_false_alarms_and_delays_are_counted(tmp_path: Path) -> None:
    out = tmp_path / "monitoring.json"
    monitoring_simulation.main(["--streams", "4", "--out", str(out)])
    record = json.loads(out.read_text(encoding="utf-8"))
    assert {result["streams"] for result in record["false_alarms"]["tests"].values()} == {4}
    assert len(record["delays"]) == 10
    noticed = {(row["change"], row["a_day"]): row["noticed"] / row["streams"] for row in record["delays"]}
    assert noticed["5 times the alarms", 1000] == 1
    assert "4 streams in which nothing changes" in monitoring_simulation.summarize(record)
