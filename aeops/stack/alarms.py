"""The alarms of each recipe's last monitoring."""

from dataclasses import dataclass

from aeops.machine.stored_json import read_json_if_whole
from aeops.project import Project
from aeops.registry import ledger
from aeops.registry.acknowledgement import is_closed


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

    def to_dict(self) -> dict[str, str]:
        """Return the alarm as `ae status --json` prints it."""
        return {"recipe": self.recipe, "signal": self.signal, "says": self.message, "as_of": self.as_of}


def read_alarms(project: Project) -> list[ActiveAlarm]:
    """Return the signals in alarm of each recipe's last monitoring: those of a champion that is one still.

    A damaged verdict is left out.
    """
    alarms = []
    for file in sorted((project.home / "monitoring").glob("*/verdict.json")):
        verdict = read_json_if_whole(file, "signals", "as_of")
        if verdict is None:
            continue
        if is_closed(ledger.read_content(project, file.parent.name).entries, verdict.get("version")):
            continue
        for signal in verdict["signals"]:
            if signal["verdict"] == "alarm":
                alarms.append(ActiveAlarm(file.parent.name, signal["name"], signal["says"], verdict["as_of"]))
    return alarms
