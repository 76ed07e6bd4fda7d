"""benchmarks/patch_features.py at its smallest size, and the section of docs/features.md that quotes its record."""

import json
from pathlib import Path

import patch_features


def test_each_detector_is_measured_with_each_seed(tmp_path: Path) -> None:
    out = tmp_path / "patches.json"
    patch_features.main(["--seeds", "2", "--share", "0.15", "--epochs", "1", "--backbone-steps", "20", "--out", str(out)])
    record = json.loads(out.read_text(encoding="utf-8"))
    assert len(record["seeds"]) == 2
    for figures in record["seeds"]:
        assert list(figures) == [name for scores in patch_features.SCORES.values() for name in scores]
        for detector in figures.values():
            assert 0.3 < detector["auroc"] <= 1
            assert 0 <= detector["caught"] <= 1
    first, second = record["seeds"]
    assert all(first[name]["auroc"] != second[name]["auroc"] for name in first)
    assert "| patches of a frozen network |" in patch_features.results_table(record)


def test_docs_quote_the_record() -> None:
    text = patch_features.DOCS.read_text(encoding="utf-8")
    record = json.loads(patch_features.RECORD.read_text(encoding="utf-8")) if patch_features.RECORD.is_file() else None
    assert patch_features.update_features_page(text, record) == text
