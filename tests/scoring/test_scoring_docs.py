"""The figures in docs/scoring.md are those of the record, and it says whether they are what was promised."""

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


def test_the_page_says_whether_the_target_was_met() -> None:
    record = json.loads((ROOT / "benchmarks" / "records" / "batch_scoring.json").read_text())
    assert record["digits"] == 100_000
    assert record["machine"]["platform.threads"] == "2"
    met = max(one["seconds"] for one in record["ways"].values()) < 60
    assert f"Target: under 60 s: {'met' if met else '**missed**'}." in (ROOT / "docs" / "scoring.md").read_text()
