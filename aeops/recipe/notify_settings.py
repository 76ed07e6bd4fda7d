"""`notify` in ae.yaml: who is notified of what. Secrets stand elsewhere: a setting names the environment variable or the file."""

import re
from collections import Counter
from dataclasses import dataclass
from typing import ClassVar, Literal

from ae_models.spec import bounded_field
from ae_models.spec.messages import join_choices, suggest_match

EventKind = Literal[
    "promotion",
    "refusal",
    "approval",
    "failure",
    "alarm",
    "answer",
    "rollback",
    "retirement",
    "quarantine",
    "outage",
    "stopped",
    "test",
]
EVENTS: dict[EventKind, str] = {
    "promotion": "a version became champion",
    "refusal": "the gate, or a person, refused a version",
    "approval": "a version waits for a person's decision",
    "failure": "a run failed, or its process was killed",
    "alarm": "monitoring raised an alarm",
    "answer": "a person has seen an alarm, or a retrain has answered it or could not",
    "rollback": "a person made a former champion the champion again",
    "retirement": "a person removed the champion",
    "quarantine": "a run set aside a larger share of its samples than quarantine_share",
    "outage": "a service of the stack does not stay up",
    "stopped": "a run was stopped by SIGTERM, as a scheduler or a machine that shuts down does",
}
URGENT_EVENTS: tuple[EventKind, ...] = ("failure", "alarm", "answer", "outage")  # what wakes a person where nothing else is said
DEFAULT_REPEAT_HOURS = 20.0  # so that what fails every night is reported every night
ENVIRONMENT, FILE = "env:", "file:"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RECEIVER_NAME = re.compile(r"[\w.-]{1,60}")


class SecretReference(str):
    """Where a secret is, such as `env:OPS_KEY` or `file:/run/secrets/ops`; never the secret itself.

    The reader of ae.yaml takes any value for it and quotes none: somebody may have typed the secret here.
    """


NO_SECRET = SecretReference("")
_WEB = ("https://", "http://")


@dataclass(frozen=True, kw_only=True)
class Receiver:
    """What every kind of receiver has."""

    name: str  # of the receiver, for `ae notify --test NAME` and for messages
    events: tuple[str, ...] = ()  # that are sent; without any: all, to PagerDuty failure, alarm, answer and outage
    recipes: tuple[str, ...] = ()  # whose events are sent; without any: all
    repeat_hours: float = bounded_field(DEFAULT_REPEAT_HOURS, low=0.0, high=8760.0)  # in which the same is not sent again

    def validation_errors(self) -> list[str]:
        errors = []
        if not _RECEIVER_NAME.fullmatch(self.name):
            errors.append(f"name: expected 1 to 60 letters, digits, -, _ and ., got {self.name!r}")
        for event in self.events:
            if event not in EVENTS:
                errors.append(f"events: expected some of {join_choices(EVENTS)}, got {event!r}{suggest_match(event, EVENTS)}")
        return errors


@dataclass(frozen=True, kw_only=True)
class WebhookReceiver(Receiver):
    """A POST of JSON that is signed with a key."""

    kind: ClassVar[str] = "webhook"
    address: str  # begins with https:// or http://; or env:NAME or file:PATH, where it is a secret itself
    key: SecretReference  # that signs the requests, as env:NAME or file:PATH

    def validation_errors(self) -> list[str]:
        return [
            *super().validation_errors(),
            *_address_errors(self.address),
            *_secret_errors("key", self.key),
        ]


@dataclass(frozen=True, kw_only=True)
class SlackReceiver(Receiver):
    """A message in a channel, by an incoming webhook of Slack or of what takes the same."""

    kind: ClassVar[str] = "slack"
    address: SecretReference  # of the incoming webhook, which is a secret: env:NAME or file:PATH

    def validation_errors(self) -> list[str]:
        return [*super().validation_errors(), *_secret_errors("address", self.address)]


