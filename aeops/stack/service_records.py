"""What is written down about each service, `.ae/services/<name>.json`, and which processes belong to it.

A service and all that it starts carry AE_SERVICE=<state folder>:<name> in their environment. So its processes are found also
where a parent died or a note is missing, and no process of anybody else is ever taken for one.
"""

import json
import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from aeops.files import write_json
from aeops.machine.process_identity import living
from aeops.project import Project

MARK = "AE_SERVICE"
STOP_WITHIN = 15.0  # seconds a process may take to end before it is killed
SUPERVISOR = "supervisor"  # the name of both supervisors; they have no note


@dataclass(frozen=True)
class Note:
    """One service as it was started.

    Attributes:
        started: seconds since 1970, for people; `mark` is what tells the process.
        address: where people find it; None of a service without one.
        health: the address that answers 200 while it is well; None of a service without one.
        api_url: of Prefect's server alone.
    """

    name: str
    pid: int
    started: float
    mark: str
    address: str | None
    health: str | None
    log: str
    command: list[str]
    api_url: str | None = None

    @property
    def process(self) -> psutil.Process | None:
        """The living process, None where it has ended."""
        return living(self.pid, self.mark)


def services_folder(project: Project) -> Path:
    return project.home / "services"


def note_file(project: Project, name: str) -> Path:
    return services_folder(project) / f"{name}.json"


def write_note(project: Project, note: Note) -> None:
    facts = asdict(note)
    if note.api_url is None:
        del facts["api_url"]
    write_json(note_file(project, note.name), facts)


def read_note(project: Project, name: str) -> Note | None:
    """The note; None where there is none, or one of an older kind, whose server is not of the stack."""
    try:
        facts = json.loads(note_file(project, name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return Note(**facts) if "mark" in facts else None


def read_notes(project: Project) -> list[Note]:
    names = sorted(file.stem for file in services_folder(project).glob("*.json"))
    return [note for name in names if (note := read_note(project, name))]


# ---------------------------------------------------------------- processes


def mark_for(project: Project, name: str) -> str:
    return f"{project.home}:{name}"


def processes(project: Project) -> dict[str, list[psutil.Process]]:
    """Every living process of the stack by the service that it belongs to, the supervisors among them."""
    found: dict[str, list[psutil.Process]] = {}
    start = mark_for(project, "")
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            mark = process.environ().get(MARK, "")
            if mark.startswith(start) and process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
                found.setdefault(mark.removeprefix(start), []).append(process)
    return found


def stop(chosen: Iterable[psutil.Process], within: float = STOP_WITHIN) -> None:
    """SIGTERM, then SIGKILL for what is left. psutil looks at the start of a process before it signals: see `is_running`."""
    chosen = list(chosen)
    send(chosen, signal.SIGTERM)
    _, left = psutil.wait_procs(chosen, timeout=within)
    send(left, signal.SIGKILL)
    psutil.wait_procs(left, timeout=within)


def send(chosen: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in chosen:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
