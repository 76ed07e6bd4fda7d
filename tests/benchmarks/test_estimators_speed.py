"""benchmarks/estimators_speed.py at its smallest size, and the section of docs/sklearn.md that quotes its record."""

import json
from pathlib import Path

import estimators_speed
import pytest


@pytest.mark.long
def test_each_detector_is_timed_on_the_same_rows_and_the_table_has_the_ratio(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "record.json"
    detectors = ["MemoryDetector", "PyOD AutoEncoder", "PyOD ECOD", "PyOD kNN"]
    sizes = ["--train", "300", "--rows", "500", "--threads", "1", "--detectors", *detectors]
    estimators_speed.main([*sizes, "--out", str(file)])
    assert capsys.readouterr().out.count("rows/s") == 4
    record = json.loads(file.read_text(encoding="utf-8"))
    assert list(record["detectors"]) == detectors
    assert all(figures["rows"] == 500 and figures["score_s"] > 0 for figures in record["detectors"].values())
    ours, reference = record["detectors"]["MemoryDetector"], record["detectors"]["PyOD AutoEncoder"]
    assert f"{ours['rows_per_s'] / reference['rows_per_s']:.1f}" in estimators_speed.speed_section(record)


def test_rows_are_the_same_each_time_and_others_by_seed() -> None:
    first, again, other = (estimators_speed.make_rows(50, seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).all()


def test_the_docs_quote_the_record() -> None:
    text = estimators_speed.DOCS.read_text(encoding="utf-8")
    record = None
    if estimators_speed.RECORD.is_file():
        record = json.loads(estimators_speed.RECORD.read_text(encoding="utf-8"))
    assert estimators_speed.update_docs(text, record) == text
