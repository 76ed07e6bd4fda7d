"""Alarms of the monitoring, sent to Prefect as events, so that its automation notifies people: each once, when it begins."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aeops.files import write_json
from aeops.machine.stored_json import read_json_if_whole
from aeops.project import Project
from aeops.stack.prefect_api import PrefectApi

ALARM_EVENT = "ae.alarm"
SENT_KEY = "sent"
OLD_SENT_KEY = "told"  # of files that earlier versions wrote


@dataclass(frozen=True)
class ActiveAlarm:
    """A signal of a recipe's last monitoring that is in alarm.

    Attributes:
        message: what the signal found.
        as_of: the monitoring's time, ISO.
    """

    recipe: str
    signal: str
    message: str
    as_of: str

    @property
    def title(self) -> str:
        return f"alarm of {self.recipe}, {self.signal}"

    def to_dict(self) -> dict[str, str]:
        """Return the alarm as `ae status --json` prints it."""
        return {"recipe": self.recipe, "signal": self.signal, "says": self.message, "as_of": self.as_of}


def read_alarms(project: Project) -> list[ActiveAlarm]:
    """Return the signals in alarm of each recipe's last monitoring; a damaged verdict is left out."""
    alarms = []
    for file in sorted((project.home / "monitoring").glob("*/verdict.json")):
        verdict = read_json_if_whole(file, "signals", "as_of")
        if verdict is None:
            continue
        for signal in verdict["signals"]:
            if signal["verdict"] == "alarm":
                alarms.append(ActiveAlarm(file.parent.name, signal["name"], signal["says"], verdict["as_of"]))
    return alarms


def send_alarms(project: Project, api: PrefectApi) -> list[str]:
    """Send an event for each alarm that was not there the last time.

    One that is sent and not yet recorded when this process is killed is sent again: twice is better than never.

    Returns:
        A line for each alarm sent.
    """
    file = project.home / "stack" / "alarms.json"
    old_titles = _read_sent_titles(file)
    alarms = read_alarms(project)
    new_alarms = [alarm for alarm in alarms if alarm.title not in old_titles]
    if new_alarms:
        api.request("POST", "events", list(map(_alarm_event, new_alarms)))
    titles = [alarm.title for alarm in alarms]
    if titles != old_titles:
        write_json(file, {SENT_KEY: titles})
    return [f"{alarm.title}: {alarm.message}" for alarm in new_alarms]


def _read_sent_titles(file: Path) -> list[str]:
    """Return the titles of the alarms that were sent the last time; none where the file is missing or damaged."""
    record = read_json_if_whole(file)
    if not isinstance(record, dict):
        return []
    titles = record.get(SENT_KEY, record.get(OLD_SENT_KEY))
    if not isinstance(titles, list):
        return []
    return titles


def _alarm_event(alarm: ActiveAlarm) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": ALARM_EVENT,
        "resource": {"prefect.resource.id": f"ae.recipe.{alarm.recipe}"},
        "payload": {"name": alarm.title, "says": alarm.message, "as_of": alarm.as_of},
    }
