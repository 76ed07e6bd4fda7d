"""Notifications of what happens to a recipe: one function an event. Each says what happened and what to type."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from aeops.alerts.notification import Notification
from aeops.drawing.words import format_share
from aeops.recipe.notify_settings import EventKind

TITLE_LENGTH = 120  # characters


@dataclass(frozen=True)
class OpenAlarms:
    """The alarms of a champion that monitoring has found and no later champion has closed.

    Attributes:
        messages: signal -> what it found.
    """

    recipe: str
    version: str
    messages: Mapping[str, str]

    @property
    def names(self) -> str:
        return ", ".join(self.messages)

    @property
    def incident(self) -> str:
        return f"{self.recipe} {self.version} alarms"


def accepted(recipe: str, version: str, sentence: str, link: str) -> Notification:
    """Say that a version became champion; `sentence` is the verdict in words."""
    text = f"{sentence}\nWhat differs from the champion before: ae history {recipe}"
    return _notice("promotion", recipe, f"{recipe} {version} is champion", text, f"{recipe} {version} champion", link)


def refused(recipe: str, version: str, sentence: str, link: str, *, champion: str | None) -> Notification:
    """Say that a version was refused; `sentence` is the verdict in words, `champion` the version that stays, if there is one."""
    stays = "There is no champion."
    if champion is not None:
        stays = f"{recipe} {champion} stays champion."
    text = f"{sentence}\n{stays} All reasons: ae why {recipe}@{version}"
    return _notice("refusal", recipe, f"{recipe} {version} is refused", text, f"{recipe} {version} refused", link)


def waiting(recipe: str, version: str, sentence: str, link: str) -> Notification:
    """Say that a version waits for a person's decision."""
    text = f"{sentence}\nae approve {recipe} {version} --why TEXT | ae reject {recipe} {version} --why TEXT"
    return _notice("approval", recipe, f"{recipe} {version} waits for your approval", text, f"{recipe} {version} waits", link)


def answered(notification: Notification, alarms: OpenAlarms) -> Notification:
    """Return a notification of a promotion or a refusal that says, too, what became of the alarms that were open."""
    is_closed = notification.event in ("promotion", "rollback", "retirement")
    sentence = f"The alarms of champion {alarms.version} ({alarms.names}) stay: this retrain does not answer them."
    if is_closed:
        sentence = f"It closes the alarms of champion {alarms.version}: {alarms.names}."
    return replace(
        notification,
        text=f"{sentence}\n{notification.text}",
        also="answer",
        incident=alarms.incident,
        action="resolve" if is_closed else "trigger",
    )


def decided(recipe: str, version: str, event: str, who: str, why: str, key: str, link: str = "") -> Notification:
    """Say what a person has decided.

    Args:
        event: of the ledger: promotion (after an approval), rejection, rollback or retirement.
        key: hash of the ledger's entry, so that each decision is sent once.
    """
    kinds: dict[str, tuple[EventKind, str]] = {
        "rejection": ("refusal", f"{recipe} {version} is rejected"),
        "rollback": ("rollback", f"{recipe} {version} is champion again"),
        "retirement": ("retirement", f"{recipe} has no champion any more: {version} is retired"),
    }
    kind, title = kinds.get(event, ("promotion", f"{recipe} {version} is champion"))
    return _notice(kind, recipe, title, f"By {who}: {why}\nae history {recipe}", f"{recipe} decision {key}", link)


def failed(recipe: str, run: str, message: str) -> Notification:
    """Say that a run failed, or that its process was killed.

    Args:
        run: what it was, such as `train digits`.
        message: of the error, as the command line would print it.
    """
    kind = re.sub(r"[0-9]+", "0", message)  # the same failure an hour later names another time
    text = f"{message}\nWhat it printed: ae logs {recipe}" if recipe else message
    return _notice("failure", recipe, f"{run} has failed", text, f"{run} failure {kind[:200]}", "")


def stopped(recipe: str, command: str) -> Notification:
    """Say that SIGTERM has ended a run, for which nobody pressed Ctrl-C; `command` is what was typed, without its options."""
    text = "SIGTERM has ended it: a scheduler, a limit of time, or a machine that shuts down.\n"
    text += "The same command goes on where it was."
    return _notice("stopped", recipe, f"`{command}` was stopped", text, f"{command} stopped", "")


def alarm(alarms: OpenAlarms, decision: Sequence[str], link: str) -> Notification:
    """Say that monitoring has raised alarms.

    Args:
        decision: the reasons for a retrain, or for none.
    """
    lines = [f"{name}: {message}" for name, message in alarms.messages.items()]
    lines += [f"Retrain: {'; '.join(decision)}", f'If you know the cause: ae alarm ack {alarms.recipe} --why "..."']
    title = f"alarm of {alarms.recipe} {alarms.version}: {alarms.names}"
    notice = _notice("alarm", alarms.recipe, title, "\n".join(lines), f"{alarms.incident} {alarms.names}", link)
    return replace(notice, incident=alarms.incident)


def acknowledged(alarms: OpenAlarms, who: str, why: str, key: str, link: str) -> Notification:
    """Say that a person has seen the alarms; `key` is the hash of the ledger's entry."""
    title = f"{who} has seen the alarm of {alarms.recipe} {alarms.version}: {alarms.names}"
    text = f"{why}\nThe next champion closes it: ae run {alarms.recipe}"
    notice = _notice("answer", alarms.recipe, title, text, f"{alarms.recipe} decision {key}", link)
    return replace(notice, incident=alarms.incident, action="acknowledge")


def set_aside(recipe: str, count: int, total: int, reasons: Mapping[str, int], content: str) -> Notification:
    """Say that validation has set aside many samples.

    Args:
        content: SHA-256 of the dataset, so that the same samples are reported once.
    """
    share = format_share(count / total) if total else "all"
    why = ", ".join(f"{name} ({number:,})" for name, number in reasons.items())
    text = f"{count:,} of {total:,} samples went to quarantine, by {why or 'no expectation'}\nWhich: ae quarantine {recipe}"
    return _notice(
        "quarantine", recipe, f"{recipe} set aside {share} of its samples", text, f"{recipe} quarantine {content[:16]}", ""
    )


def outage(service: str, log: str) -> Notification:
    """Say that a service of the stack does not stay up."""
    text = f"It keeps failing, and is tried again about once a minute; the rest runs on.\nIts output: {log} | ae status"
    return _notice("outage", "", f"the service {service} does not stay up", text, f"outage {service}", "")


def test_of(name: str) -> Notification:
    """Return the message of `ae notify --test`."""
    text = "Nothing happened: `ae notify --test` asks whether messages arrive."
    moment = datetime.now(UTC).isoformat()
    return _notice("test", "", f"a test of the receiver {name}", text, f"test {name} {moment}", "")


def _notice(event: EventKind, recipe: str, title: str, text: str, key: str, link: str) -> Notification:
    return Notification(event, recipe, title[:TITLE_LENGTH], text, key, datetime.now(UTC), link)
