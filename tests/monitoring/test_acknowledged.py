"""`ae alarm`: who has seen an alarm, in the ledger, until the next champion; and what came of a retrain."""

import json
import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from local_receivers import name_webhook, notices_of, receiver
from monitored_project import on_day, promotion_of

from aeops.cli.main import main
from aeops.cli.status import print_status
from aeops.drawing.words import format_odds
from aeops.files import make_folder
from aeops.monitoring import paths
from aeops.monitoring.alarm_answers import describe_alarm_answer
from aeops.monitoring.charts import Timeline, draw_evidence
from aeops.monitoring.drift import order_by_drift
from aeops.monitoring.evidence import EvidenceSeries
from aeops.monitoring.retrains import begin_retrain, end_retrain, finish_retrain, read_retrains
from aeops.monitoring.signals import _describe_evidence
from aeops.monitoring.verdict_text import TOO_FEW, describe_calm
from aeops.project import Project
from aeops.registry import ledger
from aeops.registry.acknowledgement import alarm_evidence, describe_answer, describe_closing, find_acknowledgement, find_closing
from aeops.registry.ledger import Decision
from aeops.stack.alarms import read_alarms
from aeops.stack.status import read_stack_status

ALARMS = [{"name": "scores", "since": "2026-11-20"}, {"name": "codes", "since": "2026-11-21"}]


def write_alarms(project: Project) -> None:
    """Write the verdict of a check of version 1 with two alarms."""
    signals = [one | {"verdict": "alarm", "says": f"{one['name']} have moved", "counts": True} for one in ALARMS]
    file = paths.verdict_file(project, "digits")
    make_folder(file.parent)
    document = {"as_of": "2026-11-21T12:00:00+00:00", "version": "1", "signals": signals, "drift": None}
    file.write_text(json.dumps(document), encoding="utf-8")


