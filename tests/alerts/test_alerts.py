"""Notifications to receivers on this machine: what they get, what is tried again, what is held back."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from local_receivers import mail_server, receiver

from aeops.alerts import formats
from aeops.alerts.notification import Notification, NotifyTarget
from aeops.alerts.sending import ATTEMPTS, WAITS, notify
from aeops.recipe.notify_settings import EVENTS

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
ALARM = Notification(
    "alarm",
    "digits",
    "alarm of digits: scores",
    "scores <have> moved; type `ae monitor digits`",
    "digits scores",
    NOON,
    "http://127.0.0.1:8080/r/digits",
)


def send(target: NotifyTarget, record: Path, notification: Notification = ALARM) -> tuple[str, str, int, list[float]]:
    """Send to one target; return state, reason, attempts and the waits."""
    waits: list[float] = []
    (result,) = notify(notification, [target], record, waits.append)
    return result.state, result.reason, result.attempts, waits


def test_a_webhook_is_signed_so_that_a_changed_or_an_old_one_is_found_out(tmp_path: Path) -> None:
    with receiver(200) as seen:
        target = NotifyTarget("ops", "webhook", seen.address, secret="key")
        assert send(target, tmp_path / "sent.json") == ("sent", "", 1, [])
    (path, headers, body) = seen.requests[0]
    assert (path, json.loads(body)) == ("/hook/secret-part", formats.describe(ALARM))
    timestamp = int(headers[formats.TIMESTAMP_HEADER])
    signature = headers[formats.SIGNATURE_HEADER]
    assert formats.is_signed(body, "key", timestamp, signature)
    for other in ((body + b" ", "key", timestamp), (body, "other", timestamp), (body, "key", timestamp + 1)):
        assert not formats.is_signed(*other, signature)


def test_slack_gets_a_text_without_mentions_and_a_link(tmp_path: Path) -> None:
    with receiver(200) as seen:
        assert send(NotifyTarget("chat", "slack", seen.address), tmp_path / "sent.json")[0] == "sent"
    body = json.loads(seen.requests[0][2])
    text = body["blocks"][0]["text"]["text"]
    assert text.startswith(":warning: *alarm of digits: scores*\nscores &lt;have&gt; moved")
    assert text.endswith(f"<{ALARM.link}|Open the page>")
    assert len(formats.slack_body(ALARM)["blocks"][0]["text"]["text"]) < 3000


def test_pagerduty_gets_one_incident_a_key(tmp_path: Path) -> None:
    with receiver(202) as seen:
        target = NotifyTarget("duty", "pagerduty", seen.address, secret="routing")
        assert send(target, tmp_path / "sent.json")[0] == "sent"
    body = json.loads(seen.requests[0][2])
    assert (body["routing_key"], body["event_action"], body["dedup_key"]) == ("routing", "trigger", "digits scores")
    assert (body["payload"]["severity"], body["payload"]["source"]) == ("warning", "digits")
    assert body["payload"]["severity"] in ("critical", "error", "warning", "info")
    assert body["links"] == [{"href": ALARM.link, "text": "Open the page"}]


def test_a_mail_has_a_subject_of_one_line_and_the_text(tmp_path: Path) -> None:
    hostile = Notification("failure", "digits", "train failed\nBcc: all@example.org", "no disk left", "digits train", NOON)
    with mail_server() as seen:
        target = NotifyTarget("mail", "email", seen.address, sender="ae@example.org", recipients=("ada@example.org",))
        assert send(target, tmp_path / "sent.json", hostile)[0] == "sent"
    (text,) = seen.mails
    assert "Subject: [ae] train failed Bcc: all@example.org\r\n" in text
    assert "\nBcc:" not in text
    assert text.replace("\r\n", "\n").endswith("\n\nno disk left\n")


def test_a_mail_that_the_server_refuses_is_not_tried_again(tmp_path: Path) -> None:
    with mail_server(refuses=True) as seen:
        target = NotifyTarget("mail", "email", seen.address, sender="ae@example.org", recipients=("no@example.org",))
        state, reason, attempts, _ = send(target, tmp_path / "sent.json")
    assert (state, attempts) == ("failed", 1)
    assert "refuses no@example.org" in reason


def test_a_failure_that_may_pass_is_tried_again_and_any_other_is_not(tmp_path: Path) -> None:
    record = tmp_path / "sent.json"
    with receiver(503, 429, 200) as seen:
        assert send(NotifyTarget("chat", "slack", seen.address), record) == ("sent", "", 3, list(WAITS))
    with receiver(404) as seen:
        state, reason, attempts, waits = send(NotifyTarget("other", "slack", seen.address), record)
    assert (state, reason, attempts, waits) == ("failed", "127.0.0.1 answers 404: no such channel", 1, [])
    state, reason, attempts, _ = send(NotifyTarget("gone", "slack", "http://127.0.0.1:9/hook/secret-part"), record)
    assert (state, attempts) == ("failed", ATTEMPTS)
    assert "secret-part" not in reason


def test_the_same_thing_is_sent_once_in_its_hours_and_a_failure_does_not_count(tmp_path: Path) -> None:
    record = tmp_path / "folder" / "sent.json"
    with receiver(404, 200) as seen:
        target = NotifyTarget("chat", "slack", seen.address, repeat_hours=6)
        later = Notification(**vars(ALARM) | {"time": NOON + timedelta(hours=7)})
        other = Notification(**vars(ALARM) | {"key": "digits codes"})
        states = [send(target, record, one)[0] for one in (ALARM, ALARM, ALARM, other, later)]
    assert states == ["failed", "sent", "held back", "sent", "sent"]
    record.write_text("{", encoding="utf-8")
    with receiver(200) as seen:
        assert send(NotifyTarget("chat", "slack", seen.address), record)[0] == "sent", "twice is better than never"


def test_one_target_that_fails_holds_back_no_other(tmp_path: Path) -> None:
    with receiver(200) as seen:
        targets = [NotifyTarget("gone", "slack", "http://127.0.0.1:9/"), NotifyTarget("chat", "slack", seen.address)]
        assert [one.state for one in notify(ALARM, targets, tmp_path / "sent.json", lambda _: None)] == ["failed", "sent"]


def test_a_target_gets_what_it_asks_for_and_every_test() -> None:
    target = NotifyTarget("ops", "slack", recipes=("mnist",), events=("failure",))
    wanted = {
        (event, recipe): target.wants(Notification(event, recipe, "", "", "", NOON))
        for event in (*EVENTS, "test")
        for recipe in ("mnist", "digits", "")
    }
    assert {pair for pair, is_wanted in wanted.items() if is_wanted} == {
        ("failure", "mnist"), ("failure", ""), ("test", "mnist"), ("test", "digits"), ("test", ""),
    }  # fmt: skip
