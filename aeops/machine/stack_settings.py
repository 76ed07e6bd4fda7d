"""The settings of the local stack, `.ae/stack/settings.json`. The stack runs while that file is there; `ae down` removes it."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ae_models.names import names_of
from aeops.errors import InfrastructureError
from aeops.files import write_json
from aeops.machine.network import ALL_ADDRESSES, HOST, http_address
from aeops.machine.stored_json import read_json, read_json_if_whole
from aeops.project import Project


@dataclass(frozen=True)
class Settings:
    """The options of `ae up`.

    Attributes:
        score_port: of the first scoring service; each further one has the next.
        host: the address to listen at; anything but loopback needs a password.
        password_file: a file whose first line is the password, which itself is stored nowhere.
        request_id: names one `ae up`, so that the supervisor updates the deployments once for each.
    """

    mlflow_port: int = 5000
    prefect_port: int = 4200
    page_port: int = 8080
    score_port: int = 8100
    host: str = HOST
    password_file: str | None = None
    request_id: str = ""

    @property
    def local_host(self) -> str:
        """Host by which this machine's own processes reach what listens at `host`."""
        if self.host in ALL_ADDRESSES:
            return HOST
        return self.host

    def url(self, port: int) -> str:
        return http_address(self.local_host, port)

    @property
    def prefect_api(self) -> str:
        return f"{self.url(self.prefect_port)}/api"


_OLD_FIELDS = {"asked": "request_id"}  # as a stack of an earlier version has stored them
_DROPPED_FIELDS = {"notify", "notify_url"}  # of an earlier version; ae.yaml names the receivers


def settings_file(project: Project) -> Path:
    return project.home / "stack" / "settings.json"


def write_settings(project: Project, settings: Settings) -> None:
    """Store the settings, for their owner alone."""
    write_json(settings_file(project), asdict(settings), mode=0o600)


def read_settings(project: Project) -> Settings | None:
    """Return the settings; None where no stack should run.

    Raises:
        DataError: the file is damaged.
        InfrastructureError: the file has other fields.
    """
    try:
        document = read_json(settings_file(project), "mlflow_port")
    except FileNotFoundError:
        return None
    values = {_OLD_FIELDS.get(name, name): value for name, value in document.items() if name not in _DROPPED_FIELDS}
    if set(values) != set(names_of(fields(Settings))):
        raise InfrastructureError(f"{settings_file(project)} is of another version: type `ae down`, then `ae up`")
    return Settings(**values)


def remove_settings(project: Project) -> None:
    settings_file(project).unlink(missing_ok=True)


# ---------------------------------------------------------------- the last setup of deployments


@dataclass(frozen=True)
class SetupRecord:
    """The last setup of work pool, deployments and automations, `.ae/stack/deployed.json`.

    Attributes:
        request_id: of the settings that it was made for; empty without settings.
        deployments_sha256: SHA-256 of prefect.yaml.
    """

    request_id: str
    deployments_sha256: str


def setup_record_file(project: Project) -> Path:
    return project.home / "stack" / "deployed.json"


def write_setup_record(project: Project, record: SetupRecord) -> None:
    write_json(setup_record_file(project), {"asked": record.request_id, "prefect.yaml": record.deployments_sha256})


def read_setup_record(project: Project) -> SetupRecord | None:
    """Return the record; None where nothing was set up yet, or the file is damaged."""
    document = read_json_if_whole(setup_record_file(project), "asked", "prefect.yaml")
    if document is None:
        return None
    return SetupRecord(document["asked"], document["prefect.yaml"])


def last_setup_request(project: Project) -> str:
    """Return the `request_id` that the last setup was made for; empty where there was none."""
    record = read_setup_record(project)
    if record is None:
        return ""
    return record.request_id
