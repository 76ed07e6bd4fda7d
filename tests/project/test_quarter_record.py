"""What docs/monitoring.md tells of the quarter is what its record holds, and the record is the story that was promised."""

import itertools
import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
RECORD = json.loads((ROOT / "benchmarks" / "records" / "quarter.json").read_text(encoding="utf-8"))


def test_the_page_tells_the_record() -> None:
    page = " ".join((ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8").split())
    [noticed] = [day for day, told in RECORD["told"] if told.startswith("alarm")]
    assert f"on day {RECORD['change_on_day']} a digit that nobody has seen" in page
    assert f"on day {noticed} the evidence has passed 1,000 to 1" in page
    assert f"{RECORD['requests']:,} requests, none failed" in page


def test_the_record_is_of_a_whole_story() -> None:
    assert RECORD["failed_requests"] == []
    assert len([told for _, told in RECORD["told"] if told.startswith("retrain by schedule")]) == 2
    assert [f"promotion of {version}" for version in RECORD["versions_that_answered"]] == RECORD["events"]
    assert RECORD["ledger"].startswith("stream: whole")
    assert not [day for (day, _), (later, _) in itertools.pairwise(RECORD["told"]) if later < day]
