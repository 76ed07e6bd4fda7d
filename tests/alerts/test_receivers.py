"""`notify` in ae.yaml: what may stand there, where its secrets come from, and what `ae notify` says and sends."""

import json
import re
from datetime import UTC, datetime

import jsonschema
import pytest
from local_receivers import mail_server, name_webhook, notices_of, receiver
from monitored_project import ROOT

from aeops.alerts import formats, notices
from aeops.alerts.notices import OpenAlarms
from aeops.alerts.receivers import document_link, page_link, read_receivers, report_problems, send, sent_file
from aeops.cli.main import main
from aeops.cli.notify import test_receivers as send_tests
from aeops.errors import UsageError
from aeops.machine.stack_settings import Settings, write_settings
from aeops.project import Project
from aeops.recipe.json_schema import project_schema
from aeops.recipe.notify_settings import EVENTS, URGENT_EVENTS
from aeops.recipe.project_settings import read_project_settings

SECRET = "s3cret-word"
ALARMS = OpenAlarms("digits", "3", {"scores": "they <moved>", "codes": "so did these"})


def settings(project: Project, *receivers: dict, **others: object) -> None:
    (project.root / "ae.yaml").write_text(json.dumps({"notify": {"receivers": list(receivers), **others}}), encoding="utf-8")


def test_every_mistake_is_told_at_once_and_nothing_that_may_be_a_secret(project: Project) -> None:
    settings(
        project,
        {"name": "a", "kind": "slack", "address": f"https://hooks.example.org/{SECRET}"},
        {"name": "b", "kind": "webhook", "address": "ftp://x", "key": SECRET, "events": ["alarms"], "repeat_hours": -1},
        {"name": "c", "kind": "pagerduty", "key": 4711},
        {
            "name": "d",
            "kind": "email",
            "server": f"smtp://ada:{SECRET}@h:25",
            "sender": "x",
            "recipients": ["y"],
            "login": SECRET,
        },
        {"name": "e", "kind": "telegraph"},
        {"name": "f", "kind": "slack", "address": "env:no-name"},
        {"kind": "slack", "address": "env:A", "secret": SECRET},
    )
    with pytest.raises(UsageError) as caught:
        read_project_settings(project.root)
    message = str(caught.value)
    assert SECRET not in message
    assert "4711" not in message
    places = re.findall(r"receivers\[(\d)\]", message)
    assert [places.count(str(number)) for number in range(7)] == [1, 1, 1, 4, 1, 1, 2]
    assert "expected webhook, slack, pagerduty or email, got 'telegraph'" in message


def test_rules_between_receivers_and_of_each_are_told(project: Project) -> None:
    one = {"name": "ops", "kind": "slack", "address": "env:A"}
    settings(project, one, one, page="example.org")
    with pytest.raises(UsageError, match=r"page: expected an address that begins with(.|\n)*the name ops stands 2 times"):
        read_project_settings(project.root)
    settings(project, one | {"events": ["alarms"]})
    with pytest.raises(UsageError, match=r"receivers\[0\]: events: .* or stopped, got 'alarms': did you mean alarm\?"):
        read_project_settings(project.root)


def test_the_schema_takes_what_the_reader_takes_and_no_other_kind(project: Project) -> None:
    document = {
        "notify": {
            "page": "https://ae.example.org",
            "quarantine_share": 0.1,
            "receivers": [
                {"name": "a", "kind": "webhook", "address": "https://x.org", "key": "env:A"},
                {"name": "b", "kind": "slack", "address": "file:/run/secrets/slack", "recipes": ["digits"]},
                {"name": "c", "kind": "pagerduty", "key": "env:B"},
                {"name": "d", "kind": "email", "server": "smtps://h:465", "sender": "a@b", "recipients": ["c@d"]},
            ],
        }
    }
    (project.root / "ae.yaml").write_text(json.dumps(document), encoding="utf-8")
    jsonschema.validate(document, project_schema())
    assert [one.kind for one in read_project_settings(project.root).notify.receivers] == [
        "webhook",
        "slack",
        "pagerduty",
        "email",
    ]
    document["notify"]["receivers"][0]["kind"] = "telegraph"  # type: ignore[index]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, project_schema())


