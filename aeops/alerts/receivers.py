"""The receivers of ae.yaml with their secrets, and `send`, which notifies them and fails nothing.

    send(project, notification)      # prints a line for each receiver to stderr; raises nothing that a receiver causes

A secret is read when something is sent, from the environment of the process or from its file, and stored nowhere.
"""

import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aeops.alerts.notification import Notification, NotifyTarget
from aeops.alerts.sending import SendResult, keep_waiting, notify, retry_waiting, waiting_folder
from aeops.alerts.waiting import count_waiting
from aeops.errors import AeError, UsageError
from aeops.machine.lock import file_lock
from aeops.machine.stack_settings import read_settings
from aeops.machine.terminal import escape_line, is_quiet
from aeops.project import Project
from aeops.recipe.notify_settings import (
    ENVIRONMENT,
    FILE,
    URGENT_EVENTS,
    AnyReceiver,
    EmailReceiver,
    NotifySettings,
    PagerDutyReceiver,
    SlackReceiver,
    WebhookReceiver,
)
from aeops.recipe.project_settings import read_project_settings

LOCK = "notifications"
RETRY_GAP = timedelta(minutes=10)  # between attempts to send what waits, where nothing new happens
PAGES = {"report": "report.html", "monitoring": "page.html"}  # of a recipe: last part of its address -> its file


@dataclass(frozen=True)
class ReadyReceiver:
    """A receiver of ae.yaml.

    Attributes:
        target: with its secrets; with an empty address or secret where they are not at hand.
        place: where it is, without a secret: a host, or the name of the variable or file that holds the address.
        problem: why nothing can be sent to it; empty where something can.
    """

    target: NotifyTarget
    place: str
    problem: str = ""


def read_receivers(project: Project) -> list[ReadyReceiver]:
    """Return the receivers of ae.yaml with their secrets.

    Raises:
        UsageError: with every mistake in ae.yaml.
    """
    return [_prepare(project, one) for one in read_project_settings(project.root).notify.receivers]


def report_problems(project: Project) -> None:
    """Print a note to stderr for each receiver that cannot be notified from here, such as one whose secret is missing.

    Raises:
        UsageError: with every mistake in ae.yaml.
    """
    for one in read_receivers(project):
        if one.problem:
            line = f"note: {one.target.name} of ae.yaml cannot be notified from here: {one.problem}"
            print(escape_line(line), file=sys.stderr, flush=True)


def send(project: Project, notification: Notification) -> list[SendResult]:
    """Tell every receiver that wants it, and print to stderr what came of it.

    What waits since before is tried first. A receiver that is down, a secret that is missing or an ae.yaml that somebody has
    broken meanwhile stop no run: they are said.
    """
    try:
        receivers = read_receivers(project)
        report_retried(retry(project, receivers))
        results = send_to(project, notification, receivers)
    except (AeError, OSError) as error:
        print(escape_line(f"notify: nobody was notified of `{notification.title}`: {error}"), file=sys.stderr, flush=True)
        return []
    for result in results:
        if line := result_line(result, notification):
            print(escape_line(line), file=sys.stderr, flush=True)
    return results


def send_to(project: Project, notification: Notification, receivers: Sequence[ReadyReceiver]) -> list[SendResult]:
    """Send to those of the receivers that want it; return one result for each of them.

    Raises:
        OSError: the record of what was sent cannot be written.
    """
    results, targets, record = list[SendResult](), list[NotifyTarget](), sent_file(project)
    wanting = [one for one in receivers if one.target.wants(notification)]
    if not wanting:
        return []
    with file_lock(project, LOCK):  # of two processes that send the same, the second one holds it back
        for one in wanting:
            if not one.problem:
                targets.append(one.target)
                continue
            if notification.event != "test":
                keep_waiting(record, one.target, notification)
            results.append(SendResult(one.target.name, "failed", one.problem))
        if targets:
            results += notify(notification, targets, record)
    return results


def retry(project: Project, receivers: Sequence[ReadyReceiver], gap: timedelta = timedelta(0)) -> list[SendResult]:
    """Try once to send what waits; return a result for each notification that was tried.

    Args:
        gap: what was tried within it is not tried now.

    Raises:
        OSError: the record of what was sent cannot be written.
    """
    if not any(waiting_folder(sent_file(project)).glob("*.json")):
        return []
    targets = [one.target for one in receivers if not one.problem]
    with file_lock(project, LOCK):
        return retry_waiting(targets, sent_file(project), gap)


def retry_quietly(project: Project, gap: timedelta = timedelta(0)) -> None:
    """Try once to send what waits, for who has nothing else to say: it raises nothing, and says what arrived."""
    try:
        report_retried(retry(project, read_receivers(project), gap))
    except (AeError, OSError) as error:
        print(escape_line(f"notify: nobody was notified of what waits: {error}"), file=sys.stderr, flush=True)


def send_before_end(project: Project, notification: Notification) -> None:
    """Store a notification as one that waits and try once to send it, for a process that has seconds left.

    What does not arrive in them is sent by the next event, by monitoring or by `ae up`. Nothing is raised.
    """
    try:
        for one in read_receivers(project):
            if one.target.wants(notification):
                keep_waiting(sent_file(project), one.target, notification)
    except (AeError, OSError) as error:
        print(escape_line(f"notify: nobody was notified of `{notification.title}`: {error}"), file=sys.stderr, flush=True)
        return
    retry_quietly(project)


