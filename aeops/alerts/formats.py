"""A notification as the receivers want it: signed JSON, Slack's, PagerDuty's, and a mail. Standard library only."""

import hashlib
import hmac
import json
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any

from aeops.alerts.notification import Notification, NotifyTarget

SIGNATURE_HEADER = "X-Ae-Signature"  # sha256=HEX of timestamp, a full stop and the body
TIMESTAMP_HEADER = "X-Ae-Timestamp"  # seconds since 1970; a receiver refuses an old one
SLACK_MARKS = {"warning": ":warning:", "error": ":rotating_light:", "info": ":information_source:"}
SLACK_LENGTH = 2900  # characters of a text; Slack takes 3,000
SUMMARY_LENGTH, DEDUP_LENGTH = 1024, 255  # of PagerDuty


def webhook_request(notification: Notification, secret: str, timestamp: int) -> tuple[bytes, dict[str, str]]:
    """Return the body and the headers of a signed webhook.

    Args:
        notification: what happened.
        secret: key of the signature.
        timestamp: seconds since 1970: part of what is signed, so that a request cannot be sent again later.
    """
    body = json.dumps(describe(notification), ensure_ascii=False, sort_keys=True).encode()
    headers = {
        "content-type": "application/json",
        TIMESTAMP_HEADER: str(timestamp),
        SIGNATURE_HEADER: sign(body, secret, timestamp),
    }
    return body, headers


def sign(body: bytes, secret: str, timestamp: int) -> str:
    """Return the signature of a body: HMAC-SHA256 over `TIMESTAMP.BODY`."""
    digest = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"sha256={digest}"


def is_signed(body: bytes, secret: str, timestamp: int, signature: str) -> bool:
    """Return whether a signature is that of the body; for receivers in Python."""
    return hmac.compare_digest(sign(body, secret, timestamp), signature)


def describe(notification: Notification) -> dict[str, Any]:
    """Return a notification as JSON holds it."""
    return {
        "id": notification.id,
        "event": notification.event,
        "also": notification.also,
        "recipe": notification.recipe,
        "severity": notification.severity,
        "title": notification.title,
        "text": notification.text,
        "key": notification.key,
        "incident": notification.incident or notification.key,
        "action": notification.action,
        "time": notification.time.isoformat(),
        "link": notification.link,
    }


def slack_body(notification: Notification) -> dict[str, Any]:
    """Return the body of Slack's incoming webhook."""
    title = f"{SLACK_MARKS[notification.severity]} *{_slack_text(notification.title)}*"
    text = f"{title}\n{_slack_text(notification.text)}"[:SLACK_LENGTH]
    if is_web_address(notification.link):
        text += f"\n<{notification.link}|Open the page>"
    elif notification.link:
        text += f"\n{_slack_text(notification.link)}"
    return {
        "text": notification.title,
        "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": text}}],
    }


def _slack_text(text: str) -> str:
    """Return a text in which Slack finds no link and no mention."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def pagerduty_body(notification: Notification, routing_key: str) -> dict[str, Any]:
    """Return an event of PagerDuty's Events API v2; the same key is the same incident."""
    body: dict[str, Any] = {
        "routing_key": routing_key,
        "event_action": notification.action,
        "dedup_key": _incident_key(notification),
        "payload": {
            "summary": notification.title[:SUMMARY_LENGTH],
            "source": notification.recipe or "ae",
            "severity": notification.severity,
            "timestamp": notification.time.isoformat(),
            "class": notification.event,
            "custom_details": {"text": notification.text, "page": notification.link},
        },
    }
    if is_web_address(notification.link):
        body["links"] = [{"href": notification.link, "text": "Open the page"}]
    return body


def is_web_address(link: str) -> bool:
    """Return whether a link leads to a page, and not to a file of the machine that sent it."""
    return link.startswith(("https://", "http://"))


def _incident_key(notification: Notification) -> str:
    """Return the name of an incident; of a long one its hash, as PagerDuty takes 255 characters."""
    key = notification.incident or notification.key
    return key if len(key) <= DEDUP_LENGTH else hashlib.sha256(key.encode()).hexdigest()


def mail(notification: Notification, target: NotifyTarget) -> EmailMessage:
    """Return a mail in plain text."""
    message = EmailMessage()
    message["Subject"] = " ".join(f"[ae] {notification.title}".split())
    message["From"] = target.sender
    message["To"] = ", ".join(target.recipients)
    message["Message-ID"] = f"<{notification.id}@ae>"  # the same when it is sent again
    message["Date"] = format_datetime(notification.time)
    lines = [notification.text]
    if notification.link:
        lines += ["", notification.link]
    message.set_content("\n".join(lines))
    return message
