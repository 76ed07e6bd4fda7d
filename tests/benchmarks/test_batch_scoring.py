"""benchmarks/batch_scoring.py at its smallest size."""

import json
from pathlib import Path

import batch_scoring
import numpy as np
import pytest
from served_champion import scratch_project


@pytest.mark.long
def test_one_file_of_an_inbox_is_scored_and_timed(trained: Path, tmp_path: Path) -> None:
    project = scratch_project(tmp_path / "project", trained / "bundle")
    samples = batch_scoring.distinct_digits(40)
    result = batch_scoring.score_inbox(project, samples, 1)
    assert result["seconds"] > 0
    assert result["digits_per_second"] == pytest.approx(40 / result["seconds"])
    assert result["peak_mib"] > 10
    assert batch_scoring.bare_seconds(trained / "bundle" / "model.onnx", samples) > 0


@pytest.mark.long
def test_it_scores_an_inbox_as_ten_files_and_as_one(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "scoring.json"
    batch_scoring.main(["--digits", "40", "--repeats", "1", "--trained", str(trained), "--out", str(out)])
    record = json.loads(out.read_text(encoding="utf-8"))
    assert record["digits"] == 40
    assert set(record["ways"]) == set(record["share_of_bare_speed"]) == {"ten_files", "one_file"}
    for result in record["ways"].values():
        assert result["seconds"] > 0
        assert result["peak_mib"] > 10
    assert "| ten files |" in batch_scoring.summarize(record)


@pytest.mark.slow
def test_no_two_digits_are_the_same() -> None:
    samples = batch_scoring.distinct_digits(10_100)
    assert samples.shape == (10_100, 28, 28)
    assert len(np.unique(samples.reshape(len(samples), -1), axis=0)) == len(samples)


def test_the_page_quotes_the_record() -> None:
    record = json.loads(batch_scoring.RECORD.read_text(encoding="utf-8"))
    text = batch_scoring.DOCS.read_text(encoding="utf-8")
    assert batch_scoring.update_page(text, record) == text, "python benchmarks/batch_scoring.py --docs-only"
