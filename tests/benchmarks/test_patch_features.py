"""benchmarks/patch_features.py at its smallest size, and the section of docs/features.md that quotes its record."""

import json
from pathlib import Path

import patch_features
import pytest

from ae_models.spec import PatchBankScoreSpec


@pytest.mark.slow
def test_a_frozen_network_is_trained_exported_and_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [name] = patch_features.SCORES["onnx"]
    monkeypatch.setattr(patch_features, "SCORES", {"onnx": {name: PatchBankScoreSpec(rows=30)}})
    out = tmp_path / "patches.json"
    patch_features.main(["--seeds", "1", "--share", "0.13", "--backbone-steps", "10", "--out", str(out)])
    record = json.loads(out.read_text(encoding="utf-8"))
    [figures] = record["seeds"]
    assert 0 < figures[name]["auroc"] < 1
    assert 0 <= figures[name]["caught"] <= 1
    record["seeds"].append({name: figures[name] | {"auroc": figures[name]["auroc"] + 0.02}})
    table = patch_features.results_table(record)
    assert f"| {name} | {figures[name]['auroc'] + 0.01:.3f} ± 0.014 |" in table
    assert "Means over 2 seeds" in table


def test_docs_quote_the_record() -> None:
    text = patch_features.DOCS.read_text(encoding="utf-8")
    record = json.loads(patch_features.RECORD.read_text(encoding="utf-8")) if patch_features.RECORD.is_file() else None
    assert patch_features.update_features_page(text, record) == text
