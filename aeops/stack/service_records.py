"""Records of running services, `.ae/services/<name>.json`, and the processes that belong to each.

A service and all that it starts carry AE_SERVICE=<state folder>:<name> in their environment. So its processes are found also
where a parent died or a record is missing, and no other process is ever taken for one.
"""

import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import psutil

from aeops.files import write_json
from aeops.machine.process_identity import find_process
from aeops.machine.servers import is_own_log
from aeops.machine.stored_json import read_json_if_whole
from aeops.project import Project

SERVICE_VARIABLE = "AE_SERVICE"
SUPERVISOR_NAME = "supervisor"  # of both supervisors; they have no record
_STOP_TIMEOUT = 15.0  # seconds a process may take to end before it is killed


@dataclass(frozen=True)
class ServiceRecord:
    """One service as it was started.

    Attributes:
        started_at: seconds since 1970, for people; `start_id` is what identifies the process.
        start_id: see `ProcessIdentity.start_id`.
        address: its URL; None of a service without one.
        health: the address that responds with 200 while it is healthy; None of a service without one.
        api_url: of Prefect's server alone.
    """

    name: str
    pid: int
    started_at: float
    start_id: str
    address: str | None
    health: str | None
    log: str
    command: list[str]
    api_url: str | None = None

    @property
    def process(self) -> psutil.Process | None:
        """Living process; None where it has ended."""
        return find_process(self.pid, self.start_id)


_STORED_NAMES = {"started_at": "started", "start_id": "mark"}
_REQUIRED_KEYS = ("name", "pid", "started", "mark", "address", "health", "log", "command")
_KEY_TYPES: dict[str, type | tuple[type, ...]] = {"pid": int, "started": (int, float), "mark": str, "log": str, "command": list}


def services_folder(project: Project) -> Path:
    return project.home / "services"


def service_record_file(project: Project, name: str) -> Path:
    return services_folder(project) / f"{name}.json"


def write_service_record(project: Project, record: ServiceRecord) -> None:
    document = {_stored_name(name): value for name, value in asdict(record).items()}
    if record.api_url is None:
        del document["api_url"]
    write_json(service_record_file(project, record.name), document)


def read_service_record(project: Project, name: str) -> ServiceRecord | None:
    """Return a service's record; None where there is none, a damaged one, or one of a server that is not part of this stack.

    Keys that this version does not know are passed over.
    """
    file = service_record_file(project, name)
    document = read_json_if_whole(file, *_REQUIRED_KEYS)
    if document is None:
        return None
    for key, expected_type in _KEY_TYPES.items():
        if not isinstance(document[key], expected_type):
            print(f"{file} is damaged ({key} is {document[key]!r}); going on without it", file=sys.stderr, flush=True)
            return None
    if not is_own_log(project, document["log"]):
        return None
    return ServiceRecord(**{field.name: document.get(_stored_name(field.name)) for field in fields(ServiceRecord)})


def _stored_name(name: str) -> str:
    return _STORED_NAMES.get(name, name)


def read_service_records(project: Project) -> list[ServiceRecord]:
    """Return the records of all services, sorted by name."""
    records = []
    for file in sorted(services_folder(project).glob("*.json")):
        record = read_service_record(project, file.stem)
        if record is not None:
            records.append(record)
    return records


# ---------------------------------------------------------------- processes


def service_id(project: Project, name: str) -> str:
    """Return the value of AE_SERVICE in the processes of a service."""
    return f"{project.home}:{name}"


def stack_processes(project: Project) -> dict[str, list[psutil.Process]]:
    """Return every living process of the stack by the name of its service, the supervisors among them."""
    processes: dict[str, list[psutil.Process]] = {}
    prefix = service_id(project, "")
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            value = process.environ().get(SERVICE_VARIABLE, "")
            if value.startswith(prefix) and process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
                processes.setdefault(value.removeprefix(prefix), []).append(process)
    return processes


def stop_processes(processes: Iterable[psutil.Process], timeout: float = _STOP_TIMEOUT) -> None:
    """Send SIGTERM, and SIGKILL to those that have not ended after `timeout` seconds.

    psutil checks the start of a process before it signals, so that no other process with the same pid is hit.
    """
    processes = list(processes)
    _send_signal(processes, signal.SIGTERM)
    _, remaining = psutil.wait_procs(processes, timeout=timeout)
    _send_signal(remaining, signal.SIGKILL)
    psutil.wait_procs(remaining, timeout=timeout)


def _send_signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
