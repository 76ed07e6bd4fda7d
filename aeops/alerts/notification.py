"""What is said to people outside, and whom: dataclasses without any reader of files."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from aeops.errors import UsageError

EventKind = Literal["alarm", "failure", "refusal", "approval", "promotion", "test"]
EVENTS: tuple[EventKind, ...] = ("alarm", "failure", "refusal", "approval", "promotion", "test")
SEVERITIES = {
    "alarm": "warning",
    "failure": "error",
    "refusal": "info",
    "approval": "info",
    "promotion": "info",
    "test": "info",
}  # as PagerDuty names them
KINDS = ("webhook", "slack", "pagerduty", "email")
DEFAULT_REPEAT_HOURS = 24.0


@dataclass(frozen=True)
class Notification:
    """One thing that happened to a recipe.

    Attributes:
        event: one of EVENTS.
        recipe: its name; empty for what concerns the project.
        title: one line.
        text: what happened, and the command to type.
        key: equal for what is the same: it is sent once in `repeat_hours`.
        time: with a zone.
        link: of a page about it; empty without one.
    """

    event: EventKind
    recipe: str
    title: str
    text: str
    key: str
    time: datetime
    link: str = ""

    @property
    def severity(self) -> str:
        return SEVERITIES[self.event]


@dataclass(frozen=True)
class NotifyTarget:
    """Somebody to be told.

    Attributes:
        name: of the target, for messages and for what was sent.
        kind: webhook (signed JSON), slack, pagerduty or email.
        address: URL of webhook and slack, `smtp://host:port` of email; PagerDuty's own where it is empty.
        secret: key of the signature, PagerDuty's routing key, or `user:password` of the mail server; empty without one.
        sender, recipients: of mails.
        events: that are sent; all but promotions and refusals by default.
        recipes: whose events are sent; empty for all.
        repeat_hours: for which the same thing is not sent again.
    """

    name: str
    kind: str
    address: str = ""
    secret: str = ""
    sender: str = ""
    recipients: tuple[str, ...] = ()
    events: tuple[str, ...] = ("alarm", "failure", "approval", "test")
    recipes: tuple[str, ...] = ()
    repeat_hours: float = DEFAULT_REPEAT_HOURS

    def wants(self, notification: Notification) -> bool:
        """Return whether this target is to be told; a test is for everybody."""
        if notification.event == "test":
            return True
        concerns = not self.recipes or not notification.recipe or notification.recipe in self.recipes
        return concerns and notification.event in self.events


def require_target(target: NotifyTarget) -> None:
    """Check a target as a whole.

    Raises:
        UsageError: with every mistake.
    """
    place, mistakes = f"notify.{target.name}", []
    if target.kind not in KINDS:
        mistakes.append(f"{place}.kind: expected one of {', '.join(KINDS)}, got {target.kind!r}")
    if target.kind in ("webhook", "slack") and not target.address.startswith(("http://", "https://")):
        mistakes.append(f"{place}.address: expected an address that begins with https:// or http://, got {target.address!r}")
    if target.kind == "webhook" and not target.secret:
        mistakes.append(f"{place}.secret: expected the key that signs the requests, got none")
    if target.kind == "pagerduty" and not target.secret:
        mistakes.append(f"{place}.secret: expected PagerDuty's routing key, got none")
    if target.kind == "email":
        if not target.address.startswith(("smtp://", "smtps://")):
            mistakes.append(f"{place}.address: expected smtp://HOST:PORT or smtps://HOST:PORT, got {target.address!r}")
        if not target.sender or not target.recipients:
            mistakes.append(f"{place}: expected sender and recipients of the mails")
    for event in target.events:
        if event not in EVENTS:
            mistakes.append(f"{place}.events: expected some of {', '.join(EVENTS)}, got {event!r}")
    if target.repeat_hours < 0:
        mistakes.append(f"{place}.repeat_hours: expected 0 or more, got {target.repeat_hours:g}")
    if mistakes:
        raise UsageError("\n".join(mistakes))
