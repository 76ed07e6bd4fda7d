"""What a receiver did not get waits, survives kills, and is sent once the receiver is there: once, or twice with the same id."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace

import pytest
from checkout import ROOT
from local_receivers import mail_server, name_webhook, notices_of, receiver, served_by

from aeops.alerts import notices, sending, waiting
from aeops.alerts.notices import OpenAlarms
from aeops.alerts.notification import Notification, NotifyTarget
from aeops.alerts.receivers import RETRY_GAP, retry_quietly, send, sent_file, waiting_counts
from aeops.alerts.sending import MAX_FAILURES, notify, retry_waiting, waiting_folder
from aeops.alerts.waiting import MAX_AGE, read_waiting
from aeops.cli import health_checks
from aeops.cli.main import main
from aeops.project import Project

DECISION = notices.decided("digits", "4", "rollback", "Ada", "too many alarms", "abc")
SENDER = """
import sys
from pathlib import Path
from aeops.alerts import notices
from aeops.alerts.receivers import send
from aeops.project import Project
root = Path(sys.argv[1])
send(Project(root, root / ".ae"), notices.decided("digits", "4", "rollback", "Ada", "why", "abc"))
"""


@contextmanager
def killing_receiver() -> Iterator[SimpleNamespace]:
    """A web server that kills who sends the first request, and takes all later ones."""
    seen = SimpleNamespace(bodies=[], address="", pid=0)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            if len(seen.bodies) == 1:
                os.kill(seen.pid, signal.SIGKILL)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with served_by(Handler) as address:
        seen.address = f"{address}/"
        yield seen


def waits(project: Project) -> list[str]:
    return [notice.notification.title for notice in read_waiting(waiting_folder(sent_file(project)))]


def test_a_decision_that_reached_nobody_is_sent_with_the_next_event(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    with receiver(503) as down:
        name_webhook(project.root, down.address)
        send(project, DECISION)
    assert "; it waits, and `ae notify --retry` sends it" in capsys.readouterr().err
    assert waits(project) == [DECISION.title]
    with receiver(200) as up:
        name_webhook(project.root, up.address)
        send(project, notices.failed("digits", "training of digits", "no disk"))
    got = notices_of(up)
    assert [one["event"] for one in got] == ["rollback", "failure"], "what waits comes first"
    assert got[0]["id"] == notices_of(down)[0]["id"] == DECISION.id
    assert "ops was notified of 1 that waited" in capsys.readouterr().err
    assert waits(project) == []


def test_nothing_secret_is_stored(project: Project) -> None:
    name_webhook(project.root, "http://127.0.0.1:9/hook/secret-part")
    send(project, DECISION)
    [file] = waiting_folder(sent_file(project)).iterdir()
    content = file.read_text()
    assert "secret-part" not in content
    assert "127.0.0.1" not in content
    assert json.loads(content)["target"] == "ops"


def test_a_sender_that_is_killed_when_the_receiver_has_it_sends_it_again_with_the_same_id(project: Project) -> None:
    with killing_receiver() as seen:
        name_webhook(project.root, seen.address)
        command = [sys.executable, "-c", "import sys; sys.stdin.readline()\n" + SENDER, str(project.root)]
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE)
        seen.pid = process.pid
        process.communicate(b"\n")
        assert process.returncode == -signal.SIGKILL
        assert len(waits(project)) == 1
        retry_quietly(project)
        assert len(seen.bodies) == 2
        assert seen.bodies[0]["id"] == seen.bodies[1]["id"]
        assert waits(project) == []
        retry_quietly(project)
        assert len(seen.bodies) == 2


def test_one_that_was_killed_after_it_wrote_down_what_was_sent_sends_nothing_again(tmp_path: Path) -> None:
    record = tmp_path / "sent.json"
    with receiver(200) as seen:
        target = NotifyTarget("ops", "slack", seen.address, repeat_hours=0)
        notify(DECISION, [target], record)
        sending.keep_waiting(record, target, DECISION)  # as if its file had not been removed
        assert retry_waiting([target], record) == []
    assert len(seen.requests) == 1
    assert list(waiting_folder(record).iterdir()) == []


def test_the_same_thing_waits_once_and_its_newest_words_are_sent(tmp_path: Path) -> None:
    record, later = tmp_path / "sent.json", DECISION.time + timedelta(hours=30)
    down = NotifyTarget("ops", "slack", "http://127.0.0.1:9/")
    for one in (DECISION, replace(DECISION, text="newer", time=later)):
        notify(one, [down], record, lambda _: None)
    [notice] = read_waiting(waiting_folder(record))
    assert (notice.notification.text, notice.attempts) == ("newer", 3)
    with receiver(200) as seen:
        assert [one.state for one in retry_waiting([replace(down, address=seen.address)], record)] == ["sent"]
    assert len(seen.requests) == 1


def test_age_and_number_are_bounded_and_what_is_dropped_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(waiting, "MAX_WAITING", 3)
    record, now = tmp_path / "sent.json", datetime.now(UTC)
    down = NotifyTarget("ops", "slack", "http://127.0.0.1:9/")
    ages = (timedelta(hours=9), MAX_AGE + timedelta(hours=1), timedelta(hours=2), timedelta(hours=1))
    for number, age in enumerate(ages):
        notify(replace(DECISION, key=str(number), title=f"number {number}", time=now - age), [down], record, lambda _: None)
    folder = waiting_folder(record)
    assert [one.notification.title for one in read_waiting(folder)] == ["number 0", "number 2", "number 3"]
    assert "`number 1` any more: more than 3 wait" in capsys.readouterr().err
    notify(replace(DECISION, key="4", title="number 4", time=now - MAX_AGE * 2), [down], record, lambda _: None)
    sending.keep_waiting(record, down, replace(DECISION, key="0", title="number 0", time=now - MAX_AGE * 2))
    retry_waiting([], record)
    assert [one.notification.title for one in read_waiting(folder)] == ["number 2", "number 3"]
    assert "`number 0` any more: it has waited for 7 days" in capsys.readouterr().err


def test_a_receiver_that_is_down_is_tried_a_few_times_and_holds_back_no_other(tmp_path: Path) -> None:
    record = tmp_path / "sent.json"
    with receiver(503) as down, receiver(200) as up:
        targets = [NotifyTarget("down", "slack", down.address), NotifyTarget("up", "slack", up.address)]
        for number in range(4):
            for target in targets:
                sending.keep_waiting(record, target, replace(DECISION, key=str(number)))
        states = [(one.target, one.state) for one in retry_waiting(targets, record)]
        assert states.count(("up", "sent")) == 4
        assert states.count(("down", "failed")) == len(down.requests) == MAX_FAILURES
        assert retry_waiting(targets[:1], record, RETRY_GAP) != [], "the two that were not tried"
        assert retry_waiting(targets[:1], record, RETRY_GAP) == []
    assert len(read_waiting(waiting_folder(record))) == 4


def test_an_alarm_that_waits_is_dropped_when_its_answer_arrives(tmp_path: Path) -> None:
    record, alarms = tmp_path / "sent.json", OpenAlarms("digits", "3", {"scores": "they moved"})
    alarm = notices.alarm(alarms, ["none is due"], "")
    resolved = notices.answered(notices.accepted("digits", "4", "Accepted.", ""), alarms)
    other = notices.alarm(OpenAlarms("mnist", "1", {"codes": "they moved"}), ["none is due"], "")
    with receiver(202) as seen:
        target = NotifyTarget("duty", "pagerduty", seen.address, secret="key")
        for one in (alarm, other):
            sending.keep_waiting(record, target, one)
        notify(resolved, [target], record)
    assert [one.notification.recipe for one in read_waiting(waiting_folder(record))] == ["mnist"]


def test_a_secret_that_is_missing_here_lets_it_wait_for_a_process_that_has_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = {"notify": {"receivers": [{"name": "chat", "kind": "slack", "address": "env:CHAT_ADDRESS"}]}}
    (project.root / "ae.yaml").write_text(json.dumps(document))
    send(project, DECISION)
    assert len(waits(project)) == 1
    with receiver(200) as seen:
        monkeypatch.setenv("CHAT_ADDRESS", seen.address)
        retry_quietly(project)
    assert len(seen.requests) == 1


def test_what_nobody_wants_any_more_and_a_damaged_file_are_removed(project: Project) -> None:
    with receiver(200) as seen:
        name_webhook(project.root, seen.address, events=["alarm"])
        folder = waiting_folder(sent_file(project))
        sending.keep_waiting(sent_file(project), NotifyTarget("ops", "webhook"), DECISION)
        (folder / "cut.json").write_text('{"target": "ops"')
        (folder / "other.json").write_text('{"target": "o", "notification": {"event": "x"}, "attempts": 0, "tried_at": null}')
        retry_quietly(project)
        assert seen.requests == []
        assert list(folder.iterdir()) == []


def test_a_test_and_what_is_sent_at_once_never_wait(project: Project) -> None:
    name_webhook(project.root, "http://127.0.0.1:9/")
    assert main(["notify", "--test"]) == 5
    assert waits(project) == []
    with receiver(200) as seen:
        name_webhook(project.root, seen.address)
        send(project, DECISION)
        assert len(seen.requests) == 1
    assert waits(project) == []


def test_commands_say_how_many_wait_and_send_them(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    name_webhook(project.root, "http://127.0.0.1:9/")
    assert main(["notify", "--retry"]) == 0
    assert "nothing waits" in capsys.readouterr().out
    send(project, DECISION)
    [row] = waiting_counts(project)
    assert (row["receiver"], row["count"]) == ("ops", 1)
    assert main(["notify", "--retry"]) == 5
    assert f"waiting: 1 for ops, since {row['since']}: ae notify --retry" in capsys.readouterr().out
    main(["status", "--json"])
    assert json.loads(capsys.readouterr().out)["waiting_notifications"] == [row]
    main(["status"])
    assert "notifications that did not arrive" in capsys.readouterr().out
    [note] = [one for one in health_checks.check_settings(project) if one.type_this == "ae notify --retry"]
    assert "ops has not got 1 notification, " in note.message
    assert main(["notify", "--retry", "--test"]) == 2
    assert "expected --test or --retry, got both" in capsys.readouterr().err
    with receiver(200) as seen:
        name_webhook(project.root, seen.address)
        assert main(["notify", "--retry", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert ([one["state"] for one in document["tried"]], document["waiting"]) == (["sent"], [])
    assert len(seen.requests) == 1


def test_a_mail_has_the_same_id_each_time(tmp_path: Path) -> None:
    with mail_server() as seen:
        target = NotifyTarget("m", "email", seen.address, sender="a@b", recipients=("c@d",), repeat_hours=0)
        for folder in ("one", "two"):
            notify(DECISION, [target], tmp_path / folder / "sent.json")
    identities = {line for mail in seen.mails for line in mail.splitlines() if line.lower().startswith("message-id")}
    assert identities == {f"Message-ID: <{DECISION.id}@ae>"}
    assert Notification(**vars(DECISION) | {"key": "x"}).id != DECISION.id


# ---------------------------------------------------------------- a run that is stopped

STOPPED = """
import sys, time
from pathlib import Path
from aeops.alerts import receivers
from aeops.cli.stopped_runs import notice_of_stop
from aeops.machine.run_watch import RunWatch
with RunWatch(notice_of_stop("run", "digits")):
    print("works", flush=True)
    time.sleep(60)
"""


def stop_run(project: Project, number: signal.Signals) -> int:
    """End a run of the project by a signal; return its exit code."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", STOPPED]
    with subprocess.Popen(command, cwd=project.root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(number)
        return process.wait(timeout=20)


def test_a_run_that_sigterm_ends_is_told_of_and_one_that_a_person_ends_is_not(project: Project) -> None:
    with receiver(200) as seen:
        name_webhook(project.root, seen.address)
        assert stop_run(project, signal.SIGINT) == 130
        assert seen.requests == []
        assert stop_run(project, signal.SIGTERM) == 143
    [notice] = notices_of(seen)
    assert (notice["event"], notice["title"], notice["recipe"]) == ("stopped", "`ae run digits` was stopped", "digits")
    assert "The same command goes on where it was." in str(notice["text"])
    assert waits(project) == []


def test_where_no_receiver_answers_a_stopped_run_ends_in_time_and_its_notice_waits(project: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        name_webhook(project.root, f"http://127.0.0.1:{silent.getsockname()[1]}/")
        began = time.monotonic()
        assert stop_run(project, signal.SIGTERM) == 143
        assert time.monotonic() - began < 15
    assert waits(project) == ["`ae run digits` was stopped"]
