"""Record the retrains that monitoring starts, in `.ae/monitoring/<recipe>/retrains.jsonl`. Standard library only.

A retrain has two lines. The first, `begun`, is on the disk before anything is started, and its id is the key under which the
retrain is started: starting it again under the same key is starting it once. The second, `started`, holds its flow run. So
after a kill between the two, the next check finds a first line without a second one and starts that retrain, under that key:
neither twice nor never. The writer holds `file_lock(project, "retrains-<recipe>")`. A third line, `ended`, is there where the
retrain's run made no version: it says why. What became of a version stands in the ledger.
"""

import json
import secrets
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from aeops.errors import DataError, InfrastructureError, as_ae_error
from aeops.files import append_synced
from aeops.machine.lock import file_lock
from aeops.monitoring.paths import retrains_file
from aeops.project import Project

BEGIN_EVENT, START_EVENT, END_EVENT = "begun", "started", "ended"


@dataclass(frozen=True)
class RetrainRecord:
    """One retrain that monitoring started.

    Attributes:
        id: 32 hexadecimal digits, the key under which it is started.
        time: ISO with a zone, of the check that decided.
        version: the champion that alarmed.
        signals: the alarms that counted.
        flow_run: the Prefect flow run; None where a kill came between.
        outcome: why its run made no version; None where it made one, or is not known to have ended.
    """

    id: str
    time: str
    version: str
    signals: tuple[str, ...]
    flow_run: str | None = None
    outcome: str | None = None

    @property
    def timestamp(self) -> datetime:
        """Time of the check that decided."""
        return datetime.fromisoformat(self.time)


def read_retrains(project: Project, recipe: str) -> list[RetrainRecord]:
    """Return every retrain in the order in which they were begun; an incomplete last line is left out.

    Raises:
        DataError: a line cannot be read.
    """
    file = retrains_file(project, recipe)
    lines, _ = _split_lines(file)
    retrains: dict[str, RetrainRecord] = {}
    for number, line in enumerate(lines, 1):
        try:
            retrain = _parse_line(json.loads(line), retrains)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"line {number} of {file} cannot be read ({error!r}): put back a copy of the file; until then monitoring starts "
                f"no retrain, and `ae run {recipe}` is how you start one"
            ) from error
        retrains[retrain.id] = retrain
    return list(retrains.values())


def _parse_line(entry: dict[str, Any], retrains: dict[str, RetrainRecord]) -> RetrainRecord:
    if entry["event"] == START_EVENT:
        return replace(retrains[entry["id"]], flow_run=str(entry["flow_run"]))
    if entry["event"] == END_EVENT:
        return replace(retrains[entry["id"]], outcome=str(entry["outcome"]))
    datetime.fromisoformat(entry["time"])
    return RetrainRecord(entry["id"], entry["time"], entry["version"], tuple(entry["signals"]))


def _split_lines(file: Path) -> tuple[list[bytes], int]:
    """Return the complete lines of the file and their total size in bytes."""
    data = file.read_bytes() if file.is_file() else b""
    end = data.rfind(b"\n") + 1
    return data[:end].splitlines(), end


def find_unfinished_retrain(retrains: list[RetrainRecord]) -> RetrainRecord | None:
    """Return the retrain that was begun and of which it is not known whether it was started."""
    for retrain in reversed(retrains):
        if retrain.flow_run is None:
            return retrain
    return None


def begin_retrain(project: Project, recipe: str, now: datetime, version: str, signals: tuple[str, ...]) -> RetrainRecord:
    """Write the first line of a retrain; it is on the disk before this returns.

    Args:
        now: time of the check that decided, with its zone.
        version: the champion that alarmed.
        signals: the alarms that counted.

    Raises:
        InfrastructureError: the file cannot be written.
    """
    retrain = RetrainRecord(secrets.token_hex(16), format_time(now), version, signals)
    entry = {"event": BEGIN_EVENT, "id": retrain.id, "time": retrain.time, "version": version, "signals": list(signals)}
    _append_line(retrains_file(project, recipe), entry)
    return retrain


def format_time(now: datetime) -> str:
    """Return a time as the lines hold it."""
    return now.isoformat(timespec="microseconds")


def finish_retrain(project: Project, recipe: str, retrain: RetrainRecord, flow_run: str) -> None:
    """Write the second line of a retrain.

    Raises:
        InfrastructureError: the file cannot be written.
    """
    _append_line(retrains_file(project, recipe), {"event": START_EVENT, "id": retrain.id, "flow_run": flow_run})


def end_retrain(project: Project, recipe: str, flow_run: str, outcome: str) -> None:
    """Record why the run of a retrain made no version; nothing for a flow run that is no retrain of monitoring.

    Raises:
        DataError: a line of the file cannot be read.
        InfrastructureError: the file cannot be written.
    """
    if not retrains_file(project, recipe).is_file():
        return
    with file_lock(project, f"retrains-{recipe}"):
        for retrain in read_retrains(project, recipe):
            if retrain.flow_run == flow_run:
                entry = {"event": END_EVENT, "id": retrain.id, "outcome": outcome}
                _append_line(retrains_file(project, recipe), entry)


def _append_line(file: Path, entry: dict[str, Any]) -> None:
    """Append a line and sync it to the disk; an incomplete line left by a kill is cut off first."""
    try:
        line = json.dumps(entry, sort_keys=True, ensure_ascii=False).encode() + b"\n"
        append_synced(file, line, end=_split_lines(file)[1])
    except OSError as error:
        raise as_ae_error(error) or InfrastructureError(
            f"cannot write {file} ({error.strerror}): make it yours to write; no retrain is started that is not written down"
        ) from error
