"""Alarms of the monitoring, told to Prefect as events, so that its automation tells people: each once, when it begins."""

import json
import uuid
from datetime import UTC, datetime
from typing import Any

from aeops.files import write_json
from aeops.project import Project
from aeops.stack.prefect_api import PrefectApi

EVENT = "ae.alarm"


def read_alarms(project: Project) -> list[dict[str, Any]]:
    """The signals of each recipe's last monitoring that are in alarm: recipe, signal, says, as_of."""
    found = []
    for file in sorted((project.home / "monitoring").glob("*/verdict.json")):
        verdict = json.loads(file.read_text(encoding="utf-8"))
        for signal in verdict["signals"]:
            if signal["verdict"] == "alarm":
                told = {"recipe": file.parent.name, "signal": signal["name"], "says": signal["says"], "as_of": verdict["as_of"]}
                found.append(told)
    return found


def tell_alarms(project: Project, api: PrefectApi) -> list[str]:
    """Sends an event for each alarm that was not there the last time; says which.

    One that is sent and not yet written down when this process is killed is sent again: twice is better than never.
    """
    file = project.home / "stack" / "alarms.json"
    before = json.loads(file.read_text(encoding="utf-8"))["told"] if file.is_file() else []
    now = read_alarms(project)
    fresh = [alarm for alarm in now if name_of(alarm) not in before]
    if fresh:
        api.ask("POST", "events", [event_of(alarm) for alarm in fresh])
    if (names := [name_of(alarm) for alarm in now]) != before:
        write_json(file, {"told": names})
    return [f"{name_of(alarm)}: {alarm['says']}" for alarm in fresh]


def name_of(alarm: dict[str, Any]) -> str:
    return f"alarm of {alarm['recipe']}, {alarm['signal']}"


def event_of(alarm: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": EVENT,
        "resource": {"prefect.resource.id": f"ae.recipe.{alarm['recipe']}"},
        "payload": {"name": name_of(alarm), "says": alarm["says"], "as_of": alarm["as_of"]},
    }
