"""Tell the receivers of ae.yaml what came of a run, a check or a person's decision, and what it does to the alarms that are open.

Nothing here raises an error of a receiver: see `aeops.alerts.receivers.send`.
"""

from aeops.alerts import notices
from aeops.alerts.formats import is_web_address
from aeops.alerts.notices import OpenAlarms
from aeops.alerts.notification import Notification
from aeops.alerts.receivers import notify_settings, page_link, send
from aeops.errors import as_ae_error
from aeops.monitoring.verdict import MonitoringVerdict, find_alarms, read_last_verdict
from aeops.project import Project
from aeops.provenance.run_summary import QuarantineCounts, RunSummary
from aeops.registry import ledger
from aeops.registry.acknowledgement import ACKNOWLEDGEMENT, find_acknowledgement
from aeops.registry.ledger import LedgerEntry
from aeops.registry.store import local_store_in_use
from aeops.report.headline import verdict_sentence


def count_decisions(project: Project, recipe: str) -> int:
    """Return how many decisions the recipe's ledger holds, for `tell_result`."""
    return len(ledger.read_content(project, recipe).entries)


def tell_result(project: Project, summary: RunSummary, decisions_before: int) -> None:
    """Tell what a run has decided about its version; nothing where it decided nothing new.

    Args:
        summary: of the run.
        decisions_before: `count_decisions` when the run began.
    """
    recipe, version = summary["recipe"], summary["version"]
    entries = ledger.read_content(project, recipe).entries
    new_entries = entries[decisions_before:]
    own_entries = [entry for entry in new_entries if entry.version == version]
    if not own_entries:
        return
    sentence = verdict_sentence(summary["metrics"], summary.get("comparison"), summary["reasons"])
    entry, link = own_entries[-1], page_link(project, recipe, "report")
    if not is_web_address(link) and not local_store_in_use():
        link = summary["run_url"]  # the report is a file of that run, and others reach its page
    if entry.moves_champion:
        notification = notices.accepted(recipe, version, sentence, link)
    elif entry.event == "request":
        notification = notices.waiting(recipe, version, sentence, link)
    else:
        notification = notices.refused(recipe, version, sentence, link, champion=ledger.champion_at(entries))
    send(project, with_answer(project, notification, entry))


def tell_decision(project: Project, entry: LedgerEntry) -> None:
    """Tell what a person has decided: a promotion by an approval, a rejection, a rollback, a retirement, an acknowledgement."""
    if entry.event == ACKNOWLEDGEMENT:
        alarms = find_open_alarms(project, entry.recipe, entry.version)
        if alarms is not None:
            link = page_link(project, entry.recipe, "monitoring")
            send(project, notices.acknowledged(alarms, entry.who, entry.why, entry.hash, link))
        return
    link = page_link(project, entry.recipe, "report") if entry.event in ("promotion", "recalibration") else ""
    notification = notices.decided(entry.recipe, entry.version, entry.event, entry.who, entry.why, entry.hash, link)
    send(project, with_answer(project, notification, entry))


def with_answer(project: Project, notification: Notification, entry: LedgerEntry) -> Notification:
    """Return the notification with what the decision does to the alarms that were open when it was made."""
    champion = entry.from_version
    if not entry.moves_champion:
        champion = ledger.champion_at(ledger.read_content(project, entry.recipe).entries)
    if champion is None or entry.event == "request":
        return notification
    alarms = find_open_alarms(project, entry.recipe, champion)
    return notification if alarms is None else notices.answered(notification, alarms)


def find_open_alarms(project: Project, recipe: str, champion: str) -> OpenAlarms | None:
    """Return the alarms that the last check has found of this champion; None where there are none."""
    verdict = read_last_verdict(project, recipe)
    if verdict is None or verdict["version"] != champion:
        return None
    return _open_alarms(recipe, verdict)


def _open_alarms(recipe: str, verdict: MonitoringVerdict) -> OpenAlarms | None:
    messages = {alarm["name"]: alarm["says"] for alarm in find_alarms(verdict)}
    if verdict["version"] is None or not messages:
        return None
    return OpenAlarms(recipe, verdict["version"], messages)


def tell_alarms(project: Project, verdict: MonitoringVerdict) -> None:
    """Tell the alarms that a check has found, unless a person has seen them; the same ones again only after hours."""
    alarms = _open_alarms(verdict["recipe"], verdict)
    if alarms is None:
        return
    entries = ledger.read_content(project, alarms.recipe).entries
    if find_acknowledgement(entries, list(alarms.messages)) is None:
        send(project, notices.alarm(alarms, verdict["decision"]["why"], page_link(project, alarms.recipe, "monitoring")))


def tell_failure(project: Project, recipe: str, run: str, error: Exception) -> None:
    """Tell that a run failed, such as `training of digits`, with the message that the command line prints."""
    explained = as_ae_error(error)
    message = str(explained) if explained is not None else f"{type(error).__name__}: {error}, a fault of ae itself"
    send(project, notices.failed(recipe, run, message))


def tell_quarantine(project: Project, recipe: str, counts: QuarantineCounts | None, content: str) -> None:
    """Tell that validation has set aside a larger share of a run's samples than `notify.quarantine_share` says.

    Args:
        counts: of the run; None where no sample was set aside.
        content: SHA-256 of the dataset.
    """
    if counts is None or counts["count"] <= notify_settings(project).quarantine_share * counts["given"]:
        return
    send(project, notices.set_aside(recipe, counts["count"], counts["given"], counts["reasons"], content))
