"""The alarms of each recipe's last monitoring."""

from dataclasses import dataclass, replace

from aeops.machine.stored_json import read_json_if_whole
from aeops.project import Project
from aeops.registry import ledger
from aeops.registry.acknowledgement import find_acknowledgement, is_closed


@dataclass(frozen=True)
class ActiveAlarm:
    """A signal of a recipe's last monitoring that is in alarm.

    Attributes:
        message: what the signal found.
        as_of: the monitoring's time, ISO.
        seen_by: who has acknowledged it; None where nobody has.
        reason: of that person.
    """

    recipe: str
    signal: str
    message: str
    as_of: str
    seen_by: str | None = None
    reason: str | None = None

    def to_dict(self) -> dict[str, str | None]:
        """Return the alarm as `ae status --json` prints it."""
        return {
            "recipe": self.recipe,
            "signal": self.signal,
            "says": self.message,
            "as_of": self.as_of,
            "seen_by": self.seen_by,
            "why": self.reason,
        }


def read_alarms(project: Project) -> list[ActiveAlarm]:
    """Return the signals in alarm of each recipe's last monitoring: those of a champion that is one still.

    A damaged verdict is left out.
    """
    alarms = []
    for file in sorted((project.home / "monitoring").glob("*/verdict.json")):
        verdict = read_json_if_whole(file, "signals", "as_of")
        if verdict is None:
            continue
        entries = ledger.read_content(project, file.parent.name).entries
        if is_closed(entries, verdict.get("version")):
            continue
        for signal in verdict["signals"]:
            if signal["verdict"] == "alarm":
                alarm = ActiveAlarm(file.parent.name, signal["name"], signal["says"], verdict["as_of"])
                if seen := find_acknowledgement(entries, [alarm.signal]):
                    alarm = replace(alarm, seen_by=seen.who, reason=seen.why)
                alarms.append(alarm)
    return alarms
