"""benchmarks/contaminated.py at its smallest size, its draws, and the section of docs/contaminated.md that quotes its record."""

import json
from pathlib import Path

import contaminated
import numpy as np
import pytest
from data_project import shared_data


def test_every_setting_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contaminated, "SETS", {"digits": contaminated.read_digits})
    monkeypatch.setattr(contaminated, "LEVELS", (0.1,))
    out = tmp_path / "contaminated.json"
    contaminated.main(["--seeds", "1", "--scale", "0.1", "--epochs", "1", "--out", str(out)])
    record = json.loads(out.read_text(encoding="utf-8"))
    assert [(cell["level"], cell["score"]) for cell in record["cells"]] == [(0.1, "residual"), (0.1, "hull of edges")]
    for cell in record["cells"]:
        plain, trained, _, both = cell["settings"].values()
        assert plain["auroc"] != trained["auroc"]  # another model
        assert trained["auroc"] == both["auroc"]  # the same model with another threshold
        assert both["false_alarms"] >= trained["false_alarms"]
    table = contaminated.results_table(record)
    assert table.count("| digits |") == 8
    assert "150 training and 60 calibration samples" in table


def test_a_draw_holds_as_many_anomalies_as_its_level_says_and_shares_none_with_the_test() -> None:
    shared_data("mnist")
    mixed = contaminated.read_eights()
    draw = contaminated.draw_samples(mixed, 0.05, 3, 0.2)
    anomalies = {image.tobytes() for image in mixed.anomalies}
    parts = {
        name: [image.tobytes() for image in getattr(draw, name)] for name in ("train", "calibration", "normals", "anomalies")
    }
    assert sum(image in anomalies for image in parts["train"]) == 15
    assert sum(image in anomalies for image in parts["calibration"]) == 6
    assert not anomalies & set(parts["normals"])
    assert not set(parts["anomalies"]) & set(parts["train"] + parts["calibration"])
    again = contaminated.draw_samples(mixed, 0.05, 3, 0.2)
    np.testing.assert_array_equal(draw.train, again.train)


def test_docs_quote_the_record() -> None:
    text = contaminated.DOCS.read_text(encoding="utf-8")
    record = json.loads(contaminated.RECORD.read_text(encoding="utf-8")) if contaminated.RECORD.is_file() else None
    assert contaminated.update_page(text, record) == text
