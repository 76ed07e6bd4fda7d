"""benchmarks/score_cost.py at its smallest size, and the section of docs/scores.md that quotes its record."""

import json
from pathlib import Path

import pytest
import score_cost


@pytest.mark.slow
def test_each_score_is_exported_and_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = list(score_cost.list_scores(50))
    measured = {name: score for name, score in score_cost.list_scores(50).items() if name in (names[0], names[-1])}
    monkeypatch.setattr(score_cost, "list_scores", lambda bank: measured)
    monkeypatch.setattr(score_cost, "TIMED_SAMPLES", 64)
    out = tmp_path / "cost.json"
    score_cost.main(["--bank", "50", "--turns", "1", "--out", str(out)])
    record = json.loads(out.read_text(encoding="utf-8"))
    single, combined = (record["scores"][name] for name in (names[0], names[-1]))
    assert 0 < single["batch_milliseconds"] < combined["batch_milliseconds"]
    assert single["model_bytes"] < combined["model_bytes"]
    assert names[-1] in score_cost.cost_table(record)


def test_docs_quote_the_record() -> None:
    text = score_cost.DOCS.read_text(encoding="utf-8")
    record = json.loads(score_cost.RECORD.read_text(encoding="utf-8")) if score_cost.RECORD.is_file() else None
    assert score_cost.update_scores_page(text, record) == text
