"""benchmarks/false_alarms.py at its smallest size, and the section of docs/thresholds.md that quotes its record."""

import json
from pathlib import Path

import false_alarms
import pytest

SIZES = ["--sets", "digits", "--rates", "0.0005", "0.05", "--splits", "2"]


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(false_alarms, "MAX_ROWS", 800)


def test_each_rate_is_measured_beside_the_quantile_and_a_stored_set_is_not_measured_again(
    few_rows: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "rates.json"
    false_alarms.main([*SIZES, "--out", str(out)])
    record = json.loads(out.read_text(encoding="utf-8"))
    cell = record["cells"]["digits"]
    assert (cell["calibration"], cell["fresh"]) == (240, 240)
    by_rate = {(row["method"], row["rate"]): row for row in cell["rates"]}
    assert set(by_rate) == {
        (false_alarms.EXTRAPOLATED, 0.0005),  # 1,999 calibration samples would be needed
        (false_alarms.CONFORMAL, 0.05),
        (false_alarms.QUANTILE, 0.0005),
        (false_alarms.QUANTILE, 0.05),
    }
    assert 0 < by_rate[false_alarms.CONFORMAL, 0.05]["measured"] < 0.12
    assert by_rate[false_alarms.EXTRAPOLATED, 0.0005]["inside"] is None
    capsys.readouterr()
    false_alarms.main([*SIZES, "--out", str(out)])
    assert not capsys.readouterr().out.startswith("digits")
    assert json.loads(out.read_text(encoding="utf-8")) == record
    section = false_alarms.summarize(record)
    assert "At 5.0%: split-conformal" in section
    assert "no promise" in section


def test_a_table_with_a_share_below_95_per_cent_is_called_broken() -> None:
    rows = [
        {"method": false_alarms.CONFORMAL, "rate": 0.01, "measured": 0.01, "highest": 0.02, "inside": 190, "splits": 200},
        {"method": false_alarms.QUANTILE, "rate": 0.01, "measured": 0.03, "highest": 0.05, "inside": 150, "splits": 200},
    ]
    record = {"settings": {"rates": [0.01]}, "cells": {"one": {"calibration": 300, "rates": rows}}}
    section = false_alarms.summarize(record)
    assert "split-conformal 190 of 200 splits inside, 95.0% (p = 0.55): **kept**" in section
    assert "contamination quantile 150 of 200 splits inside, 75.0%" in section
    assert "**broken**" in section


def test_the_page_quotes_the_record() -> None:
    text = false_alarms.DOCS.read_text(encoding="utf-8")
    record = json.loads(false_alarms.RECORD.read_text(encoding="utf-8"))
    assert false_alarms.update_page(text, record) == text
