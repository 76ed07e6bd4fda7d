"""benchmarks/label_errors_tables.py on its smallest table, and the section of docs/audit.md about it."""

import json
from pathlib import Path

import label_errors_tables
import pytest


@pytest.mark.slow
def test_every_ranking_is_measured_on_a_table(tmp_path: Path) -> None:
    out = tmp_path / "labels.json"
    label_errors_tables.main(["--seeds", "2", "--tables", "wine", "--out", str(out)])
    record = json.loads(out.read_text(encoding="utf-8"))
    table = record["tables"]["wine"]
    assert (table["rows"], table["columns"], len(table["seeds"])) == (178, 13, 2)
    for seed in table["seeds"]:
        assert seed["flipped"] == 9
        assert len(seed["precision"]) == 6
        assert min(seed["precision"].values()) > 0.5
    assert "wine 178 rows, 9 flipped" in label_errors_tables.results_table(record)


def test_docs_quote_the_record() -> None:
    text = label_errors_tables.DOCS.read_text(encoding="utf-8")
    record = json.loads(label_errors_tables.RECORD.read_text(encoding="utf-8"))
    assert label_errors_tables.update_page(text, record) == text
