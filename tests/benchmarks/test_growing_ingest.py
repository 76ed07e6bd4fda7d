"""benchmarks/growing_ingest.py at its smallest size, and its record as the documentation quotes it."""

import json
from pathlib import Path

import growing_ingest
import pytest
from benchmark_tools import RECORDS, ROOT


@pytest.mark.slow
def test_a_second_ingest_reads_the_added_samples_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, out = 200, tmp_path / "growing.json"
    monkeypatch.setattr(growing_ingest, "SETTLING", 2.1)
    growing_ingest.main(["--samples", str(samples), "--added", "5", "--out", str(out)])
    record = json.loads(out.read_text(encoding="utf-8"))
    assert json.loads(capsys.readouterr().out) == record
    images, rows = record["images"], record["rows"]
    assert (images["first"]["read"], images["second"]["read"], images["second"]["new"]) == (samples, 5, 5)
    assert (rows["second"]["read"], rows["second"]["new"]) == (samples + 5, 5)
    for each in (images, rows):
        assert each["second"]["new_shards"] == 1
        assert each["second"]["new_shard_bytes"] < each["first"]["new_shard_bytes"] / 3


def test_the_documentation_quotes_the_record() -> None:
    record = json.loads((RECORDS / "growing.json").read_text(encoding="utf-8"))
    assert record["setting"] == {"samples": 100_000, "added": 200}
    assert record["images"]["second"]["read"] == record["images"]["second"]["new"] == 200
    text = (ROOT / "docs" / "growing.md").read_text(encoding="utf-8")
    for kind in ("images", "rows"):
        for reading in ("first", "second"):
            for step in ("ingest", "validate"):
                measured = record[kind][reading]
                assert f"{measured[f'{step}_seconds']:.0f} s ({measured[f'{step}_cpu_seconds']:.0f})" in text, (kind, reading)
