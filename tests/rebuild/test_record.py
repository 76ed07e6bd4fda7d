"""What docs/rebuild.md says was measured is what the record holds."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
RECORD = json.loads((ROOT / "benchmarks" / "records" / "five_versions.json").read_text(encoding="utf-8"))


def test_five_versions_went_through_every_decision_and_each_was_rebuilt_identical() -> None:
    assert RECORD["rebuilt"] == dict.fromkeys("12345", "identical")
    assert set(RECORD["events"]) == {"promotion", "refusal", "request", "approval", "rollback"}
    assert RECORD["champions"][-1] != RECORD["champions"][-2], "the rollback moved the champion"


def test_the_page_tells_how_long_a_rebuild_took() -> None:
    seconds = [value for name, value in RECORD["seconds"].items() if name.startswith("rebuild of ")]
    page = " ".join((ROOT / "docs" / "rebuild.md").read_text(encoding="utf-8").split())
    told = re.search(r"five times identical, in (\d+) to (\d+) s each", page)
    assert told is not None
    assert [int(one) for one in told.groups()] == [round(min(seconds)), round(max(seconds))]
