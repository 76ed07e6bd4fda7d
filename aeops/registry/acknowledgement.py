"""Alarms that a person has seen: an entry of the ledger says who and why, until there is another champion.

An alarm is closed by the next champion, whose evidence begins anew; `describe_answer` says what came of a retrain.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from aeops.files import data_sha256
from aeops.registry import ledger
from aeops.registry.ledger import LedgerEntry

ACKNOWLEDGEMENT = "acknowledgement"  # the event in the ledger
SIGNALS_KEY = "signals"  # of its evidence: the names of the alarms, separated by commas


def alarm_evidence(entries: Sequence[LedgerEntry], alarms: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return what the ledger holds of the alarms that are acknowledged.

    Args:
        entries: of the recipe's ledger; the same alarms of another champion are others.
        alarms: records of verdict.json, with `name` and, of most, `since`.
    """
    last_move = ledger.last_move(list(entries))
    number = last_move.number if last_move is not None else 0
    names = sorted(str(alarm["name"]) for alarm in alarms)
    since = sorted(f"{alarm['name']} {alarm.get('since')}" for alarm in alarms)
    return {"sha256": data_sha256(f"champion of entry {number}: {', '.join(since)}"), SIGNALS_KEY: ",".join(names)}


def find_acknowledgement(entries: Sequence[LedgerEntry], alarm_names: Sequence[str]) -> LedgerEntry | None:
    """Return the last entry by which a person has seen all of these alarms of the present champion; None without one."""
    for entry in reversed(entries):
        if entry.moves_champion:
            return None
        if entry.event == ACKNOWLEDGEMENT and set(alarm_names) <= set(entry.evidence.get(SIGNALS_KEY, "").split(",")):
            return entry
    return None


def is_closed(entries: Sequence[LedgerEntry], version: str | None) -> bool:
    """Return whether the alarms of a version are closed, as another one is champion by now, or none is."""
    return bool(entries) and version is not None and ledger.champion_at(list(entries)) != version


def find_closing(entries: Sequence[LedgerEntry], version: str | None) -> LedgerEntry | None:
    """Return the entry by which a version stopped being champion, which closed its alarms; None where they are not closed.

    Args:
        entries: of the recipe's ledger.
        version: that was checked; None where there was no champion.
    """
    if not is_closed(entries, version):
        return None
    for entry in reversed(entries):
        if entry.moves_champion and entry.from_version == version:
            return entry
    return ledger.last_move(list(entries))


def describe_closing(entry: LedgerEntry) -> str:
    """Return what an entry of `find_closing` did, such as "version 2 became champion on 2026-11-21 12:00 UTC"."""
    moment = f"{entry.timestamp:%Y-%m-%d %H:%M} UTC"
    if entry.to_version is None:
        return f"{entry.who} retired version {entry.from_version} on {moment}: {entry.why}"
    if entry.event == "rollback":
        return f"{entry.who} made version {entry.to_version} champion again on {moment}: {entry.why}"
    return f"version {entry.to_version} became champion on {moment}"


def describe_answer(entries: Sequence[LedgerEntry], started_at: datetime, outcome: str | None = None) -> str:
    """Return what came of a retrain that was started at that time, by the first decision after it.

    Args:
        entries: of the recipe's ledger.
        started_at: with a zone.
        outcome: what the retrain's run said where it made no version, such as that nothing was new, or why it failed.
    """
    decisions = (_describe_decision(entry, started_at) for entry in entries)
    decision = next(filter(None, decisions), "")
    if outcome and decision:
        return f"{outcome}; later {decision}"
    return outcome or decision or "no version has come of it yet"


def _describe_decision(entry: LedgerEntry, started_at: datetime) -> str:
    """Return what a decision after that time was; empty for an entry before it, or of another kind."""
    if entry.timestamp <= started_at:
        return ""
    if entry.event in ("promotion", "recalibration"):
        return f"version {entry.to_version} became champion on {entry.timestamp:%Y-%m-%d %H:%M}"
    if entry.event == "refusal":
        return f"version {entry.version} was refused: {entry.why}"
    if entry.event == "request":
        return f"version {entry.version} waited for approval from {entry.timestamp:%Y-%m-%d %H:%M}"
    return ""
