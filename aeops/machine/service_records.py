"""Records of the services that `ae up` has started, `.ae/services/<name>.json`: their only reader and their only writer."""

import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import psutil

from aeops.files import write_json
from aeops.machine.process_identity import find_process
from aeops.machine.stored_json import read_json_if_whole
from aeops.project import Project


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
_TEXT_OR_NONE = (str, type(None))
_KEY_TYPES: dict[str, type | tuple[type, ...]] = {
    "pid": int,
    "started": (int, float),
    "mark": str,
    "log": str,
    "command": list,
    "address": _TEXT_OR_NONE,
    "health": _TEXT_OR_NONE,
    "api_url": _TEXT_OR_NONE,
}


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
    """Return a service's record; None where there is none, a damaged one, or one of another state folder, which came in a copy.

    Keys that this version does not know are passed over.
    """
    file = service_record_file(project, name)
    document = read_json_if_whole(file, *_REQUIRED_KEYS)
    if document is None:
        return None
    for key, expected_type in _KEY_TYPES.items():
        if not isinstance(document.get(key), expected_type):
            print(f"{file} is damaged ({key} is {document.get(key)!r}); going on without it", file=sys.stderr, flush=True)
            return None
    if Path(document["log"]).parent != project.logs:
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
