"""benchmarks/serving_soak.py at its smallest size."""

import json
from pathlib import Path

import pytest
import serving_soak


@pytest.mark.long
def test_a_service_under_every_load_is_watched(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "soak.json"
    serving_soak.main(["--minutes", "0.02", "--trained", str(trained), "--out", str(out)])
    record = json.loads(out.read_text(encoding="utf-8"))
    statuses = {name: list(result["statuses"]) for name, result in record["answers"].items()}
    assert statuses == {"single": ["200"], "batch": ["200"], "bad": ["422"]}
    scored = record["answers"]["single"]["requests"] + 64 * record["answers"]["batch"]["requests"]
    assert record["predictions"] >= scored  # those at the end were answered after the load had stopped reading
    assert record["memory_most"] >= record["memory_end"] > 0
    assert "requests of one sample" in serving_soak.summarize(record)
