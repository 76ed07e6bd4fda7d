"""The processes of a stack that is up, read where the stack itself writes them down."""

import json

from aeops.project import Project
from aeops.stack.service_records import read_service_records, stack_processes


def pids(project: Project) -> dict[str, int | None]:
    """The living process of each service, the supervisors among them; None for one that is not there."""
    found = {note.name: note.pid if note.process else None for note in read_service_records(project)}
    return found | {name: holder(project, lock) for name, lock in (("supervisor", "stack"), ("standby", "standby"))}


def holder(project: Project, lock: str) -> int | None:
    """The living supervisor that holds a lock."""
    told = (project.home / "locks" / f"{lock}.lock").read_text()
    pid = json.loads(told)["pid"] if told else None
    alive = pid in {process.pid for process in stack_processes(project).get("supervisor", [])}
    return pid if alive else None