def test_a_secret_comes_from_the_environment_or_a_file_that_not_everybody_reads(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings(
        project,
        {"name": "a", "kind": "slack", "address": "env:OPS_SLACK"},
        {"name": "b", "kind": "webhook", "address": "https://x.org/hook", "key": "file:keys/ops"},
    )
    first, second = read_receivers(project)
    assert "the environment variable OPS_SLACK is not set here" in first.problem
    assert "keys/ops: No such file or directory" in second.problem
    monkeypatch.setenv("OPS_SLACK", SECRET)
    key = project.root / "keys" / "ops"
    key.parent.mkdir()
    key.write_text("the key\n", encoding="utf-8")
    key.chmod(0o644)
    first, second = read_receivers(project)
    assert first.problem == "env:OPS_SLACK holds no address that begins with https:// or http://"
    assert "can be read by everybody" in second.problem
    monkeypatch.setenv("OPS_SLACK", "https://hooks.example.org/x")
    key.chmod(0o640)
    first, second = read_receivers(project)
    assert (first.problem, second.problem) == ("", "")
    report_problems(project)
    assert capsys.readouterr().err == ""
    monkeypatch.delenv("OPS_SLACK")
    report_problems(project)
    assert capsys.readouterr().err == (
        "note: a of ae.yaml cannot be notified from here: the environment variable OPS_SLACK is not set here\n"
    )
    assert (first.target.address, second.target.secret) == ("https://hooks.example.org/x", "the key")


def test_who_is_told_depends_on_event_and_recipe(project: Project) -> None:
    settings(
        project,
        {"name": "all", "kind": "slack", "address": "env:A"},
        {"name": "duty", "kind": "pagerduty", "key": "env:A"},
        {"name": "few", "kind": "slack", "address": "env:A", "events": ["answer"], "recipes": ["digits"]},
    )
    all_, duty, few = (one.target for one in read_receivers(project))
    promotion = notices.accepted("digits", "4", "Accepted.", "")
    assert [one.wants(promotion) for one in (all_, duty, few)] == [True, False, False]
    closing = notices.answered(promotion, ALARMS)
    assert [one.wants(closing) for one in (all_, duty, few)] == [True, True, True]
    failure = notices.failed("mnist", "training of mnist", "no disk left")
    assert [one.wants(failure) for one in (all_, duty, few)] == [True, True, False]
    assert set(URGENT_EVENTS) <= EVENTS.keys()


def test_pagerduty_opens_an_incident_acknowledges_it_and_resolves_it() -> None:
    opened = formats.pagerduty_body(notices.alarm(ALARMS, ["not yet"], ""), "k")
    seen = formats.pagerduty_body(notices.acknowledged(ALARMS, "ada", "a lamp", "h", ""), "k")
    refused = formats.pagerduty_body(
        notices.answered(notices.refused("digits", "4", "Refused: worse.", "", champion="3"), ALARMS), "k"
    )
    closed = formats.pagerduty_body(notices.answered(notices.accepted("digits", "5", "Accepted.", ""), ALARMS), "k")
    actions = [body["event_action"] for body in (opened, seen, refused, closed)]
    assert actions == ["trigger", "acknowledge", "trigger", "resolve"]
    assert {body["dedup_key"] for body in (opened, seen, refused, closed)} == {"digits 3 alarms"}
    assert refused["payload"]["custom_details"]["text"].startswith("The alarms of champion 3 (scores, codes) stay")
    assert closed["payload"]["custom_details"]["text"].startswith("It closes the alarms of champion 3: scores, codes.")


def test_a_refusal_says_which_champion_stays_if_there_is_one() -> None:
    refused = notices.refused("digits", "4", "Refused: worse.", "", champion="3")
    assert refused.text == "Refused: worse.\ndigits 3 stays champion. All reasons: ae why digits@4"
    assert "There is no champion." in notices.refused("digits", "1", "Refused: worse.", "", champion=None).text


def test_the_same_failure_with_another_time_in_it_is_the_same() -> None:
    one, later = (notices.failed("digits", "scoring of digits", f"no disk at {time}").key for time in ("06:00", "06:15"))
    other = notices.failed("digits", "scoring of digits", "no network").key
    assert one == later != other


def test_a_receiver_that_is_down_or_has_no_secret_fails_nothing_and_is_said(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    with receiver(503) as seen:
        address = seen.address
        settings(
            project,
            {"name": "down", "kind": "webhook", "address": address, "key": "file:key"},
            {"name": "unset", "kind": "slack", "address": "env:NOT_SET_ANYWHERE"},
        )
        (project.root / "key").write_text("k", encoding="utf-8")
        (project.root / "key").chmod(0o600)
        results = send(project, notices.failed("digits", "training of digits", "no disk"))
    assert sorted((one.target, one.state, one.attempts) for one in results) == [("down", "failed", 3), ("unset", "failed", 0)]
    error = capsys.readouterr().err
    assert "notify: down was not notified of `training of digits has failed` in 3 attempts: 127.0.0.1 answers 503" in error
    assert "notify: unset was not notified of `training of digits has failed`: the environment variable NOT_SET_ANYWHERE" in error
    assert not sent_file(project).exists(), "what did not arrive is sent again the next time"
    (project.root / "ae.yaml").write_text("notify: [", encoding="utf-8")
    assert send(project, notices.failed("digits", "training of digits", "no disk")) == []
    assert "notify: nobody was notified of `training of digits has failed`: ae.yaml" in capsys.readouterr().err


def test_links_lead_to_the_page_that_receivers_reach(project: Project) -> None:
    assert page_link(project, "digits", "report") == ""
    report = project.reports("digits") / "report.html"
    report.parent.mkdir(parents=True)
    report.write_text("", encoding="utf-8")
    assert page_link(project, "digits", "report") == report.as_uri()
    write_settings(project, Settings(page_port=8181))
    assert page_link(project, "digits", "monitoring") == "http://127.0.0.1:8181/r/digits/monitoring"
    data_docs = document_link(project, "data-docs/digits/index.html", project.root / "missing.html")
    assert data_docs == "http://127.0.0.1:8181/data-docs/digits/index.html", "a browser opens no file from Prefect's page"
    settings(project, page="https://ae.example.org/")
    assert page_link(project, "digits", "report") == "https://ae.example.org/r/digits/report"


def test_ae_notify_lists_receivers_and_events_and_no_secret(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["notify"]) == 0
    assert "nobody is notified: ae.yaml has no `notify:`" in capsys.readouterr().out
    assert main(["notify", "--test"]) == 2
    assert "ae.yaml names no receiver" in capsys.readouterr().err
    monkeypatch.setenv("OPS_SLACK", f"https://hooks.example.org/{SECRET}")
    settings(project, {"name": "ops", "kind": "slack", "address": "env:OPS_SLACK", "recipes": ["digits", "gone"]})
    assert main(["notify"]) == 0
    printed = capsys.readouterr().out
    assert "ops  slack at env:OPS_SLACK\n    events:  all\n    recipes: digits, gone\n" in printed
    assert "note: there is no recipe gone" in printed
    assert all(event in printed for event in EVENTS)
    assert main(["notify", "--json"]) == 0
    document = capsys.readouterr().out
    assert SECRET not in printed + document
    [row] = json.loads(document)["receivers"]
    assert (row["name"], row["at"], row["recipes"], row["problem"]) == ("ops", "env:OPS_SLACK", ["digits", "gone"], None)
    assert main(["notify", "--test", "opps"]) == 2
    assert "no receiver 'opps' in ae.yaml, expected ops: did you mean ops?" in capsys.readouterr().err


def test_ae_notify_test_sends_to_one_or_to_all_and_says_what_arrived(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    with receiver(200) as seen, mail_server() as mails:
        name_webhook(project.root, seen.address, events=["promotion"])
        assert main(["notify", "--test", "ops"]) == 0
        assert main(["notify", "--test"]) == 0, "a test is never held back"
        assert capsys.readouterr().out == "sent       ops\nsent       ops\n"
        mail = {"name": "mail", "kind": "email", "server": mails.address, "sender": "a@b", "recipients": ["c@d"]}
        down = {"name": "down", "kind": "pagerduty", "key": "env:HOME", "address": "http://127.0.0.1:9/"}
        settings(project, mail, down)
        assert main(["notify", "--test", "--json"]) == 5
    assert [(one["event"], one["title"]) for one in notices_of(seen)] == [("test", "a test of the receiver ops")] * 2
    assert [(row["target"], row["state"]) for row in json.loads(capsys.readouterr().out)] == [
        ("mail", "sent"),
        ("down", "failed"),
    ]
    assert len(mails.mails) == 1
    assert send_tests([], as_json=True) == 0


def test_a_file_of_this_machine_is_no_link_for_slack_or_pagerduty() -> None:
    notice = notices.accepted("digits", "4", "Accepted.", "file:///work/report.html")
    assert formats.slack_body(notice)["blocks"][0]["text"]["text"].endswith("\nfile:///work/report.html")
    assert "links" not in formats.pagerduty_body(notice, "k")
    assert notice.time.tzinfo is UTC
    assert notice.time <= datetime.now(UTC)


def test_the_documentations_example_is_read_and_its_table_has_every_event(project: Project) -> None:
    page = (ROOT / "docs" / "notifications.md").read_text(encoding="utf-8")
    (project.root / "ae.yaml").write_text(page.split("```yaml\n")[1].split("```")[0], encoding="utf-8")
    read = read_project_settings(project.root).notify.receivers
    assert [(one.name, one.kind) for one in read] == [
        ("line-2", "slack"),
        ("duty", "pagerduty"),
        ("audit", "webhook"),
        ("ada", "email"),
    ]
    assert re.findall(r"^\| `([a-z]+)` \|", page, flags=re.MULTILINE) == list(EVENTS)
