"""Notifications that a receiver has not got yet: a file for each of them and each receiver, until it is sent or too old.

    <home>/notifications/waiting/<hash of receiver, event and key>.json

A file is written before the first attempt and removed after the last, so that a process may be killed in between: the next one
sends it again, with the same id. It holds no address and no secret: those come from ae.yaml when something is sent.
"""

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path

from ae_models.checksums import json_sha256
from aeops.alerts.notification import Notification, NotifyTarget
from aeops.errors import DataError
from aeops.files import make_folder, write_json
from aeops.machine.stored_json import read_json_if_whole
from aeops.machine.terminal import escape_line

FORMAT = 1
MAX_AGE = timedelta(days=7)  # of what is still sent: older news is in the ledger, the report and the logs
MAX_WAITING = 200  # files; the oldest make room
CLOSED_BY_AN_ANSWER = ("alarm", "answer")  # events that nobody needs once their incident is resolved


@dataclass(frozen=True)
class WaitingNotice:
    """A notification that a receiver has not got.

    Attributes:
        file: that holds it.
        target: name of the receiver.
        notification: what happened.
        attempts: how often it was tried; 0 where the process was killed before it knew.
        tried_at: when it was tried last, with a time zone; None likewise.
    """

    file: Path
    target: str
    notification: Notification
    attempts: int = 0
    tried_at: datetime | None = None


def waiting_file(folder: Path, target: str, notification: Notification) -> Path:
    """Return the file of a notification: a later one of the same thing takes the place of an earlier one."""
    return folder / f"{json_sha256([target, notification.event, notification.key])[:32]}.json"


def store_waiting(folder: Path, notice: WaitingNotice) -> None:
    """Write a notification as one that waits, and let the oldest make room."""
    make_folder(folder)
    content = asdict(notice.notification) | {"time": notice.notification.time.isoformat()}
    tried_at = notice.tried_at.isoformat() if notice.tried_at is not None else None
    document = {"format": FORMAT, "target": notice.target, "attempts": notice.attempts, "tried_at": tried_at}
    write_json(notice.file, document | {"notification": content})
    waiting = read_waiting(folder)
    for oldest in waiting[: max(0, len(waiting) - MAX_WAITING)]:
        _drop(oldest, f"more than {MAX_WAITING} wait")


def read_waiting(folder: Path) -> list[WaitingNotice]:
    """Return what waits, the oldest first; a damaged file is named on stderr and removed."""
    found = []
    for file in sorted(folder.glob("*.json")):
        notice = _read(file)
        if notice is not None:
            found.append(notice)
    return sorted(found, key=lambda one: one.notification.time)


def drop_outdated(folder: Path, now: datetime) -> None:
    """Remove what has waited for longer than MAX_AGE, and say so."""
    for notice in read_waiting(folder):
        if now - notice.notification.time > MAX_AGE:
            _drop(notice, f"it has waited for {MAX_AGE.days} days")


def drop_answered(folder: Path, target: NotifyTarget, sent: Notification) -> None:
    """Remove what waits of an incident that was just reported to a receiver as resolved: it would open it again."""
    if sent.action != "resolve" or not sent.incident:
        return
    for notice in read_waiting(folder):
        other = notice.notification
        if notice.target == target.name and other.incident == sent.incident and other.event in CLOSED_BY_AN_ANSWER:
            notice.file.unlink(missing_ok=True)


def _drop(notice: WaitingNotice, reason: str) -> None:
    notice.file.unlink(missing_ok=True)
    line = f"notify: {notice.target} will not be notified of `{notice.notification.title}` any more: {reason}"
    print(escape_line(line), file=sys.stderr, flush=True)


def _read(file: Path) -> WaitingNotice | None:
    document = read_json_if_whole(file, "target", "notification", "attempts", "tried_at")
    if document is None:
        file.unlink(missing_ok=True)
        return None
    try:
        content = dict(document["notification"])
        notification = Notification(**content | {"time": _parse_time(content["time"])})
        tried_at = _parse_time(document["tried_at"]) if document["tried_at"] is not None else None
    except (DataError, TypeError, KeyError, ValueError):  # of another version, or altered
        file.unlink(missing_ok=True)
        return None
    return WaitingNotice(file, str(document["target"]), notification, int(document["attempts"]), tried_at)


def _parse_time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.utcoffset() is None:
        raise DataError(f"expected a time with a zone, got {text}")
    return moment


def count_waiting(folder: Path) -> Iterator[tuple[str, int, datetime]]:
    """Yield each receiver that something waits for, how many notifications, and the time of the oldest."""
    waiting = read_waiting(folder)
    for target in sorted({notice.target for notice in waiting}):
        times = [notice.notification.time for notice in waiting if notice.target == target]
        yield target, len(times), times[0]
