"""The processes of a stack that is up, read where the stack itself writes them down."""

import json
import os
from typing import Any

from aeops.machine.process_identity import start_id_of
from aeops.machine.service_records import ServiceRecord, read_service_records, write_service_record
from aeops.project import Project
from aeops.stack.service_processes import stack_processes


def record_service(project: Project, name: str, **values: Any) -> ServiceRecord:
    """Write the record of a service, for which this process stands where `values` name no other."""
    pid = values.pop("pid", os.getpid())
    start_id = values.pop("start_id", None) or start_id_of(pid)
    defaults: dict[str, Any] = {"address": None, "health": None, "log": str(project.logs / f"{name}.log"), "command": [name]}
    record = ServiceRecord(name, pid, 0.0, start_id, **defaults | values)
    write_service_record(project, record)
    return record


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
