"""When alarms start a retrain: k of n, the cooldown, the budget; and the lines that outlive a kill."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ae_models.spec import SpecReader
from aeops.errors import DataError
from aeops.monitoring import paths, retrains
from aeops.monitoring.decision import decide_retrain
from aeops.monitoring.retrains import RetrainRecord
from aeops.project import Project
from aeops.recipe.monitoring import MonitorSpec

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ALARM = {"scores": "alarm"}


@pytest.fixture
def bare(tmp_path: Path) -> Project:
    return Project(root=tmp_path, home=tmp_path / ".ae")


def begun(days_ago: float) -> RetrainRecord:
    return RetrainRecord("a" * 32, (NOON - timedelta(days=days_ago)).isoformat(), "1", ("scores",), "flow run")


def test_one_alarm_starts_a_retrain_where_one_is_needed_and_quiet_or_unknown_signals_do_not() -> None:
    assert decide_retrain("digits", MonitorSpec(), ALARM, [], NOON).is_due
    assert not decide_retrain("digits", MonitorSpec(), {"scores": "quiet", "codes": "unknown"}, [], NOON).is_due


def test_only_signals_that_count_are_counted_and_as_many_as_needed_must_alarm() -> None:
    spec = MonitorSpec(needed=2, signals=("scores", "codes"))
    assert not decide_retrain("digits", spec, {"scores": "alarm", "volume": "alarm", "codes": "quiet"}, [], NOON).is_due
    both = decide_retrain("digits", spec, {"scores": "alarm", "codes": "alarm"}, [], NOON)
    assert both.is_due
    assert both.alarms == ("scores", "codes")


def test_the_cooldown_holds_a_retrain_until_its_last_moment_and_says_until_when() -> None:
    spec = MonitorSpec(cooldown_days=3)
    held = decide_retrain("digits", spec, ALARM, [begun(2.9)], NOON)
    assert not held.is_due
    assert "cooldown_days holds the next until 2026-03-01 14:24" in "; ".join(held.reasons)
    assert decide_retrain("digits", spec, ALARM, [begun(3)], NOON).is_due


def test_a_retrain_that_a_wrong_clock_dated_a_year_ahead_holds_nothing_up() -> None:
    spec = MonitorSpec(cooldown_days=3, retrains_a_month=2)
    decided = decide_retrain("digits", spec, ALARM, [begun(5), begun(-365)], NOON)
    assert decided.is_due
    assert "1 earlier retrains dated ahead of the clock" in "; ".join(decided.reasons)
    assert not decide_retrain("digits", spec, ALARM, [begun(-365), begun(-0.001)], NOON).is_due  # two machines' clocks


def test_the_budget_counts_thirty_days_and_no_more() -> None:
    spec = MonitorSpec(cooldown_days=0, retrains_a_month=2)
    spent = decide_retrain("digits", spec, ALARM, [begun(29), begun(5)], NOON)
    assert not spent.is_due
    assert "retrains_a_month allows 2" in "; ".join(spent.reasons)
    assert decide_retrain("digits", spec, ALARM, [begun(30), begun(5)], NOON).is_due
    assert not decide_retrain("digits", MonitorSpec(retrains_a_month=0), ALARM, [], NOON).is_due


def test_a_quiet_look_does_not_speak_of_the_cooldown() -> None:
    assert len(decide_retrain("digits", MonitorSpec(), {"scores": "quiet"}, [begun(1)], NOON).reasons) == 1


def test_every_mistake_of_the_section_is_told() -> None:
    reader = SpecReader("digits.yaml")
    given = {"level": 2, "needed": 1, "signals": ["scores", "score"], "volume": {"min": 9, "max": 3}, "cool_down": 3}
    assert reader.read(MonitorSpec, given, "monitor") is None
    told = "\n".join(reader.mistakes)
    for words in ("monitor.level", "did you mean scores?", "min must not be above max", "did you mean cooldown_days?"):
        assert words in told
    assert reader.read(MonitorSpec, {"needed": 2, "signals": ["scores"]}, "monitor") is not None
    assert "so many can never alarm" in reader.mistakes[-1]


# ---------------------------------------------------------------- retrains.jsonl


def test_a_retrain_is_told_by_its_two_lines(bare: Project) -> None:
    first = retrains.begin_retrain(bare, "digits", NOON, "1", ("scores", "codes"))
    assert retrains.find_unfinished_retrain(retrains.read_retrains(bare, "digits")) == first
    retrains.finish_retrain(bare, "digits", first, "0a1b")
    [found] = retrains.read_retrains(bare, "digits")
    assert (found.flow_run, found.signals, found.timestamp) == ("0a1b", ("scores", "codes"), NOON)
    assert retrains.find_unfinished_retrain([found]) is None
    assert len(first.id) == 32


def test_half_a_line_was_never_a_promise_and_is_cut_away(bare: Project) -> None:
    kept = retrains.begin_retrain(bare, "digits", NOON, "1", ("scores",))
    file = paths.retrains_file(bare, "digits")
    file.write_bytes(file.read_bytes() + b'{"event": "begun", "id": "torn')
    assert retrains.read_retrains(bare, "digits") == [kept]
    retrains.finish_retrain(bare, "digits", kept, "0a1b")
    assert [json.loads(line)["event"] for line in file.read_text().splitlines()] == ["begun", "started"]


def test_a_line_that_was_changed_stops_monitoring_and_says_where(bare: Project) -> None:
    retrains.begin_retrain(bare, "digits", NOON, "1", ("scores",))
    file = paths.retrains_file(bare, "digits")
    file.write_text(file.read_text() + '{"event": "started", "id": "unknown", "flow_run": "x"}\n')
    with pytest.raises(DataError, match=r"line 2 of .*retrains\.jsonl.*ae run digits"):
        retrains.read_retrains(bare, "digits")


def test_a_process_killed_right_after_the_line_leaves_it_on_the_disk(bare: Project) -> None:
    script = (
        "import os, signal, sys\nfrom datetime import UTC, datetime\nfrom pathlib import Path\n"
        "from aeops.monitoring import retrains\nfrom aeops.project import Project\n"
        "project = Project(root=Path(sys.argv[1]), home=Path(sys.argv[1]) / '.ae')\n"
        "retrains.begin_retrain(project, 'digits', datetime(2026, 3, 1, tzinfo=UTC), '1', ('scores',))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(bare.root)], env=os.environ, check=False, timeout=60)
    assert done.returncode == -9
    left = retrains.find_unfinished_retrain(retrains.read_retrains(bare, "digits"))
    assert left is not None
    assert left.signals == ("scores",)
