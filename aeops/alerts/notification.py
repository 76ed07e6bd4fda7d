"""What is said to people outside, and to whom: dataclasses without any reader of files."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from ae_models.checksums import json_sha256
from aeops.recipe.notify_settings import DEFAULT_REPEAT_HOURS, EventKind

SEVERITIES: dict[EventKind, str] = {
    "alarm": "warning",
    "quarantine": "warning",
    "stopped": "warning",
    "failure": "error",
    "outage": "error",
}  # PagerDuty's
CALM = "info"  # the severity of all others
Action = Literal["trigger", "acknowledge", "resolve"]


@dataclass(frozen=True)
class Notification:
    """One thing that happened to a recipe.

    Attributes:
        event: what happened.
        recipe: its name; empty for what concerns the project.
        title: one line.
        text: what happened, and the command to type.
        key: equal for what is the same: it is sent once in `repeat_hours`.
        time: with a zone.
        link: of a page about it; empty without one.
        also: another event that it is at the same time, such as a promotion that answers an alarm.
        incident: what is open until somebody answers it, such as the alarms of a champion; empty: `key`.
        action: what it does to the incident.
    """

    event: EventKind
    recipe: str
    title: str
    text: str
    key: str
    time: datetime
    link: str = ""
    also: EventKind | None = None
    incident: str = ""
    action: Action = "trigger"

    @property
    def severity(self) -> str:
        return SEVERITIES.get(self.event, CALM)

    @property
    def id(self) -> str:
        """The same however often it is sent, so that a receiver knows one that it got before."""
        return json_sha256([self.event, self.recipe, self.key, self.time.isoformat()])[:32]


@dataclass(frozen=True)
class NotifyTarget:
    """A receiver with its secrets, ready to be sent to.

    Attributes:
        name: of the receiver, for messages and for what was sent.
        kind: webhook (signed JSON), slack, pagerduty or email.
        address: URL of webhook, slack and PagerDuty, `smtp://host:port` of email.
        secret: key of the signature, PagerDuty's routing key, or `user:password` of the mail server; empty without one.
        sender, recipients: of mails.
        events: that are sent; empty for all.
        recipes: whose events are sent; empty for all.
        repeat_hours: for which the same thing is not sent again.
    """

    name: str
    kind: str
    address: str = ""
    secret: str = ""
    sender: str = ""
    recipients: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    recipes: tuple[str, ...] = ()
    repeat_hours: float = DEFAULT_REPEAT_HOURS

    def wants(self, notification: Notification) -> bool:
        """Return whether this receiver is to be notified; a test is for everybody."""
        if notification.event == "test":
            return True
        concerns = not self.recipes or not notification.recipe or notification.recipe in self.recipes
        kinds = {notification.event, notification.also}
        return concerns and (not self.events or bool(kinds & set(self.events)))
