"""The retrains that monitoring has started, in `.ae/monitoring/<recipe>/retrains.jsonl`. Standard library only.

A retrain has two lines. The first, `begun`, is on the disk before anything is started, and its id is the key under which the
retrain is started: starting it again under the same key is starting it once. The second, `started`, says what became of it. So
after a kill between the two, the next look finds a first line without a second one and starts that retrain, under that key:
neither twice nor never. Who writes holds `file_lock(project, "retrains-<recipe>")`.
"""

import json
import os
import secrets
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from aeops.errors import DataError, InfrastructureError, as_ae_error
from aeops.monitoring.paths import retrains_file
from aeops.project import Project
from aeops.registry.ledger import sync_folder

BEGUN, STARTED = "begun", "started"


@dataclass(frozen=True)
class Retrain:
    """A retrain, as its lines tell it.

    Attributes:
        id: 32 hexadecimal digits, the key under which it is started.
        time: ISO with a zone, of the look that decided.
        version: the champion that alarmed.
        signals: the alarms that counted.
        flow_run: the Prefect flow run; None where a kill came between.
    """

    id: str
    time: str
    version: str
    signals: tuple[str, ...]
    flow_run: str | None = None

    @property
    def moment(self) -> datetime:
        return datetime.fromisoformat(self.time)


def read(project: Project, recipe: str) -> list[Retrain]:
    """Every retrain, in the order in which they were begun; a torn last line was never a promise and is left out.

    Raises:
        DataError: a line cannot be read.
    """
    file = retrains_file(project, recipe)
    whole, _ = split(file)
    found: dict[str, Retrain] = {}
    for place, raw in enumerate(whole, 1):
        try:
            given: dict[str, Any] = json.loads(raw)
            if given["event"] == STARTED:
                begun = found[given["id"]]
                found[begun.id] = Retrain(begun.id, begun.time, begun.version, begun.signals, str(given["flow_run"]))
            else:
                found[given["id"]] = Retrain(given["id"], given["time"], given["version"], tuple(given["signals"]))
                _ = found[given["id"]].moment
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"line {place} of {file} cannot be read ({error!r}): put back a copy of the file; until then monitoring starts "
                f"no retrain, and `ae run {recipe}` is how you start one"
            ) from error
    return list(found.values())


def split(file: Path) -> tuple[list[bytes], int]:
    """The whole lines of the file, and how many bytes they are."""
    data = file.read_bytes() if file.is_file() else b""
    end = data.rfind(b"\n") + 1
    return data[:end].splitlines(), end


def unfinished(retrains: list[Retrain]) -> Retrain | None:
    """The retrain that was begun and of which nobody knows whether it was started."""
    return next((one for one in reversed(retrains) if one.flow_run is None), None)


def begin(project: Project, recipe: str, now: datetime, version: str, signals: tuple[str, ...]) -> Retrain:
    """Writes the first line of a retrain; once this returns, it is on the disk."""
    made = Retrain(secrets.token_hex(16), stamp(now), version, signals)
    told = {key: value for key, value in asdict(made).items() if key != "flow_run"}
    append(retrains_file(project, recipe), {"event": BEGUN} | told)
    return made


def stamp(now: datetime) -> str:
    """A moment as the lines have it."""
    return now.isoformat(timespec="microseconds")


def finish(project: Project, recipe: str, retrain: Retrain, flow_run: str) -> None:
    """Writes the second line."""
    append(retrains_file(project, recipe), {"event": STARTED, "id": retrain.id, "flow_run": flow_run})


def append(file: Path, line: dict[str, Any]) -> None:
    """Adds a line, on the disk once this returns; what a kill left of a line is cut away first.

    Raises:
        InfrastructureError: it cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab") as stream:
            stream.truncate(split(file)[1])
            stream.write(json.dumps(line, sort_keys=True, ensure_ascii=False).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        sync_folder(file.parent)
    except OSError as error:
        raise as_ae_error(error) or InfrastructureError(
            f"cannot write {file} ({error.strerror}): make it yours to write; no retrain is started that is not written down"
        ) from error
