"""Send notifications: each once, again after a failure that may pass, and never twice for the same thing within hours."""

import smtplib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from aeops.alerts import formats
from aeops.alerts.notification import Notification, NotifyTarget
from aeops.files import make_folder, write_json
from aeops.machine.network import is_own_address
from aeops.machine.stored_json import read_json_if_whole

ATTEMPTS = 3
WAITS = (1.0, 5.0)  # seconds before the second and the third attempt
TIMEOUT = 10.0  # seconds for an answer
REMEMBERED_DAYS = 30


@dataclass(frozen=True)
class SendResult:
    """What came of a notification at one target.

    Attributes:
        state: sent, held back (a duplicate) or failed.
        reason: why it was held back or failed; empty if it was sent.
        attempts: how often it was tried.
    """

    target: str
    state: str
    reason: str = ""
    attempts: int = 0


class DeliveryError(Exception):
    """A receiver did not take a notification; `may_pass` says whether a later attempt may succeed."""

    def __init__(self, message: str, may_pass: bool) -> None:
        super().__init__(message)
        self.may_pass = may_pass


def notify(
    notification: Notification,
    targets: Sequence[NotifyTarget],
    record: Path,
    wait: Callable[[float], None] = time.sleep,
) -> list[SendResult]:
    """Send a notification to every target that wants it; a failure at one holds back no other.

    Args:
        notification: what happened.
        targets: with their secrets.
        record: a JSON file of what was sent when: a target and key that stand in it are held back for `repeat_hours`.
        wait: called with seconds before another attempt.

    Returns:
        One result for each target that wants it. What failed is not recorded, so that the next call tries again.
    """
    sent_at = _read_record(record)
    results = []
    for target in targets:
        if not target.wants(notification):
            continue
        place = f"{target.name} {notification.event} {notification.key}"
        last_time = sent_at.get(place)
        if last_time and notification.time - datetime.fromisoformat(last_time) < timedelta(hours=target.repeat_hours):
            results.append(SendResult(target.name, "held back", f"the same was sent at {last_time}"))
            continue
        result = _send_with_retries(notification, target, wait)
        results.append(result)
        if result.state == "sent":
            sent_at[place] = notification.time.isoformat()
            _write_record(record, sent_at, notification.time)  # at once: a kill must not send it again to those before
    return results


def _read_record(record: Path) -> dict[str, str]:
    """Return target and key -> time; a damaged record is an empty one: twice is better than never."""
    document: dict[str, dict[str, str]] = read_json_if_whole(record, "sent") or {"sent": {}}
    return dict(document["sent"])


def _write_record(record: Path, sent_at: dict[str, str], now: datetime) -> None:
    oldest = now - timedelta(days=REMEMBERED_DAYS)
    remembered = {place: moment for place, moment in sent_at.items() if datetime.fromisoformat(moment) > oldest}
    make_folder(record.parent)
    write_json(record, {"sent": remembered})


def _send_with_retries(notification: Notification, target: NotifyTarget, wait: Callable[[float], None]) -> SendResult:
    reason = ""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            SENDERS[target.kind](notification, target)
        except DeliveryError as error:
            reason = str(error)
            if not error.may_pass or attempt == ATTEMPTS:
                return SendResult(target.name, "failed", reason, attempt)
            wait(WAITS[attempt - 1])
        else:
            return SendResult(target.name, "sent", attempts=attempt)
    raise AssertionError("the last attempt returns")


# ---------------------------------------------------------------- the ways out


def send_webhook(notification: Notification, target: NotifyTarget) -> None:
    """Send signed JSON; raise DeliveryError where it is not taken."""
    body, headers = formats.webhook_request(notification, target.secret, int(time.time()))
    _post(target.address, content=body, headers=headers)


def send_slack(notification: Notification, target: NotifyTarget) -> None:
    """Send to an incoming webhook of Slack; raise DeliveryError where it is not taken."""
    _post(target.address, json=formats.slack_body(notification))


def send_pagerduty(notification: Notification, target: NotifyTarget) -> None:
    """Trigger an incident; raise DeliveryError where it is not taken."""
    _post(target.address, json=formats.pagerduty_body(notification, target.secret))


def _post(address: str, **options: object) -> None:
    is_elsewhere = not is_own_address(urlsplit(address).netloc)  # else no proxy can reach it
    try:
        response = httpx.post(address, timeout=TIMEOUT, trust_env=is_elsewhere, **options)  # type: ignore[arg-type]
    except httpx.HTTPError as error:
        host = urlsplit(address).netloc.rpartition("@")[2]  # the path of a webhook is a secret
        raise DeliveryError(f"{host} does not answer ({type(error).__name__})", may_pass=True) from error
    if response.is_success:
        return
    may_pass = response.status_code == httpx.codes.TOO_MANY_REQUESTS or response.is_server_error
    host = response.url.host
    raise DeliveryError(f"{host} answers {response.status_code}: {' '.join(response.text.split())[:200]}", may_pass)


def send_mail(notification: Notification, target: NotifyTarget) -> None:
    """Send a mail, encrypted where the server offers that; raise DeliveryError where it is not taken."""
    parts = urlsplit(target.address)
    host, connect = parts.hostname or "", smtplib.SMTP_SSL if parts.scheme == "smtps" else smtplib.SMTP
    try:
        with connect(host, parts.port or 0, timeout=TIMEOUT) as server:
            server.ehlo_or_helo_if_needed()
            if parts.scheme == "smtp" and server.has_extn("starttls"):
                server.starttls()
            if target.secret:
                user, _, password = target.secret.partition(":")
                server.login(user, password)
            server.send_message(formats.mail(notification, target))
    except smtplib.SMTPResponseException as error:
        raise DeliveryError(f"{host} answers {error.smtp_code}", may_pass=400 <= error.smtp_code < 500) from error
    except smtplib.SMTPRecipientsRefused as error:
        raise DeliveryError(f"{host} refuses {', '.join(error.recipients)}", may_pass=False) from error
    except (smtplib.SMTPException, OSError) as error:
        raise DeliveryError(f"{host} does not take mail ({error})", may_pass=True) from error


SENDERS: dict[str, Callable[[Notification, NotifyTarget], None]] = {
    "webhook": send_webhook,
    "slack": send_slack,
    "pagerduty": send_pagerduty,
    "email": send_mail,
}