def report_retried(results: Sequence[SendResult]) -> None:
    """Print to stderr what has arrived after all, a line for each receiver."""
    for target, count in Counter(result.target for result in results if result.state == "sent").items():
        if not is_quiet():
            line = f"notify: {target} was notified of {count} that waited"
            print(escape_line(line), file=sys.stderr, flush=True)


def waiting_counts(project: Project) -> list[dict[str, Any]]:
    """Return for each receiver that something waits for: `receiver`, `count` and `since`, the time of the oldest."""
    rows = []
    for target, count, since in count_waiting(waiting_folder(sent_file(project))):
        rows.append({"receiver": target, "count": count, "since": since.isoformat(timespec="seconds")})
    return rows


def result_line(result: SendResult, notification: Notification) -> str:
    """Return what is printed of a result; empty where nothing has to be said."""
    if result.state == "failed":
        attempts = f" in {result.attempts} attempts" if result.attempts > 1 else ""
        later = "" if notification.event == "test" else "; it waits, and `ae notify --retry` sends it"
        return f"notify: {result.target} was not notified of `{notification.title}`{attempts}: {result.reason}{later}"
    if result.state == "sent" and not is_quiet():
        return f"notify: {result.target} was notified: {notification.title}"
    return ""


def sent_file(project: Project) -> Path:
    """Return the record of what was sent when, by which duplicates are held back."""
    return project.home / "notifications" / "sent.json"


def page_link(project: Project, recipe: str, page: str) -> str:
    """Return the address of a recipe's report or monitoring page, as a receiver reaches it.

    On the page of ae.yaml's `notify.page`, else on that of `ae up`, else as a file of this machine; empty where there is none.

    Args:
        page: one of PAGES.
    """
    folder = project.reports(recipe) if page == "report" else project.home / "monitoring" / recipe
    return document_link(project, f"r/{recipe}/{page}", folder / PAGES[page])


def document_link(project: Project, path: str, file: Path) -> str:
    """Return the address of a document, as a browser on another page may open it: no browser follows a link from there to a file.

    On the page of ae.yaml's `notify.page`, else on that of `ae up`, else as a file of this machine; empty where there is none.

    Args:
        path: of the document on the page, such as `r/digits/report`.
        file: that the page serves there.
    """
    address = _page_address(project)
    if address:
        return f"{address.rstrip('/')}/{path}"
    return file.as_uri() if file.is_file() else ""


def _page_address(project: Project) -> str:
    try:
        if address := read_project_settings(project.root).notify.page:
            return address
        stack = read_settings(project)
    except AeError:  # said by `send`, or by `ae up`
        return ""
    return stack.url(stack.page_port) if stack is not None else ""


# ---------------------------------------------------------------- secrets


def _prepare(project: Project, receiver: AnyReceiver) -> ReadyReceiver:
    events = receiver.events
    if not events and isinstance(receiver, PagerDutyReceiver):
        events = URGENT_EVENTS
    address, secret, sender, recipients = _address(receiver), "", "", tuple[str, ...]()
    problems = []
    place = address if address.startswith((ENVIRONMENT, FILE)) else urlsplit(address).netloc.rpartition("@")[2]
    try:
        address = _resolve(project, address)
        if isinstance(receiver, WebhookReceiver | SlackReceiver) and not address.startswith(("https://", "http://")):
            problems.append(f"{place} holds no address that begins with https:// or http://")
    except UsageError as error:
        problems.append(str(error))
    reference = _secret(receiver)
    try:
        secret = _resolve(project, reference) if reference else ""
    except UsageError as error:
        problems.append(str(error))
    if isinstance(receiver, EmailReceiver):
        sender, recipients = receiver.sender, receiver.recipients
        place = f"{place} to {', '.join(recipients)}"
    target = NotifyTarget(
        receiver.name, receiver.kind, address, secret, sender, recipients, events, receiver.recipes, receiver.repeat_hours
    )
    return ReadyReceiver(target, place, "; ".join(problems))


def _address(receiver: AnyReceiver) -> str:
    return receiver.server if isinstance(receiver, EmailReceiver) else receiver.address


def _secret(receiver: AnyReceiver) -> str:
    if isinstance(receiver, EmailReceiver):
        return receiver.login
    return "" if isinstance(receiver, SlackReceiver) else receiver.key


def _resolve(project: Project, reference: str) -> str:
    """Return the secret that a reference names; what is no reference is returned as it is.

    Raises:
        UsageError: it is not there, empty, or readable by others.
    """
    if reference.startswith(ENVIRONMENT):
        name = reference.removeprefix(ENVIRONMENT)
        if value := os.environ.get(name, "").strip():
            return value
        raise UsageError(f"the environment variable {name} is not set here")
    if reference.startswith(FILE):
        return _read_secret_file(project.root / Path(reference.removeprefix(FILE)).expanduser())
    return reference


def _read_secret_file(file: Path) -> str:
    """Return the first line of a file that, where it is this user's, not everybody may read.

    A file of another user, such as one that Compose mounts with its own mode, cannot be closed by who reads it.
    """
    try:
        status, lines = file.stat(), file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from error
    if not lines or not lines[0].strip():
        raise UsageError(f"the first line of {file} is empty; expected the secret there")
    if status.st_mode & 0o007 and status.st_uid == os.getuid():
        raise UsageError(f"{file} can be read by everybody: type `chmod o= {file}`")
    return lines[0].strip()


def notify_settings(project: Project) -> NotifySettings:
    """Return `notify` of ae.yaml; the defaults where the file has a mistake, which is said by what needs more of it."""
    try:
        return read_project_settings(project.root).notify
    except AeError:
        return NotifySettings()