@pytest.fixture
def alarmed(registered: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The registered champion, whose last check found two alarms."""
    copied = Project(Path(shutil.copytree(registered.root, tmp_path / "copy")), tmp_path / "copy" / ".ae")
    write_alarms(copied)
    monkeypatch.chdir(copied.root)
    for name in ("MLFLOW_TRACKING_URI", "AE_HOME"):
        monkeypatch.delenv(name, raising=False)
    return copied


@pytest.mark.slow
def test_an_alarm_that_was_seen_is_in_the_ledger_with_who_and_why_once(
    alarmed: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["alarm", "list"]) == 0
    assert "not seen yet: ae alarm ack digits --why TEXT" in capsys.readouterr().out
    assert main(["alarm", "ack", "digits", "--by", "ada", "--why", "a new lamp"]) == 0
    assert "scores, codes of digits 1, by ada: line 2 of the ledger" in capsys.readouterr().out
    assert main(["alarm", "ack", "digits", "--by", "bob", "--why", "the lens"]) == 0
    again = capsys.readouterr().out
    assert "by ada before: line 2 of the ledger, a new lamp" in again
    assert "recorded   nothing" in again, "bob learns that his reason is not in the ledger"
    entries = ledger.read_entries(alarmed, "digits")
    assert [(entry.event, entry.who, entry.why) for entry in entries[1:]] == [("acknowledgement", "ada", "a new lamp")]
    assert ledger.champion_at(entries) == "1", "the champion stays"
    assert main(["alarm", "list", "--json"]) == 0
    assert [(row["signal"], row["seen_by"]) for row in json.loads(capsys.readouterr().out)] == [
        ("scores", "ada"),
        ("codes", "ada"),
    ]
    assert main(["ledger", "verify", "digits"]) == 0


@pytest.mark.slow
def test_the_receivers_are_told_who_has_seen_it_and_what_closes_it(alarmed: Project) -> None:
    with receiver(200) as seen:
        name_webhook(alarmed.root, seen.address)
        assert main(["alarm", "ack", "digits", "--by", "ada", "--why", "a new lamp"]) == 0
        assert main(["retire", "digits", "--by", "bob", "--why", "the line has closed"]) == 0
    told = notices_of(seen)
    assert [(one["event"], one["also"], one["action"]) for one in told] == [
        ("answer", None, "acknowledge"),
        ("retirement", "answer", "resolve"),
    ]
    assert told[0]["incident"] == told[1]["incident"] == "digits 1 alarms"
    assert told[0]["title"] == "ada has seen the alarm of digits 1: scores, codes"
    assert "By bob: the line has closed" in str(told[1]["text"])


def test_there_must_be_an_alarm_of_the_present_champion(alarmed: Project, capsys: pytest.CaptureFixture[str]) -> None:
    file = paths.verdict_file(alarmed, "digits")
    document = json.loads(file.read_text(encoding="utf-8"))
    for changed in (document | {"version": "0"}, document | {"signals": []}):
        file.write_text(json.dumps(changed), encoding="utf-8")
        assert main(["alarm", "ack", "digits", "--why", "seen"]) == 2
        assert "no alarm of the present champion of digits" in capsys.readouterr().err


def test_the_status_says_who_has_seen_an_alarm_by_name_and_as_json(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    write_alarms(project)
    entry(project, "acknowledgement", evidence=alarm_evidence(ledger.read_entries(project, "digits"), ALARMS[:1]))
    seen, unseen = read_alarms(project)
    assert (seen.to_dict()["seen_by"], seen.to_dict()["why"], unseen.to_dict()["seen_by"]) == ("ada", "so", None)
    status = read_stack_status(project)
    assert {"recipe", "signal", "says", "as_of", "seen_by", "why"} == set(status["alarms"][0])
    print_status(status)
    head, first, second = capsys.readouterr().out.partition("\nalarms\n")[2].splitlines()[:3]
    assert head.endswith("seen by")
    assert first.rstrip().endswith("ada")
    assert not second.rstrip().endswith("ada")


def entry(project: Project, event: str, **options: object) -> None:
    values = {"who": "ada", "why": "so", "evidence": {"sha256": "1" * 64}} | options
    ledger.append_entry(project, Decision(event, "digits", str(values.pop("version", "1")), **values))  # type: ignore[arg-type]


def test_the_next_champion_closes_an_alarm_and_another_signal_is_another_alarm(project: Project) -> None:
    entries = ledger.read_entries(project, "digits")
    entry(project, "acknowledgement", evidence=alarm_evidence(entries, ALARMS))
    entries = ledger.read_entries(project, "digits")
    assert find_acknowledgement(entries, ["scores"]).why == "so"
    assert find_acknowledgement(entries, ["scores", "inputs"]) is None
    entry(project, "promotion", version="2", from_version="1", to_version="2")
    later = ledger.read_entries(project, "digits")
    assert find_acknowledgement(later, ["scores"]) is None
    assert alarm_evidence(later, ALARMS)["sha256"] != alarm_evidence(entries, ALARMS)["sha256"]


def test_a_retrain_is_answered_by_the_first_decision_after_it(project: Project) -> None:
    started = on_day(promotion_of(project), 0) - timedelta(days=1)
    assert describe_answer([], started) == "no version has come of it yet"
    first = ledger.read_entries(project, "digits")
    assert describe_answer(first, started).startswith("version 1 became champion on ")
    after = first[-1].timestamp
    entry(project, "refusal", version="2", why="worse")
    assert describe_answer(ledger.read_entries(project, "digits"), after) == "version 2 was refused: worse"


def test_alarms_are_closed_by_the_entry_by_which_their_version_stopped_being_champion(project: Project) -> None:
    said = []
    for event, before, after in (("promotion", "1", "2"), ("rollback", "2", "1"), ("retirement", "1", None)):
        entry(project, event, version=after or before, from_version=before, to_version=after)
        closing = find_closing(ledger.read_entries(project, "digits"), before)
        assert closing is not None
        said.append(describe_closing(closing).partition(" on ")[0])
    assert said == ["version 2 became champion", "ada made version 1 champion again", "ada retired version 1"]
    entries = ledger.read_entries(project, "digits")
    second = find_closing(entries, "2")
    assert second is not None
    assert second.event == "rollback", "not the retirement after it"
    assert find_closing(entries, None) is None


def test_a_retrain_without_a_version_says_why(project: Project) -> None:
    promoted = promotion_of(project)
    assert end_retrain(project, "digits", "run 1", "nothing new") is None, "nothing was started"
    retrain = begin_retrain(project, "digits", promoted + timedelta(hours=1), "1", ("scores",))
    finish_retrain(project, "digits", retrain, "run 1")
    end_retrain(project, "digits", "another run", "nothing new")
    [started] = read_retrains(project, "digits")
    assert (started.flow_run, started.outcome) == ("run 1", None)
    verdict, entries = {"version": "1", "decision": {"why": ["not yet"]}}, ledger.read_entries(project, "digits")
    moment = f"{started.timestamp:%Y-%m-%d %H:%M}"
    assert describe_alarm_answer(verdict, [started], entries) == f"the retrain of {moment}: no version has come of it yet"
    end_retrain(project, "digits", "run 1", "nothing new for digits: trained nothing")
    [ended] = read_retrains(project, "digits")
    said = describe_alarm_answer(verdict, [ended], entries)
    assert said == f"the retrain of {moment}: nothing new for digits: trained nothing"
    assert describe_alarm_answer(verdict | {"version": "2"}, [ended], entries) == "no retrain was started: not yet"
    due = {"version": "1", "decision": {"retrain": True, "why": ["3 of 5 raised an alarm"], "command": "ae run digits"}}
    started_at = promoted - timedelta(hours=1)
    assert describe_alarm_answer(due, [], entries) == (
        "a retrain is due: 3 of 5 raised an alarm. A check of the schedule starts it, or you: ae run digits"
    )
    assert describe_answer(entries, started_at, "it failed: no disk").startswith("it failed: no disk; later version 1 became")


def test_an_alarm_is_closed_at_once_by_the_next_champion(alarmed: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert [alarm.signal for alarm in read_alarms(alarmed)] == ["scores", "codes"]
    paths.retrains_file(alarmed, "digits").unlink(missing_ok=True)  # of another test of the same champion
    assert main(["alarm", "list"]) == 0
    assert "no retrain was started: nobody has looked yet" in capsys.readouterr().out
    entry(alarmed, "promotion", version="2", from_version="1", to_version="2")
    assert read_alarms(alarmed) == []
    assert main(["alarm", "list"]) == 0
    assert capsys.readouterr().out == "no alarm\n"


def test_a_check_without_samples_enough_is_not_called_quiet() -> None:
    def verdict(*words: str) -> dict:
        signals = [{"name": name, "verdict": word} for name, word in zip(("scores", "codes", "stale"), words, strict=True)]
        return {"signals": signals}

    assert describe_calm(verdict("unknown", "unknown", "quiet")) == TOO_FEW
    assert describe_calm(verdict("unknown", "quiet", "quiet")) == "quiet"


def test_columns_are_ordered_by_how_much_they_have_drifted() -> None:
    random = np.random.default_rng(0)
    reference = pd.DataFrame({name: random.normal(size=300) for name in ("same", "far", "near")})
    recent = reference.add([0.0, 3.0, 0.5])
    assert order_by_drift(reference, recent, ["same", "far", "near"]) == ["far", "near", "same"]
    constant = pd.DataFrame({"constant": np.ones(300)})
    assert order_by_drift(constant, constant, ["constant"]) == ["constant"]


def test_the_level_is_written_as_all_odds_are(tmp_path: Path) -> None:
    evidence = EvidenceSeries([date(2026, 11, 21)], np.array([1.0]), np.array([[1.0]]))
    assert _describe_evidence(1.0, 1.0, 1e-5, None).endswith(", 10⁵ to 1 would be an alarm")
    former = {"2026-11-01": {"scores": [(datetime(2026, 11, 21, 6, tzinfo=UTC), 2.0)]}}
    for name, past in (("one", {}), ("two", former)):
        timeline = Timeline([date(2026, 11, 21)], {date(2026, 11, 21): "1"}, [])
        draw_evidence(tmp_path / f"{name}.svg", timeline, {"scores": evidence}, past, 1e-5)
    drawn = (tmp_path / "one.svg").read_text(encoding="utf-8"), (tmp_path / "two.svg").read_text(encoding="utf-8")
    assert "alarm: 10⁵ to 1" in drawn[0]
    circles = [svg.count("<use ") for svg in drawn]
    assert circles[1] == circles[0] + 1, "a single check of a former champion is a dot, as it makes no line"


@pytest.mark.parametrize(("power", "text"), [(0, "1 to 1"), (3, "1,000 to 1"), (-2, "0.01 to 1"), (12, "10¹² to 1")])
def test_odds_have_one_notation(power: float, text: str) -> None:
    assert format_odds(power) == text