@dataclass(frozen=True, kw_only=True)
class PagerDutyReceiver(Receiver):
    """An incident by PagerDuty's Events API v2: an alarm opens one, its answer closes it."""

    kind: ClassVar[str] = "pagerduty"
    key: SecretReference  # the routing key, as env:NAME or file:PATH
    address: str = "https://events.pagerduty.com/v2/enqueue"  # of the Events API

    def validation_errors(self) -> list[str]:
        return [
            *super().validation_errors(),
            *_address_errors(self.address),
            *_secret_errors("key", self.key),
        ]


@dataclass(frozen=True, kw_only=True)
class EmailReceiver(Receiver):
    """A mail in plain text."""

    kind: ClassVar[str] = "email"
    server: str  # smtp://HOST:PORT (encrypted where the server offers that) or smtps://HOST:PORT
    sender: str  # address that the mails come from
    recipients: tuple[str, ...]  # addresses that they go to
    login: SecretReference = NO_SECRET  # USER:PASSWORD, as env:NAME or file:PATH; without it there is no login

    def validation_errors(self) -> list[str]:
        errors = [*super().validation_errors()]
        if not self.server.startswith(("smtp://", "smtps://")):
            errors.append(f"server: expected smtp://HOST:PORT or smtps://HOST:PORT, got {_without_login(self.server)!r}")
        elif "@" in self.server:
            errors.append("server: expected no user or password in the address: `login: env:NAME` names where they are")
        if "@" not in self.sender:
            errors.append(f"sender: expected an address such as ae@example.org, got {self.sender!r}")
        if not self.recipients:
            errors.append("recipients: expected a list of addresses, got none")
        errors += [
            f"recipients: expected addresses such as ada@example.org, got {one!r}" for one in self.recipients if "@" not in one
        ]
        if self.login != "":
            errors += _secret_errors("login", self.login)
        return errors


AnyReceiver = WebhookReceiver | SlackReceiver | PagerDutyReceiver | EmailReceiver


@dataclass(frozen=True)
class NotifySettings:
    """Who is notified of what happens to the recipes."""

    receivers: tuple[AnyReceiver, ...] = ()  # who is notified
    page: str = ""  # address of the page as the receivers reach it, for links; without it that of `ae up`
    quarantine_share: float = bounded_field(0.02, low=0.0, high=1.0)  # of a run's samples set aside, beyond which it is an event

    def validation_errors(self) -> list[str]:
        errors = []
        if self.page and not self.page.startswith(_WEB):
            errors.append(f"page: expected an address that begins with https:// or http://, got {self.page!r}")
        for name, count in Counter(one.name for one in self.receivers if one is not None).items():
            if count > 1:
                errors.append(f"receivers: the name {name} stands {count} times: name each receiver differently")
        return errors


def _address_errors(address: str) -> list[str]:
    if address.startswith((ENVIRONMENT, FILE)):
        return _secret_errors("address", SecretReference(address))
    if not address.startswith(_WEB):
        return [f"address: expected {join_choices(_WEB)} and so on, or {ENVIRONMENT}NAME, got {_without_login(address)!r}"]
    return []


def _secret_errors(key: str, reference: object) -> list[str]:
    """Return what is wrong with a reference; its value is not quoted, for it may be the secret itself."""
    expected = f"{key}: expected where the secret is, {ENVIRONMENT}NAME or {FILE}PATH"
    if not reference:
        return [f"{expected}, got nothing"]
    if not isinstance(reference, str) or not reference.startswith((ENVIRONMENT, FILE)):
        return [f"{expected}, got something else (not shown: no secret belongs in ae.yaml)"]
    scheme, _, place = reference.partition(":")
    if not place.strip() or (f"{scheme}:" == ENVIRONMENT and not _VARIABLE.fullmatch(place)):
        return [f"{expected}, got {scheme}: without such a name"]
    return []


def _without_login(address: str) -> str:
    """Return an address without the user and the password that may stand in it."""
    scheme, separator, rest = address.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if separator else scheme
