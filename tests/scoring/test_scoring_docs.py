"""The figures in docs/scoring.md are those of the record, and the record is what was promised."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_figures_in_the_page_are_those_of_the_record() -> None:
    record = json.loads((ROOT / "benchmarks" / "records" / "batch_scoring.json").read_text())
    page = (ROOT / "docs" / "scoring.md").read_text()
    table = re.search(r"<!-- record -->\n(.*?)<!-- record: end -->", page, re.DOTALL)
    assert table is not None
    told = {"ten_files": "ten files", "one_file": "one file"}
    for way, name in told.items():
        one = record["ways"][way]
        line = f"| {name} | {one['seconds']:.1f} s | {one['digits_per_second']:,.0f} | {one['peak_mib']:.0f} MiB |"
        assert f"{line} {record['share_of_bare_speed'][way]:.0%} |" in table[1]
    bare = record["bare_onnxruntime_seconds"]
    assert f"| bare onnxruntime | {bare:.1f} s | {record['digits'] / bare:,.0f} | | |" in table[1]
    assert record["machine"]["platform.cpu"] in table[1]


def test_a_hundred_thousand_digits_were_scored_in_under_a_minute_on_two_cores() -> None:
    record = json.loads((ROOT / "benchmarks" / "records" / "batch_scoring.json").read_text())
    assert record["digits"] == 100_000
    assert record["machine"]["platform.threads"] == "2"
    assert max(one["seconds"] for one in record["ways"].values()) < 60
