"""What the receivers are told of runs, checks and decisions, and what those do to alarms that are open."""

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from local_receivers import name_webhook, notices_of, receiver

from aeops.errors import DataError
from aeops.machine.stack_settings import Settings, remove_settings, write_settings
from aeops.monitoring import paths
from aeops.monitoring.run_notices import count_decisions, tell_alarms, tell_failure, tell_quarantine, tell_result
from aeops.project import Project
from aeops.registry import ledger
from aeops.registry.ledger import Decision

RUN_URL = "http://mlflow.example.org:5000/#/run"
FALSE_ALARMS = {"measured": 0.012, "requested": 0.01}
DECISION = {"retrain": False, "why": ["not yet"], "signals": [], "command": "", "id": None, "flow_run": None}


@pytest.fixture
def seen(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """What a webhook is sent, of a project whose champion 1 has an alarm."""
    monkeypatch.chdir(project.root)
    signals = [{"name": "scores", "verdict": "alarm", "says": "the scores have moved"}]
    verdict = {"recipe": "digits", "version": "1", "as_of": "2026-11-21T12:00:00+00:00", "signals": signals, "drift": None}
    paths.verdict_file(project, "digits").write_text(json.dumps(verdict | {"decision": DECISION}), encoding="utf-8")
    write_settings(project, Settings(page_port=8181))
    with receiver(200) as requests:
        name_webhook(project.root, requests.address)
        yield requests


def summary(version: str, reasons: tuple[str, ...] = ()) -> Any:
    metrics = {"novelty_flagged": 0.34, "false_alarms": FALSE_ALARMS, "detection": {}, "reconstruction": {}}
    return {
        "recipe": "digits",
        "version": version,
        "metrics": metrics,
        "comparison": None,
        "reasons": list(reasons),
        "run_url": RUN_URL,
    }


def decide(project: Project, event: str, version: str, **moves: str) -> None:
    evidence = {"sha256": "1" * 64}
    ledger.append_entry(project, Decision(event, "digits", version, who="ae", why="so", evidence=evidence, **moves))


def test_a_promotion_says_the_verdict_with_a_link_and_closes_the_alarm(project: Project, seen: SimpleNamespace) -> None:
    before = count_decisions(project, "digits")
    tell_result(project, summary("2"), before)
    assert notices_of(seen) == [], "nothing was decided"
    decide(project, "promotion", "2", from_version="1", to_version="2")
    tell_result(project, summary("2"), before)
    [notice] = notices_of(seen)
    assert (notice["event"], notice["also"], notice["action"]) == ("promotion", "answer", "resolve")
    assert notice["title"] == "digits 2 is champion"
    first, second, *_ = str(notice["text"]).splitlines()
    assert first == "It closes the alarms of champion 1: scores."
    assert second.startswith("Accepted. It catches 34.0 % of the known novelty and lets 66.0 % through")
    assert notice["link"] == "http://127.0.0.1:8181/r/digits/report"


def test_without_a_page_the_link_is_that_of_a_shared_mlflow(
    project: Project, seen: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove_settings(project)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example.org:5000")
    decide(project, "promotion", "2", from_version="1", to_version="2")
    tell_result(project, summary("2"), count_decisions(project, "digits") - 1)
    assert [notice["link"] for notice in notices_of(seen)] == ["http://mlflow.example.org:5000/#/run"]


def test_a_refusal_says_why_and_that_the_alarm_stays(project: Project, seen: SimpleNamespace) -> None:
    before = count_decisions(project, "digits")
    decide(project, "refusal", "2")
    tell_result(project, summary("2", ("its AUROC is 0.5", "and so on")), before)
    [notice] = notices_of(seen)
    assert (notice["event"], notice["also"], notice["action"]) == ("refusal", "answer", "trigger")
    text = str(notice["text"])
    assert "The alarms of champion 1 (scores) stay" in text
    assert "Refused: its AUROC is 0.5, and for 1 more reason." in text


def test_a_version_that_waits_says_the_commands_that_decide(project: Project, seen: SimpleNamespace) -> None:
    before = count_decisions(project, "digits")
    decide(project, "request", "2")
    tell_result(project, summary("2"), before)
    [notice] = notices_of(seen)
    assert (notice["event"], notice["also"]) == ("approval", None)
    assert "ae approve digits 2 --why TEXT" in str(notice["text"])


def test_an_alarm_is_told_once_and_not_where_a_person_has_seen_it(
    project: Project, seen: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    verdict = json.loads(paths.verdict_file(project, "digits").read_text())
    for _ in range(3):
        tell_alarms(project, verdict)
    [notice] = notices_of(seen)
    assert (notice["event"], notice["title"]) == ("alarm", "alarm of digits 1: scores")
    assert "scores: the scores have moved\nRetrain: not yet" in str(notice["text"])
    assert str(notice["link"]).endswith("/r/digits/monitoring")
    assert capsys.readouterr().err.count("notify: ops was notified") == 1
    verdict["signals"].append({"name": "codes", "verdict": "alarm", "says": "too"})
    tell_alarms(project, verdict)
    assert [one["title"] for one in notices_of(seen)][1:] == ["alarm of digits 1: scores, codes"]
    seen.requests.clear()
    (project.home / "notifications" / "sent.json").unlink()
    names = {"sha256": "2" * 64, "signals": "codes,scores"}
    ledger.append_entry(project, Decision("acknowledgement", "digits", "1", who="ada", why="a lamp", evidence=names))
    tell_alarms(project, verdict)
    assert notices_of(seen) == []


def test_a_failure_is_told_with_the_message_of_the_command_line(project: Project, seen: SimpleNamespace) -> None:
    tell_failure(project, "digits", "training of digits", DataError("4,998 of 5,000 rows fail"))
    tell_failure(project, "digits", "training of digits", ZeroDivisionError("division by zero"))
    first, second = notices_of(seen)
    assert (first["title"], first["severity"]) == ("training of digits has failed", "error")
    assert str(first["text"]).startswith("4,998 of 5,000 rows fail\n")
    assert str(second["text"]).startswith("ZeroDivisionError: division by zero, a fault of ae itself\n")


def test_a_large_quarantine_is_told_and_a_small_one_is_not(project: Project, seen: SimpleNamespace) -> None:
    def counts(count: int) -> Any:
        return {"count": count, "given": 5000, "reasons": {"mean": count}, "folder": "quarantine/digits"}

    tell_quarantine(project, "digits", None, "a" * 64)
    tell_quarantine(project, "digits", counts(100), "a" * 64)
    assert notices_of(seen) == []
    tell_quarantine(project, "digits", counts(101), "a" * 64)
    [notice] = notices_of(seen)
    assert notice["title"] == "digits set aside 2.0 % of its samples"
    assert "101 of 5,000 samples went to quarantine, by mean (101)" in str(notice["text"])
