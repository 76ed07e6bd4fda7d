"""Send notifications: each once, again after a failure that may pass, and never twice for the same thing within hours.

What does not arrive waits in files (`aeops.alerts.waiting`), and is sent by `retry_waiting`.
"""

import smtplib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from aeops.alerts import formats
from aeops.alerts.notification import Notification, NotifyTarget
from aeops.alerts.waiting import WaitingNotice, drop_answered, drop_outdated, read_waiting, store_waiting, waiting_file
from aeops.files import make_folder, write_json
from aeops.machine.network import is_own_address
from aeops.machine.stored_json import read_json_if_whole

ATTEMPTS = 3
WAITS = (1.0, 5.0)  # seconds before the second and the third attempt
TIMEOUT = 10.0  # seconds for an answer
REMEMBERED_DAYS = 30
MAX_FAILURES = 2  # in a row, of what waits for a receiver: then it is down, and the rest is not tried


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
        One result for each target that wants it. What failed waits in the folder beside the record, but for a test.
    """
    sent_at = _read_record(record)
    results = []
    for target in targets:
        if not target.wants(notification):
            continue
        if reason := _reason_to_hold_back(notification, target, sent_at):
            results.append(SendResult(target.name, "held back", reason))
            continue
        if notification.event != "test":
            keep_waiting(record, target, notification)  # before the first attempt: a kill must not lose it
        result = _send_with_retries(notification, target, wait)
        results.append(result)
        _record_result(record, sent_at, notification, target, result)
    return results


def keep_waiting(record: Path, target: NotifyTarget, notification: Notification) -> None:
    """Store a notification as one that a target has not got.

    Args:
        record: of what was sent; what waits lies in a folder beside it.
    """
    folder = waiting_folder(record)
    store_waiting(folder, WaitingNotice(waiting_file(folder, target.name, notification), target.name, notification))


def waiting_folder(record: Path) -> Path:
    """Return the folder of what waits, beside the record of what was sent."""
    return record.parent / "waiting"


def retry_waiting(targets: Sequence[NotifyTarget], record: Path, gap: timedelta = timedelta(0)) -> list[SendResult]:
    """Try once to send what waits, the oldest first.

    Args:
        targets: that something can be sent to; what waits for others goes on waiting.
        record: as of `notify`.
        gap: what was tried within it is not tried now.

    Returns:
        A result for each notification that was tried.
    """
    folder, now = waiting_folder(record), datetime.now(UTC)
    drop_outdated(folder, now)
    sent_at = _read_record(record)
    targets_by_name = {target.name: target for target in targets}
    results, failures = list[SendResult](), dict[str, int]()
    for notice in read_waiting(folder):
        target = targets_by_name.get(notice.target)
        if target is None or failures.get(notice.target, 0) >= MAX_FAILURES or not notice.file.is_file():
            continue
        if notice.tried_at is not None and now - notice.tried_at < gap:
            continue
        if not target.wants(notice.notification) or _reason_to_hold_back(notice.notification, target, sent_at):
            notice.file.unlink(missing_ok=True)
            continue
        result = _send_once(notice.notification, target, notice.attempts + 1)
        failures[notice.target] = 0 if result.state == "sent" else failures.get(notice.target, 0) + 1
        _record_result(record, sent_at, notice.notification, target, result)
        results.append(result)
    return results


def _reason_to_hold_back(notification: Notification, target: NotifyTarget, sent_at: Mapping[str, str]) -> str:
    """Return why a target has got this already; empty where it has not."""
    last_time = sent_at.get(_place(target, notification))
    if last_time is None:
        return ""
    passed = notification.time - datetime.fromisoformat(last_time)
    is_same = not passed  # this very one: it was killed between the record and the removal of its file
    return f"the same was sent at {last_time}" if is_same or passed < timedelta(hours=target.repeat_hours) else ""


def _place(target: NotifyTarget, notification: Notification) -> str:
    return f"{target.name} {notification.event} {notification.key}"


def _record_result(
    record: Path, sent_at: dict[str, str], notification: Notification, target: NotifyTarget, result: SendResult
) -> None:
    """Write down that it was sent and let it wait no more, or that it was tried in vain."""
    folder = waiting_folder(record)
    file = waiting_file(folder, target.name, notification)
    if result.state == "sent":
        sent_at[_place(target, notification)] = notification.time.isoformat()
        _write_record(record, sent_at, notification.time)  # at once: a kill must not send it again to those before
        file.unlink(missing_ok=True)
        drop_answered(folder, target, notification)
    elif file.is_file():
        store_waiting(folder, WaitingNotice(file, target.name, notification, result.attempts, datetime.now(UTC)))


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
    for attempt in range(1, ATTEMPTS):
        try:
            SENDERS[target.kind](notification, target)
        except DeliveryError as error:
            if not error.may_pass:
                return SendResult(target.name, "failed", str(error), attempt)
            wait(WAITS[attempt - 1])
        else:
            return SendResult(target.name, "sent", attempts=attempt)
    return _send_once(notification, target, ATTEMPTS)


def _send_once(notification: Notification, target: NotifyTarget, attempt: int) -> SendResult:
    """Send without another attempt; `attempt` is the number of this one."""
    try:
        SENDERS[target.kind](notification, target)
    except DeliveryError as error:
        return SendResult(target.name, "failed", str(error), attempt)
    return SendResult(target.name, "sent", attempts=attempt)


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
