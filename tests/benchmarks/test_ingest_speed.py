"""benchmarks/ingest_speed.py at its smallest size."""

import json
from pathlib import Path

import ingest_speed
import pytest


@pytest.mark.slow
def test_it_measures_the_ingest_of_small_pngs_beside_pillow_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "ingest.json"
    ingest_speed.main(["--files", "200", "--repeats", "1", "--out", str(out)])
    record = json.loads(out.read_text(encoding="utf-8"))
    assert json.loads(capsys.readouterr().out) == record
    assert record["setting"] == {"files": 200, "repeats": 1, "processes": 2, "target_ratio": 1.3}
    seconds = record["seconds"]
    assert record["ratio"] == pytest.approx(seconds["ingest"] / seconds["pillow_on_two_processes"], rel=0.3)
    assert {"commit", "with_changes", "machine"} <= set(record)
